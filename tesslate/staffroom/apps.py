from typing import Any

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class StaffAdminConfig(AdminConfig):
    """Django's admin, with our site as the one that apps register with."""

    default_site = "tesslate.staffroom.site.StaffSite"


class StaffroomConfig(AppConfig):
    """Last in INSTALLED_APPS: when its turn comes after a migration, every permission exists."""

    name = "tesslate.staffroom"
    verbose_name = "Staff"

    def ready(self) -> None:
        from tesslate.staffroom import receivers  # noqa: F401 - connects them

        post_migrate.connect(_seed_roles, sender=self)


def _seed_roles(**kwargs: Any) -> None:
    from tesslate.staffroom.roles import seed_roles

    seed_roles()
