"""Call addresses that customers gave us, without becoming their way into our network.

The name is resolved once, every address must be public, and the connection goes to the very
address that was checked; redirects are not followed, answers are not read. Bodies are signed:
``Tesslate-Signature: t=<seconds>,v1=<hex>``, HMAC-SHA256 over ``<seconds>.<body>``.
"""

import hashlib
import hmac
import ipaddress
import socket
import time
from urllib.parse import urlsplit

import httpx
from django.conf import settings

TIMEOUT_SECONDS = 5
SIGNATURE_HEADER = "Tesslate-Signature"


class NotDelivered(Exception):
    """The address refused, was not reached, or must not be called. Holds nothing secret."""


def signature(body: bytes, secret: str, *, at: int) -> str:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def post_signed(url: str, body: bytes, *, secret: str) -> None:
    """Raises NotDelivered unless the address answered with a 2xx."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not settings.WEBHOOK_ALLOW_PRIVATE:
        raise NotDelivered("Only https addresses are called.")
    try:
        host, given_port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError:
        raise NotDelivered("The address is malformed.") from None
    port = given_port or (443 if parts.scheme == "https" else 80)
    address = _public_address(host, port)
    target = parts._replace(netloc=_authority(address, port), fragment="").geturl()
    headers = {
        "Host": _authority(host, given_port),
        "Content-Type": "application/json",
        "User-Agent": "Tesslate-Webhook/1",
        SIGNATURE_HEADER: signature(body, secret, at=int(time.time())),
    }
    try:
        with (
            httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client,
            client.stream(
                "POST", target, content=body, headers=headers, extensions={"sni_hostname": host}
            ) as response,
        ):
            status = response.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotDelivered(type(error).__name__) from None
    if not 200 <= status < 300:
        raise NotDelivered(f"The address answered {status}.")


def _authority(host: str, port: int | None) -> str:
    shown = f"[{host}]" if ":" in host else host
    return shown if port is None else f"{shown}:{port}"


def _public_address(host: str, port: int) -> str:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise NotDelivered("The name cannot be resolved.") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not settings.WEBHOOK_ALLOW_PRIVATE and not all(map(_is_public, addresses)):
        raise NotDelivered("The name leads into a private network.")
    return addresses[0]


def _is_public(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_global and not found.is_multicast
