"""Customers, subscriptions, grants, checkouts, problems and notices."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from plans.access import MEANINGS
from plans.admin.base import pretty
from plans.errors import StripeError
from plans.grandfathering import CannotMove, move, successor_of
from plans.grants import grant_plan, revoke_grant
from plans.models import (
    BillingNotice,
    BillingProblem,
    Checkout,
    Customer,
    PlanGrant,
    StripeCustomerAlias,
    Subscription,
)
from plans.subscriptions import read_back
from tesslate.lib.adminlists import DaysFilter, RecentValuesFilter
from tesslate.lib.cause import Cause
from tesslate.lib.errors import ApiError
from tesslate.lib.readonlyadmin import ReadOnlyAdmin
from tesslate.lib.staffactions import asks, given_reason, staff_cause

STATUS_COLOURS = {
    "active": "success",
    "trialing": "info",
    "past_due": "warning",
    "unpaid": "danger",
    "incomplete": "warning",
    "paused": "warning",
}


class ReadOnlyInline(TabularInline):  # type: ignore[misc]
    extra = 0
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SubscriptionInline(ReadOnlyInline):
    model = Subscription
    fields = ["stripe_subscription_id", "status", "price", "quantity", "current_period_end"]


class AliasInline(ReadOnlyInline):
    model = StripeCustomerAlias
    fields = ["stripe_customer_id", "kind", "created_at"]
    readonly_fields = ["created_at"]


@admin.register(Customer)
class CustomerAdmin(ReadOnlyAdmin):
    list_display = ["payer", "stripe_customer_id", "created_at"]
    search_fields = [
        "stripe_customer_id",
        "aliases__stripe_customer_id",
        "user__email",
        "organization__name",
    ]
    list_select_related = ["user", "organization"]
    inlines = [SubscriptionInline, AliasInline]

    @admin.display(description="Payer")
    def payer(self, customer: Customer) -> str:
        return str(customer)


@admin.register(Subscription)
class SubscriptionAdmin(ReadOnlyAdmin):
    list_display = [
        "stripe_subscription_id",
        "customer",
        "shown_status",
        "price",
        "quantity",
        "current_period_end",
        "past_due_since",
        "read_at",
    ]
    list_filter = [
        ("status", RecentValuesFilter),
        "price__plan",
        "cancel_at_period_end",
        "collection_paused",
        ("current_period_end", DaysFilter),
    ]
    search_fields = [
        "stripe_subscription_id",
        "stripe_price_id",
        "customer__stripe_customer_id",
        "customer__user__email",
        "customer__organization__name",
    ]
    list_select_related = ["customer__user", "customer__organization", "price__plan"]
    actions = ["read_again", "move_to_price_on_sale"]
    exclude = ["snapshot", "pending_change"]
    readonly_fields = ["meaning", "change_to_come", "as_last_read"]

    @display(label=STATUS_COLOURS, ordering="status", description="Status")  # type: ignore[untyped-decorator]
    def shown_status(self, subscription: Subscription) -> str:
        return subscription.status

    @admin.display(description="What the status means")
    def meaning(self, subscription: Subscription) -> str:
        return MEANINGS.get(subscription.status, "Not a status we know: the last one holds.")

    @admin.display(description="Change to come")
    def change_to_come(self, subscription: Subscription) -> SafeString | str:
        return pretty(subscription.pending_change) if subscription.pending_change else "None"

    @admin.display(description="At Stripe, as last read")
    def as_last_read(self, subscription: Subscription) -> SafeString:
        return pretty(subscription.snapshot)

    @admin.action(description="Read again from Stripe", permissions=["act"])
    @asks("Reads each subscription's present state from Stripe.", reaches_out=True)
    def read_again(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        cause: Cause = staff_cause(request)
        for subscription in queryset:
            try:
                with transaction.atomic():
                    reading = read_back(subscription.stripe_subscription_id, cause=cause)
            except StripeError as error:
                messages.error(request, f"{subscription.stripe_subscription_id}: {error}")
            else:
                messages.success(
                    request, f"{subscription.stripe_subscription_id}: {reading.outcome}"
                )

    @admin.action(description="Move to the price on sale", permissions=["act"])
    @asks(
        "Whoever has an old price pays the one that replaced it, from the next renewal on.",
        reason=True,
        reaches_out=True,
    )
    def move_to_price_on_sale(self, request: HttpRequest, queryset: QuerySet[Subscription]) -> None:
        cause, reason = staff_cause(request), given_reason(request)
        for subscription in queryset.select_related("price__plan", "customer"):
            try:
                if subscription.price is None:
                    raise CannotMove("Its price is not mapped.")
                new = successor_of(subscription.price)
                move(subscription, new=new, cause=cause, reason=reason)
            except (CannotMove, StripeError) as error:
                messages.error(request, f"{subscription.stripe_subscription_id}: {error}")
            else:
                messages.success(request, f"{subscription.stripe_subscription_id}: pays {new}.")


class GrantForm(forms.ModelForm[PlanGrant]):
    class Meta:
        model = PlanGrant
        fields = ("user", "organization", "plan", "ends_at", "reason")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if bool(cleaned.get("user")) == bool(cleaned.get("organization")):
            raise forms.ValidationError("Choose one user or one organization.")
        ends_at, plan = cleaned.get("ends_at"), cleaned.get("plan")
        if ends_at is not None and ends_at <= timezone.now():
            self.add_error("ends_at", "The end lies in the past.")
        if plan is not None and plan.archived_at is not None:
            self.add_error("plan", "This plan is archived.")
        return cleaned


@admin.register(PlanGrant)
class PlanGrantAdmin(ModelAdmin):  # type: ignore[misc]
    """Grants are given and revoked, never edited: what was given stays on record."""

    form = GrantForm
    list_display = ["plan", "receiver", "starts_at", "ends_at", "revoked_at", "granted_by"]
    list_filter = [
        "plan",
        ("revoked_at", admin.EmptyFieldListFilter),
        ("starts_at", DaysFilter),
        ("ends_at", DaysFilter),
    ]
    search_fields = ["user__email", "organization__name", "reason"]
    list_select_related = ["plan", "user", "organization", "granted_by"]
    raw_id_fields = ["user", "organization"]
    actions = ["revoke"]

    @admin.display(description="For")
    def receiver(self, grant: PlanGrant) -> str:
        return str(grant.user or grant.organization)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_act_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("plans.change_plangrant"))

    def save_model(self, request: HttpRequest, obj: PlanGrant, form: Any, change: bool) -> None:
        made = grant_plan(
            user=obj.user,
            organization=obj.organization,
            plan=obj.plan,
            ends_at=obj.ends_at,
            reason=obj.reason,
            cause=staff_cause(request),
        )
        obj.pk = made.pk
        obj._state.adding = False

    @admin.action(description="Revoke", permissions=["act"])
    @asks("The grants end now; who had them falls back to what they pay for.", reason=True)
    def revoke(self, request: HttpRequest, queryset: QuerySet[PlanGrant]) -> None:
        cause = staff_cause(request)
        try:
            count = sum(
                revoke_grant(grant=grant, reason=given_reason(request), cause=cause)
                for grant in queryset
            )
        except ApiError as error:
            messages.error(request, error.message)
        else:
            messages.success(request, f"{count} revoked.")


@admin.register(Checkout)
class CheckoutAdmin(ReadOnlyAdmin):
    list_display = ["customer", "price", "quantity", "state", "created_at", "expires_at"]
    list_filter = ["state", "price__plan", ("created_at", DaysFilter)]
    search_fields = ["stripe_session_id", "customer__user__email", "customer__organization__name"]
    list_select_related = ["customer__user", "customer__organization", "price__plan"]
    # Whoever holds the address can pay: staff need not.
    exclude = ["url"]


@admin.register(BillingProblem)
class BillingProblemAdmin(ReadOnlyAdmin):
    list_display = [
        "kind",
        "subject",
        "summary",
        "customer",
        "occurrences",
        "first_seen_at",
        "last_seen_at",
        "resolved_at",
    ]
    list_filter = [
        "kind",
        ("resolved_at", admin.EmptyFieldListFilter),
        ("last_seen_at", DaysFilter),
    ]
    search_fields = ["subject", "summary", "customer__user__email"]
    list_select_related = ["customer__user", "customer__organization"]
    actions = ["resolve"]

    @admin.action(description="Mark as resolved", permissions=["act"])
    def resolve(self, request: HttpRequest, queryset: QuerySet[BillingProblem]) -> None:
        ids = list(queryset.values_list("pk", flat=True))
        count = BillingProblem.objects.filter(pk__in=ids, resolved_at=None).update(
            resolved_at=timezone.now()
        )
        messages.success(request, f"{count} resolved. If the cause is still there, it comes back.")


@admin.register(BillingNotice)
class BillingNoticeAdmin(ReadOnlyAdmin):
    list_display = ["customer", "kind", "subject", "created_at", "sent_at", "attempts"]
    list_filter = ["kind", ("sent_at", admin.EmptyFieldListFilter), ("created_at", DaysFilter)]
    search_fields = ["subject", "customer__user__email"]
    list_select_related = ["customer__user", "customer__organization"]
