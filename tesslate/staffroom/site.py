"""The admin site: second factor at the door, every change in the audit trail, our own pages."""

from collections.abc import Iterable
from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver
from unfold.sites import UnfoldAdminSite

from tesslate.lib.adminlists import EstimatingPaginator
from tesslate.staffroom.audit import Audited
from tesslate.staffroom.lists import export_csv


class StaffSite(UnfoldAdminSite):  # type: ignore[misc]  # Unfold ships no types
    enable_nav_sidebar = True
    login_template = "staffroom/login.html"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.add_action(export_csv)

    def has_permission(self, request: HttpRequest) -> bool:
        """Active staff, and past the second factor where they have one or must have one."""
        from tesslate.staffroom.two_factor import missing_step

        return bool(super().has_permission(request)) and missing_step(request) is None

    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        from tesslate.staffroom.two_factor import redirect_to_missing_step

        return redirect_to_missing_step(request) or super().login(request, extra_context)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        from tesslate.staffroom import urls

        return [*urls.patterns(self), *super().get_urls()]

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        admin_class: type[ModelAdmin[Any]] | None = None,
        **options: Any,
    ) -> None:
        """Whatever an app registers is audited, and no list of it counts millions of rows."""
        base = admin_class or ModelAdmin
        members: dict[str, Any] = {"__module__": base.__module__}
        if base.paginator is Paginator:
            members["paginator"] = EstimatingPaginator
        audited = type(base.__name__, (Audited, base), members)
        super().register(model_or_iterable, audited, **options)
