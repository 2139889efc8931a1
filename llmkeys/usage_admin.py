"""Usage as staff see it: entries to read, credits to give."""

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget

from llmkeys.models import BudgetNotice, SpendBudget, UsageEntry, UsageImport
from llmkeys.usage_books import LARGEST_CREDIT, credit_usage
from plans.selectors import current_entitlement
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import staff_cause


class CreditForm(forms.ModelForm[UsageEntry]):
    """Usage given back to a customer, in the budget window that runs now."""

    credited = forms.DecimalField(
        label="Credit (US dollars)",
        min_value=Decimal("0.01"),
        max_value=LARGEST_CREDIT,
        decimal_places=2,
        widget=UnfoldAdminDecimalFieldWidget,
    )
    reason = forms.CharField(max_length=500, widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = UsageEntry
        fields = ("user", "credited", "reason")


@admin.register(UsageEntry)
class UsageEntryAdmin(ModelAdmin):  # type: ignore[misc]
    """Adding one is giving a credit; nothing is ever edited or deleted."""

    list_display = [
        "started_at",
        "source",
        "user",
        "plan_code",
        "model",
        "provider",
        "tokens",
        "cost",
        "credited",
        "note",
    ]
    list_filter = [
        "source",
        "is_unpriced",
        "failed",
        ("user", admin.EmptyFieldListFilter),
        "plan_code",
        "provider",
    ]
    list_select_related = ["user"]
    search_fields = ["=external_id", "=call_id", "=user__email"]
    search_help_text = "A request or call id, or a user's e-mail address, in full."
    ordering = ["-started_at", "-id"]
    autocomplete_fields = ["user"]
    # Counting millions of rows would take longer than reading a page of them.
    paginator = InfinitePaginator
    show_full_result_count = False
    list_per_page = 50

    @admin.display(description="Tokens")
    def tokens(self, entry: UsageEntry) -> str:
        return f"{entry.prompt_tokens + entry.completion_tokens:,}"

    @admin.display(description="Note")
    def note(self, entry: UsageEntry) -> str:
        if entry.is_unpriced:
            return "no price at the gateway"
        if entry.failed:
            return f"failed {entry.error_code}".strip()
        return entry.reason

    def get_form(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = CreditForm
        return super().get_form(request, obj, **kwargs)

    def get_fields(self, request: HttpRequest, obj: UsageEntry | None = None) -> list[str]:
        if obj is None:
            return ["user", "credited", "reason"]
        return [field.name for field in UsageEntry._meta.fields if field.name != "id"]

    def save_model(self, request: HttpRequest, obj: UsageEntry, form: Any, change: bool) -> None:
        assert obj.user is not None
        entitlement = current_entitlement(obj.user)
        entry = credit_usage(
            user=obj.user,
            amount=form.cleaned_data["credited"],
            reason=form.cleaned_data["reason"],
            cause=staff_cause(request),
            at=timezone.now(),
            plan_code=entitlement.plan.code,
        )
        obj.pk = entry.pk

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(UsageImport)
class UsageImportAdmin(ReadOnlyAdmin):
    list_display = [
        "gateway_url",
        "read_until",
        "succeeded_at",
        "rows_read",
        "rows_added",
        "rows_unreadable",
        "last_error",
    ]


@admin.register(SpendBudget)
class SpendBudgetAdmin(ReadOnlyAdmin):
    """Customers set them; staff look."""

    list_display = ["user", "organization", "amount", "is_hard", "webhook_url", "created_at"]
    list_filter = ["is_hard"]
    list_select_related = ["user", "organization"]
    search_fields = ["=user__email", "organization__name"]
    exclude = ["webhook_secret"]


@admin.register(BudgetNotice)
class BudgetNoticeAdmin(ReadOnlyAdmin):
    list_display = ["budget", "percent", "channel", "spent", "created_at", "sent_at", "last_error"]
    list_filter = ["channel", "percent", ("sent_at", admin.EmptyFieldListFilter)]
    list_select_related = ["budget__user", "budget__organization"]
