"""The site's pages. They hold no secret and change nothing: scripts call the public API."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from chatproxy.selectors import usage_in_period
from plans.selectors import current_entitlement
from tesslate.site.account import account_page, budget, own_subscription, percent
from tesslate.site.back_from_stripe import back_from_stripe
from tesslate.site.picker import model_groups, plan_names
from tesslate.site.pricing import MONTH, YEAR, price_list

SIGNED_OUT_ONLY = "site:playground"


def _user(request: HttpRequest) -> User | None:
    return None if isinstance(request.user, AnonymousUser) else request.user


@require_safe
def pricing(request: HttpRequest) -> HttpResponse:
    user = _user(request)
    prices = price_list(current_plan=None if user is None else current_entitlement(user).plan)
    wanted = request.GET.get("buy", "")
    interval = next(
        (
            interval
            for offer in prices.offers
            for interval, terms in offer.terms.items()
            if wanted and terms.price_id == wanted
        ),
        YEAR if request.GET.get("interval") == YEAR else MONTH,
    )
    return render(
        request,
        "site/pricing.html",
        {
            "offers": prices.offers,
            "matrix": prices.matrix,
            "has_yearly": prices.has_yearly,
            "yearly_saving": prices.yearly_saving,
            # Whoever pays already changes the plan in the portal: nobody wants two subscriptions.
            "is_paying": user is not None and own_subscription(user) is not None,
            "canceled": request.GET.get("checkout") == "canceled",
            "config": {"interval": interval, "buy": wanted},
        },
    )


def _next_page(request: HttpRequest) -> str:
    """Where to go after signing in: a path of this site, whatever the address says."""
    wanted = request.GET.get("next", "")
    is_ours = wanted.startswith("/") and url_has_allowed_host_and_scheme(
        wanted, allowed_hosts=None, require_https=request.is_secure()
    )
    return wanted if is_ours else reverse(SIGNED_OUT_ONLY)


def _sign_in_page(request: HttpRequest, **context: Any) -> HttpResponse:
    next_page = _next_page(request)
    config = {
        "firebase_url": settings.FIREBASE_AUTH_URL,
        # Public by nature: it names the project, it grants nothing.
        "firebase_api_key": settings.FIREBASE_API_KEY,
        "next": next_page,
        "oob_code": request.GET.get("oobCode", ""),
    }
    next_query = "?" + urlencode({"next": next_page}) if "next" in request.GET else ""
    return render(
        request, "site/sign_in.html", {"config": config, "next_query": next_query, **context}
    )


@never_cache
@require_safe
def sign_in(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect(_next_page(request))
    return _sign_in_page(
        request,
        title="Sign in",
        action="sign-in",
        submit="Sign in",
        fields=["email", "password"],
        notice=_sign_in_notice(request),
    )


def _sign_in_notice(request: HttpRequest) -> str:
    if request.GET.get("reset") == "done":
        return "Your password is changed. Sign in with the new one."
    if request.GET.get("verified") == "done":
        return "Your e-mail address is confirmed. Sign in to go on."
    if "expired" in request.GET:
        return "Your session has ended. Sign in again to go on where you were."
    return ""


@never_cache
@require_safe
def sign_up(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect(_next_page(request))
    return _sign_in_page(
        request,
        title="Make an account",
        lead="Free to start. No card needed.",
        action="sign-up",
        submit="Make an account",
        fields=["email", "password"],
    )


@never_cache
@require_safe
def reset_password(request: HttpRequest) -> HttpResponse:
    """Ask for a link, or, arriving through one (``oobCode``), choose a new password.

    Firebase knows one address for all its mailed links, and says in ``mode`` what each is for.
    """
    if request.GET.get("mode") == "verifyEmail":
        return _verify_email(request)
    if request.GET.get("oobCode"):
        return _sign_in_page(
            request,
            title="Choose a new password",
            action="reset-confirm",
            submit="Change the password",
            fields=["password"],
        )
    return _sign_in_page(
        request,
        title="Reset your password",
        lead="We send a link to your e-mail address.",
        action="reset-request",
        submit="Send the link",
        fields=["email"],
    )


def _verify_email(request: HttpRequest) -> HttpResponse:
    """A button, for programs that look at mails follow their links: the code works once."""
    return _sign_in_page(
        request,
        title="Confirm your address",
        lead="One click, and we know that this e-mail address is yours.",
        action="verify-email",
        submit="Confirm it",
        fields=[],
    )


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("site:pricing")


@never_cache
@require_safe
@login_required
def account(request: HttpRequest) -> HttpResponse:
    page = account_page(_signed_in(request))
    return render(
        request,
        "site/account.html",
        {
            "page": page,
            "api_base": f"{settings.PUBLIC_URL}/api/proxy/v1",
            "config": back_from_stripe(request, page.billing),
        },
    )


STARTERS = (
    "Explain rate limits to a five-year-old",
    "Write a haiku about streaming",
    "Compare REST and gRPC in a short list",
    "Write a Python function that reverses words",
)


@never_cache
@require_safe
@login_required
def playground(request: HttpRequest) -> HttpResponse:
    user = _signed_in(request)
    entitlement = current_entitlement(user)
    plan = entitlement.plan
    groups = model_groups(plan)
    spent = usage_in_period(user, entitlement.period_start, timezone.now())
    allowed = budget(entitlement)
    return render(
        request,
        "site/playground.html",
        {
            "plan": plan,
            "groups": groups,
            "selected": groups[0].models[0].name if groups else "",
            "starters": STARTERS,
            "spent": spent,
            "budget": allowed,
            "budget_percent": percent(spent.cost, allowed),
            "period_end": entitlement.period_end,
            "config": {
                "owner": str(user.pk),
                "budget": float(allowed),
                "planNames": plan_names(),
            },
        },
    )


def not_found(request: HttpRequest) -> HttpResponse:
    return render(request, "404.html", status=404)


def _signed_in(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
