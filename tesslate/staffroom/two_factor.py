"""The second factor of staff: an authenticator app, and recovery codes for when it is lost.

Who has a device must use it at every sign-in. Who has none must make one first where
STAFF_TWO_FACTOR_REQUIRED says so. Until then no page of the admin opens but these.
"""

import secrets
from base64 import b32encode
from typing import Any
from urllib.parse import urlencode

import qrcode
import qrcode.image.svg
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django_otp import login as otp_login
from django_otp import match_token
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.audit import record_act
from accounts.models import User
from tesslate.lib.cause import Cause

RECOVERY_CODES = 10
# No letters that are read for digits, nor the other way round.
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def has_device(user: User) -> bool:
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def missing_step(request: HttpRequest) -> str | None:
    """The name of the page that a signed-in member of staff must visit first, if any."""
    user = request.user
    if isinstance(user, AnonymousUser) or not (user.is_active and user.is_staff):
        return None
    if user.is_verified():  # type: ignore[attr-defined]  # set by OTPMiddleware
        return None
    if has_device(user):
        return "admin:two-factor-verify"
    return "admin:two-factor-enrol" if settings.STAFF_TWO_FACTOR_REQUIRED else None


def redirect_to_missing_step(request: HttpRequest) -> HttpResponse | None:
    step = missing_step(request)
    if step is None:
        return None
    return redirect(f"{reverse(step)}?{urlencode({'next': next_page(request)})}")


def next_page(request: HttpRequest) -> str:
    """Where the visitor was going: a page of the admin, whatever the address says."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    home = reverse("admin:index")
    is_ours = wanted.startswith(home) and url_has_allowed_host_and_scheme(
        wanted, allowed_hosts=None, require_https=request.is_secure()
    )
    return wanted if is_ours else home


def verify(request: HttpRequest, *, user: User, token: str) -> bool:
    """Check a code of the app or a recovery code; a right one marks this session as verified.

    django-otp slows down guesses at each device, and a recovery code works once.
    """
    device: Device | None = match_token(user, token.strip().lower().replace(" ", ""))
    if device is None:
        return False
    _mark_verified(request, device)
    if isinstance(device, StaticDevice):
        _note(user, "two_factor.recovery_code_used", {"left": device.token_set.count()})
    return True


def pending_device(user: User) -> TOTPDevice:
    """The device under enrolment: the same on every reload, so that a scanned code stays right."""
    device, _ = TOTPDevice.objects.get_or_create(
        user=user, confirmed=False, defaults={"name": "Authenticator app"}
    )
    return device


def enrol(request: HttpRequest, *, user: User, token: str) -> list[str] | None:
    """Confirm the pending device by a code that it shows. Recovery codes, or None when wrong."""
    with transaction.atomic():
        device = TOTPDevice.objects.select_for_update().filter(user=user, confirmed=False).first()
        if device is None or not token.isdigit() or not device.verify_token(token):
            return None
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        _note(user, "two_factor.enrolled")
        codes = new_recovery_codes(user)
    _mark_verified(request, device)
    return codes


def new_recovery_codes(user: User) -> list[str]:
    """Replace all recovery codes. They are shown this once."""
    codes = [
        "-".join("".join(secrets.choice(ALPHABET) for _ in range(5)) for _ in range(2))
        for _ in range(RECOVERY_CODES)
    ]
    with transaction.atomic():
        device, _ = StaticDevice.objects.get_or_create(user=user, name="Recovery codes")
        device.token_set.all().delete()
        for code in codes:
            device.token_set.create(token=code)
        _note(user, "two_factor.recovery_codes_made")
    return codes


def remove(user: User, *, actor: User) -> None:
    """Take the second factor away: by its owner, or by an admin for somebody who lost it."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
        _note(user, "two_factor.removed", actor=actor)


def recovery_codes_left(user: User) -> int:
    device = StaticDevice.objects.filter(user=user).first()
    return 0 if device is None else device.token_set.count()


def qr_code(device: TOTPDevice) -> str:
    """The enrolment address as an SVG drawing."""
    image = qrcode.make(
        device.config_url, image_factory=qrcode.image.svg.SvgPathImage, box_size=10, border=2
    )
    return str(image.to_string(encoding="unicode"))


def readable_secret(device: TOTPDevice) -> str:
    """What to type where a camera is missing, in groups of four."""
    text = b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(text[at : at + 4] for at in range(0, len(text), 4))


def _mark_verified(request: HttpRequest, device: Device) -> None:
    """A new session id: one that leaked before this step is worth nothing after it."""
    request.session.cycle_key()
    otp_login(request, device)


def _note(user: User, action: str, after: Any = None, *, actor: User | None = None) -> None:
    cause = Cause.staff((actor or user).pk, "two-factor")
    record_act(action=action, cause=cause, target=user, user=user, after=after)
