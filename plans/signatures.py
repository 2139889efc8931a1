"""Stripe's webhook signatures, checked over the raw bytes.

The scheme: header ``t=<unix seconds>,v1=<hex>[,v1=<hex>…]``, where v1 is the HMAC-SHA256 of
``<t>.<body>`` under the endpoint's secret. Stripe's own library accepts timestamps from the
future and raises half a dozen unrelated exceptions on garbage; here every defect is BadSignature.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence

# How far Stripe's clock may run ahead of ours.
FUTURE_SKEW_SECONDS = 60
MAX_HEADER_LENGTH = 4096
TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)
HEX_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class BadSignature(Exception):
    """The request is not from Stripe, or not from now. ``reason`` is a stable word."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def verify(
    header: str | None, body: bytes, *, secrets: Sequence[str], tolerance: int, now: float
) -> None:
    """Raise BadSignature unless one of ``secrets`` signed exactly ``body`` a moment ago.

    Several secrets may be valid while one replaces the other, and Stripe may send several
    signatures. Blank secrets never match. ``tolerance`` is in seconds.
    """
    timestamp, signatures = _parse(header)
    age = now - int(timestamp)
    if age > max(tolerance, 1):
        raise BadSignature("too_old")
    if age < -FUTURE_SKEW_SECONDS:
        raise BadSignature("in_the_future")
    signed = timestamp.encode() + b"." + body
    matched = False
    for secret in secrets:
        if not secret.strip():
            continue
        expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        for signature in signatures:
            matched |= hmac.compare_digest(expected, signature)
    if not matched:
        raise BadSignature("mismatch")


def _parse(header: str | None) -> tuple[str, list[str]]:
    if not header:
        raise BadSignature("missing")
    if len(header) > MAX_HEADER_LENGTH:
        raise BadSignature("malformed")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    timestamps = [value for name, _, value in pairs if name == "t"]
    if len(timestamps) != 1 or not TIMESTAMP.fullmatch(timestamps[0]):
        raise BadSignature("malformed")
    signatures = [value for name, _, value in pairs if name == "v1" and HEX_SHA256.fullmatch(value)]
    if not signatures:
        raise BadSignature("no_v1")
    return timestamps[0], signatures
