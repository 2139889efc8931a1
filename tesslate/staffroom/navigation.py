"""Unfold's configuration: what the admin is called, how it looks, what its sidebar holds.

Read by the settings, so nothing here may import a model.
"""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse, reverse_lazy

# The site's indigo.
PRIMARY = {
    "50": "#eef2ff",
    "100": "#e0e7ff",
    "200": "#c7d2fe",
    "300": "#a5b4fc",
    "400": "#a4a5ff",
    "500": "#8b8cff",
    "600": "#4f46e5",
    "700": "#4038c7",
    "800": "#3730a3",
    "900": "#312e81",
    "950": "#1e1b4b",
}


def unfold_settings(*, environment: str) -> dict[str, Any]:
    """``environment`` is what the badge in the corner says: where am I?"""
    return {
        "SITE_TITLE": "Tesslate staff",
        "SITE_HEADER": "Tesslate",
        "SITE_SUBHEADER": "Staff",
        "SITE_SYMBOL": "grid_view",
        "SITE_URL": "/",
        "SITE_FAVICONS": [
            {
                "rel": "icon",
                "type": "image/svg+xml",
                "href": lambda request: static("site/favicon.svg"),
            }
        ],
        "STYLES": [lambda request: static("staffroom/staffroom.css")],
        "SCRIPTS": [lambda request: static("staffroom/staffroom.js")],
        "COLORS": {"primary": PRIMARY},
        "BORDER_RADIUS": "6px",
        "ENVIRONMENT": lambda request: [
            environment,
            "danger" if environment == "production" else "info",
        ],
        "DASHBOARD_CALLBACK": "tesslate.staffroom.home.dashboard",
        "SHOW_HISTORY": True,
        "SHOW_VIEW_ON_SITE": False,
        "COMMAND": {
            "search_models": False,
            "search_callback": "tesslate.staffroom.search.search_callback",
        },
        "SIDEBAR": {
            "show_search": True,
            "command_search": True,
            "show_all_applications": False,
            "navigation": sidebar,
        },
        "ACCOUNT": {
            "navigation": [
                {"title": "Sign-in and security", "link": reverse_lazy("admin:security")},
                {"title": "Change password", "link": reverse_lazy("admin:password_change")},
            ]
        },
    }


# Sections by task, then (title, icon, model) for each list. A page of our own stands behind an @,
# after the model that one must be allowed to see.
SECTIONS: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Customers",
        (
            ("Customers", "group", "accounts.user"),
            ("Organizations", "domain", "accounts.organization"),
            ("Grants", "redeem", "plans.plangrant"),
            ("Throttles", "speed", "plans.throttle"),
        ),
    ),
    (
        "Billing",
        (
            ("Subscriptions", "autorenew", "plans.subscription"),
            ("Stripe events", "inbox", "plans.stripeevent"),
            ("Problems", "report", "plans.billingproblem"),
            ("Comparisons with Stripe", "balance", "plans.billingreconciliation"),
            ("Checkouts", "shopping_cart", "plans.checkout"),
        ),
    ),
    (
        "Catalogue",
        (
            ("Plans", "layers", "plans.plan"),
            ("Models", "neurology", "plans.gatewaymodel"),
            ("Prices", "sell", "plans.price"),
            ("Rollouts", "publish", "llmkeys.rollout"),
            ("Prompts", "edit_note", "chatproxy.systemprompt"),
        ),
    ),
    (
        "Gateway",
        (
            ("Keys", "key", "llmkeys.virtualkey"),
            ("Plans at the gateway", "hub", "llmkeys.planatgateway"),
            ("Key history", "history", "llmkeys.keyevent"),
            ("Kill switches", "emergency_home", "llmkeys.killswitch"),
            ("Gateway state", "monitor_heart", "llmkeys.gatewaystate"),
            ("Drift audits", "difference", "llmkeys.auditrun"),
            ("Drift found", "troubleshoot", "llmkeys.auditfinding"),
            ("Trusted keys", "verified_user", "llmkeys.trustedkey"),
        ),
    ),
    (
        "Traffic",
        (("Requests", "forum", "chatproxy.chatrequest"),),
    ),
    (
        "Usage and money",
        (
            ("Margin", "monitoring", "plans.revenueitem@margin"),
            ("What if", "psychology_alt", "plans.revenueitem@what-if"),
            ("Gateway and ledger", "balance", "chatproxy.usagecheck@usage-differences"),
            ("Usage entries", "receipt_long", "llmkeys.usageentry"),
            ("Invoices", "request_quote", "plans.revenueinvoice"),
            ("Budgets", "savings", "llmkeys.spendbudget"),
            ("Budget notices", "notifications", "llmkeys.budgetnotice"),
            ("Overage", "trending_up", "plans.overagewindow"),
            ("Overage reports", "outbox", "plans.overagereport"),
            ("Exchange rates", "currency_exchange", "plans.exchangerate"),
            ("Import", "sync", "llmkeys.usageimport"),
        ),
    ),
    (
        "Staff",
        (
            ("API tokens", "vpn_key", "accounts.apitoken"),
            ("Audit log", "fact_check", "accounts.auditentry"),
            ("Roles", "shield_person", "auth.group"),
        ),
    ),
)


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Only what exists and what this member of staff may see."""
    home = {
        "items": [
            {"title": "Home", "icon": "home", "link": reverse("admin:index")},
            {"title": "Plan matrix", "icon": "grid_on", "link": reverse("admin:plan-matrix")},
            {"title": "Background work", "icon": "pending_actions", "link": reverse("admin:jobs")},
        ]
    }
    sections: list[dict[str, Any]] = [home]
    for title, entries in SECTIONS:
        items = [
            {"title": name, "icon": icon, "link": link, "permission": _may_view(label)}
            for name, icon, label in entries
            if (link := _list_page(label)) is not None
        ]
        if items:
            sections.append({"title": title, "separator": True, "items": items})
    return sections


def _list_page(label: str) -> str | None:
    app, model = label.split("@")[0].split(".")
    page = label.partition("@")[2] or f"{app}_{model}_changelist"
    try:
        return reverse(f"admin:{page}")
    except NoReverseMatch:
        return None


def _may_view(label: str) -> Callable[[HttpRequest], bool]:
    app, model = label.split("@")[0].split(".")

    def allowed(request: HttpRequest) -> bool:
        return request.user.has_perm(f"{app}.view_{model}")

    return allowed
