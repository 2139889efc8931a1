"""Pages about one's own sign-in: second factor and sessions."""

from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from accounts.sessions import end_other_sessions, end_session, sessions_of
from tesslate.lib.staffactions import staff_cause
from tesslate.staffroom import two_factor

WRONG_CODE = "This code is not right, or was used already. Wait for the next one and try again."


def _staff(request: HttpRequest) -> User | None:
    user = request.user
    if isinstance(user, AnonymousUser) or not (user.is_active and user.is_staff):
        return None
    return user


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    site = admin.site.each_context(request)
    return render(request, f"staffroom/{template}", {**site, **context})


@never_cache
@sensitive_post_parameters("token")
@require_http_methods(["GET", "POST"])
def verify(request: HttpRequest) -> HttpResponse:
    """The second step of signing in."""
    user = _staff(request)
    if user is None or two_factor.missing_step(request) != "admin:two-factor-verify":
        return redirect(two_factor.next_page(request))
    problem = ""
    if request.method == "POST":
        if two_factor.verify(request, user=user, token=request.POST.get("token", "")[:32]):
            return redirect(two_factor.next_page(request))
        problem = WRONG_CODE
    return _page(
        request,
        "two_factor_verify.html",
        title="Second step",
        problem=problem,
        next=two_factor.next_page(request),
    )


@never_cache
@sensitive_post_parameters("token")
@require_http_methods(["GET", "POST"])
def enrol(request: HttpRequest) -> HttpResponse:
    """Show the code to scan; confirm the device by a code of its own."""
    user = _staff(request)
    if user is None:
        return redirect("admin:login")
    if two_factor.has_device(user):
        return redirect(two_factor.next_page(request))
    problem = ""
    if request.method == "POST":
        token = request.POST.get("token", "")[:16].replace(" ", "")
        codes = two_factor.enrol(request, user=user, token=token)
        if codes is not None:
            return _codes_page(request, codes)
        problem = WRONG_CODE
    device = two_factor.pending_device(user)
    return _page(
        request,
        "two_factor_enrol.html",
        title="Set up two-factor sign-in",
        problem=problem,
        qr_code=mark_safe(two_factor.qr_code(device)),  # noqa: S308 - drawn by us
        secret=two_factor.readable_secret(device),
        next=two_factor.next_page(request),
        required=settings.STAFF_TWO_FACTOR_REQUIRED,
    )


def _codes_page(request: HttpRequest, codes: list[str]) -> HttpResponse:
    return _page(
        request,
        "recovery_codes.html",
        title="Recovery codes",
        codes=codes,
        next=two_factor.next_page(request),
    )


@never_cache
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    user = _staff(request)
    assert user is not None
    return _page(
        request,
        "security.html",
        title="Sign-in and security",
        has_device=two_factor.has_device(user),
        codes_left=two_factor.recovery_codes_left(user),
        required=settings.STAFF_TWO_FACTOR_REQUIRED,
        sessions=sessions_of(user),
        session_key=request.session.session_key,
    )


@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """Sign out in one other place, or in all of them."""
    user = _staff(request)
    assert user is not None
    cause, session_id = staff_cause(request), request.POST.get("session", "")
    if session_id:
        done = int(end_session(user=user, session_id=session_id[:32], cause=cause))
    else:
        done = end_other_sessions(user=user, but=request.session.session_key, cause=cause)
    messages.success(request, f"Signed out in {done} place{'' if done == 1 else 's'}.")
    return redirect("admin:security")


@never_cache
@sensitive_post_parameters("token")
@require_POST
def recovery_codes(request: HttpRequest) -> HttpResponse:
    """New recovery codes, for a fresh code of the app: a session left open is not enough."""
    user = _staff(request)
    assert user is not None
    if not two_factor.verify(request, user=user, token=request.POST.get("token", "")[:32]):
        messages.error(request, WRONG_CODE)
        return redirect("admin:security")
    return _codes_page(request, two_factor.new_recovery_codes(user))


@never_cache
@sensitive_post_parameters("token")
@require_POST
def remove(request: HttpRequest) -> HttpResponse:
    user = _staff(request)
    assert user is not None
    if not two_factor.verify(request, user=user, token=request.POST.get("token", "")[:32]):
        messages.error(request, WRONG_CODE)
        return redirect("admin:security")
    two_factor.remove(user, actor=user)
    messages.success(request, "Two-factor sign-in is off for your account.")
    return redirect(reverse("admin:security"))
