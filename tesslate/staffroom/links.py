"""Addresses of staff pages, and of the same thing at Stripe."""

from django.conf import settings
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

STRIPE_DASHBOARD = "https://dashboard.stripe.com"


def page_of(obj: Model) -> str:
    """The admin's page about a row; empty where it has none."""
    if obj._meta.label_lower == "accounts.user":
        return customer_page(obj.pk)
    if obj._meta.label_lower == "accounts.organization":
        return reverse("admin:organization", args=[obj.pk])
    return form_of(obj)


def form_of(obj: Model) -> str:
    """The admin's own form for a row; empty where it has none."""
    meta = obj._meta
    try:
        return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[obj.pk])
    except NoReverseMatch:
        return ""


def list_of(label: str, query: str = "") -> str:
    """The admin's list of a model ("plans.stripeevent"), filtered; empty where it has none."""
    app, model = label.split(".")
    try:
        address = reverse(f"admin:{app}_{model}_changelist")
    except NoReverseMatch:
        return ""
    return f"{address}?{query}" if query else address


def customer_page(user_id: int) -> str:
    return reverse("admin:customer", args=[user_id])


def at_stripe(kind: str, stripe_id: str | None) -> str:
    """Stripe's own page: ``kind`` is customers, subscriptions, events, invoices…"""
    if not stripe_id or settings.STRIPE_API_URL != "https://api.stripe.com":
        return ""
    mode = "" if settings.STRIPE_LIVEMODE else "/test"
    return f"{STRIPE_DASHBOARD}{mode}/{kind}/{stripe_id}"
