from django.apps import AppConfig


class PlansConfig(AppConfig):
    name = "plans"
    verbose_name = "Plans and billing"

    def ready(self) -> None:
        from plans import checks, receivers  # noqa: F401 - importing registers the receivers

        checks.register_all()
