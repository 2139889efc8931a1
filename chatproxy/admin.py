"""Staff write prompts and read the ledger."""

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from unfold.admin import ModelAdmin
from unfold.decorators import display

from accounts.models import User
from chatproxy.models import ChatRequest
from chatproxy.prompt_admin import SystemPromptAdmin
from chatproxy.selectors import find_request
from tesslate.lib.adminlists import DaysFilter, RecentValuesFilter

__all__ = ["ChatRequestAdmin", "SystemPromptAdmin"]

OUTCOME_COLOURS = {
    ChatRequest.Outcome.COMPLETED: "success",
    ChatRequest.Outcome.REFUSED: "warning",
    ChatRequest.Outcome.FAILED: "danger",
    ChatRequest.Outcome.BROKEN: "danger",
}


@admin.register(ChatRequest)
class ChatRequestAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = (
        "started_at",
        "user",
        "model",
        "plan_code",
        "shown_outcome",
        "status",
        "error_code",
        "tokens",
        "cost",
        "ttfb_ms",
        "duration_ms",
    )
    list_filter = (
        ("started_at", DaysFilter),
        "outcome",
        ("model", RecentValuesFilter),
        ("plan_code", RecentValuesFilter),
        ("error_code", RecentValuesFilter),
        "client",
        "is_estimated",
    )
    list_select_related = ("user",)
    search_fields = ("id",)
    search_help_text = "A request id (req_…) or a user's e-mail address, in full."
    ordering = ("-started_at",)
    list_per_page = 50
    readonly_fields = ("public_id", "decision_text")
    exclude = ("id", "decision")

    @display(label=OUTCOME_COLOURS, ordering="outcome", description="Outcome")  # type: ignore[untyped-decorator]
    def shown_outcome(self, row: ChatRequest) -> tuple[str, str]:
        return row.outcome, row.get_outcome_display()

    @admin.display(description="Tokens")
    def tokens(self, row: ChatRequest) -> str:
        return f"{row.total_tokens}{' (est.)' if row.is_estimated else ''}"

    @admin.display(description="Request id")
    def public_id(self, row: ChatRequest) -> str:
        return row.public_id

    @admin.display(description="Decision")
    def decision_text(self, row: ChatRequest) -> str:
        return format_html("<pre>{}</pre>", json.dumps(row.decision, indent=2))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ChatRequest], search_term: str
    ) -> tuple[QuerySet[ChatRequest], bool]:
        term = search_term.strip()
        if not term:
            return queryset, False
        if "@" in term:
            user = User.objects.filter(email=term.lower()).first()
            return (queryset.filter(user=user) if user else queryset.none()), False
        found = find_request(term)
        if found is None:
            return queryset.none(), False
        return queryset.filter(pk=found.pk, started_at=found.started_at), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
