"""Plans, models and prices: the only rows of this app that staff edit by hand."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from plans.catalogue import announce_model_edit, announce_plan_edit, retire_default
from plans.models import GatewayModel, Plan, Price
from tesslate.lib.staffactions import staff_cause


class PlanForm(forms.ModelForm[Plan]):
    """Carries the version it was opened with, so that nobody saves over another's change."""

    version = forms.IntegerField(widget=forms.HiddenInput, required=False)

    class Meta:
        model = Plan
        fields = (
            "code",
            "name",
            "description",
            "rank",
            "is_default",
            "is_public",
            "archived_at",
            "gateway_models",
            "rpm",
            "tpm",
            "max_parallel_requests",
            "budget_cents",
            "max_keys",
            "grace_days",
            "grace_limit_percent",
            "trial_days",
            "default_max_tokens",
            "max_tokens_ceiling",
            "default_temperature",
            "temperature_ceiling",
            "client_system_messages",
            "abort_billing",
            "stores_content",
            "version",
        )
        # A dozen models at most: all in sight, and no wider than the page.
        widgets: ClassVar = {"gateway_models": UnfoldAdminCheckboxSelectMultipleWidget}

    def clean_version(self) -> int:
        opened = self.cleaned_data.get("version")
        if self.instance._state.adding:
            return 1
        now: int = Plan.objects.values_list("version", flat=True).get(pk=self.instance.pk)
        if opened != now:
            raise ValidationError("Somebody changed this plan meanwhile. Reload it and try again.")
        return now

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("is_default") and cleaned.get("archived_at"):
            raise ValidationError("The default plan cannot be archived.")
        others = Plan.objects.filter(is_default=True).exclude(pk=self.instance.pk)
        if not cleaned.get("is_default") and not others.exists():
            raise ValidationError("Everyone needs a default plan: make another one default first.")
        return cleaned

    def _get_validation_exclusions(self) -> set[str]:
        """That there is one default is seen to when it is saved: the present one steps down."""
        exclusions: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return exclusions | {"is_default"}


class PriceInline(TabularInline):  # type: ignore[misc]
    model = Price
    extra = 0
    can_delete = False
    fields = ["interval", "unit_amount", "currency", "lookup_key", "stripe_price_id", "archived_at"]
    readonly_fields = ["stripe_price_id"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A price never changes: a new amount is a new price, the old one is archived."""
        return False


@admin.register(Plan)
class PlanAdmin(ModelAdmin):  # type: ignore[misc]
    form = PlanForm
    list_display = ["name", "code", "rank", "rpm", "tpm", "budget_cents", "holders", "is_public"]
    list_filter = ["is_public", "is_default", ("archived_at", admin.EmptyFieldListFilter)]
    search_fields = ["name", "code", "stripe_product_id"]
    readonly_fields = ["stripe_product_id"]
    fieldsets = [
        (
            None,
            {"fields": ["code", "name", "description", "gateway_models", "version"]},
        ),
        (
            "Limits",
            {"fields": ["rpm", "tpm", "max_parallel_requests", "budget_cents", "max_keys"]},
        ),
        ("Paid overage", {"fields": ["overage_allowed", "overage_markup_percent"]}),
        (
            "On the price list",
            {"fields": ["rank", "is_default", "is_public", "archived_at", "stripe_product_id"]},
        ),
        (
            "Payment trouble and trials",
            {"fields": ["grace_days", "grace_limit_percent", "trial_days"]},
        ),
        (
            "Chat",
            {
                "fields": [
                    "default_max_tokens",
                    "max_tokens_ceiling",
                    "default_temperature",
                    "temperature_ceiling",
                    "client_system_messages",
                    "abort_billing",
                    "stores_content",
                ]
            },
        ),
    ]
    inlines = [PriceInline]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        plans: QuerySet[Plan] = super().get_queryset(request)
        return plans.annotate(holder_count=Count("entitlements"))

    @admin.display(description="Holders", ordering="holder_count")
    def holders(self, plan: Any) -> int:
        count: int = plan.holder_count
        return count

    def has_delete_permission(self, request: HttpRequest, obj: Plan | None = None) -> bool:
        """Plans are archived: subscriptions, grants and history point at them (B34)."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Plan | None = None) -> list[str]:
        fixed: list[str] = list(super().get_readonly_fields(request, obj))
        # Keys, Stripe's metadata and the gateway's groups are named after the code.
        return fixed if obj is None else [*fixed, "code"]

    def save_model(self, request: HttpRequest, obj: Plan, form: Any, change: bool) -> None:
        if obj.is_default and "is_default" in form.changed_data:
            former = retire_default(in_favour_of=obj, cause=staff_cause(request))
            if former is not None:
                text = f"{obj} is the default plan now, for everyone without another; {former} was."
                messages.warning(request, text)
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        announce_plan_edit(
            plan=form.instance, changed=list(form.changed_data), cause=staff_cause(request)
        )


@admin.register(GatewayModel)
class GatewayModelAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = ["name", "title", "provider", "context_window", "is_available"]
    list_filter = ["provider", ("disabled_at", admin.EmptyFieldListFilter)]
    search_fields = ["name", "title", "provider"]

    @admin.display(boolean=True, description="Available")
    def is_available(self, model: GatewayModel) -> bool:
        return model.disabled_at is None

    def save_model(self, request: HttpRequest, obj: GatewayModel, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        announce_model_edit(model=obj, cause=staff_cause(request))

    def has_delete_permission(self, request: HttpRequest, obj: GatewayModel | None = None) -> bool:
        """Models are disabled: plans and the ledger name them."""
        return False


@admin.register(Price)
class PriceAdmin(ModelAdmin):  # type: ignore[misc]
    list_display = [
        "plan",
        "interval",
        "unit_amount",
        "currency",
        "stripe_price_id",
        "payers",
        "archived_at",
    ]
    list_filter = ["plan", "interval", ("archived_at", admin.EmptyFieldListFilter)]
    search_fields = ["stripe_price_id", "lookup_key", "plan__name"]
    list_select_related = ["plan"]
    actions = ["archive"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Price]:
        prices: QuerySet[Price] = super().get_queryset(request)
        live = ~Q(subscriptions__status__in=["canceled", "incomplete_expired"])
        return prices.annotate(payer_count=Count("subscriptions", filter=live))

    @admin.display(description="Payers", ordering="payer_count")
    def payers(self, price: Any) -> int:
        count: int = price.payer_count
        return count

    def get_readonly_fields(self, request: HttpRequest, obj: Price | None = None) -> list[str]:
        if obj is None:
            return ["stripe_price_id"]
        return [field.name for field in Price._meta.fields if field.name != "archived_at"]

    def has_delete_permission(self, request: HttpRequest, obj: Price | None = None) -> bool:
        """Prices are archived: whoever has one keeps it."""
        return False

    @admin.action(description="Archive (sold no more; payers keep it)", permissions=["change"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Price]) -> None:
        count = Price.objects.filter(
            pk__in=list(queryset.values_list("pk", flat=True)), archived_at=None
        ).update(archived_at=timezone.now())
        messages.success(request, f"{count} archived. Publish the plans to archive them at Stripe.")
