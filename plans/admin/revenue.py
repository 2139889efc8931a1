"""Invoices as far as margins need them, and the rates that make other currencies dollars."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from plans import revenue
from plans.models import ExchangeRate, RevenueInvoice, RevenueItem
from tesslate.lib.currencies import decimals, major
from tesslate.lib.readonlyadmin import ReadOnlyAdmin


class ItemInline(TabularInline):  # type: ignore[misc]
    model = RevenueItem
    fields = readonly_fields = ("kind", "plan", "net_amount", "revenue", "starts_on", "ends_on")
    extra = 0
    can_delete = False

    @admin.display(description="Net")
    def net_amount(self, item: RevenueItem) -> str:
        return f"{major(item.net, item.currency):,.{decimals(item.currency)}f} {item.currency}"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(RevenueInvoice)
class RevenueInvoiceAdmin(ReadOnlyAdmin):
    list_display = [
        "stripe_invoice_id",
        "customer",
        "status",
        "amount",
        "paid_at",
        "fee",
        "fx_rate",
        "is_provisional",
        "read_at",
        "last_error",
    ]
    list_filter = ["status", "is_provisional", "fx_source", "currency"]
    list_select_related = ["customer__user", "customer__organization"]
    search_fields = ["=stripe_invoice_id", "=stripe_customer_id", "=customer__user__email"]
    inlines = [ItemInline]
    actions = ["read_again"]

    @admin.display(description="Total")
    def amount(self, invoice: RevenueInvoice) -> str:
        if not invoice.currency:
            return ""
        digits = decimals(invoice.currency)
        return f"{major(invoice.total, invoice.currency):,.{digits}f} {invoice.currency}"

    @admin.action(description="Read again from Stripe", permissions=["act"])
    def read_again(self, request: HttpRequest, queryset: QuerySet[RevenueInvoice]) -> None:
        found = list(queryset.values_list("stripe_invoice_id", flat=True))
        revenue.note_invoices(found)
        self.message_user(request, f"{len(found)} invoices are read again in a moment.")


class ExchangeRateForm(forms.ModelForm[ExchangeRate]):
    def clean_currency(self) -> str:
        """As Stripe writes it, before it is held to be the day's only one."""
        return str(self.cleaned_data["currency"]).lower()


@admin.register(ExchangeRate)
class ExchangeRateAdmin(ModelAdmin):  # type: ignore[misc]
    """For money that Stripe does not exchange for us. A rate holds until the next one."""

    form = ExchangeRateForm
    list_display = ["currency", "day", "rate"]
    list_filter = ["currency"]

    def save_model(self, request: HttpRequest, obj: ExchangeRate, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        revenue.note_unconverted(obj.currency)
