"""Take credentials and e-mail addresses out of a text before anybody sees it."""

import json
import re
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from django.conf import settings

# What is shorter would take ordinary words out of the text as well.
SHORTEST_VALUE = 8
LOOKS_SECRET = re.compile(
    r"""
    (?P<bearer>(?i:bearer\s+)[A-Za-z0-9._~+/=-]{8,})
    | \b(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{4,}   # Stripe keys
    | \bwhsec_[A-Za-z0-9]{4,}                     # Stripe webhook secrets
    | \bsk-[A-Za-z0-9_-]{8,}                      # gateway keys
    | \btk-[A-Za-z0-9_-]{8,}                      # personal API tokens
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*   # JSON Web Tokens
    | \bAIza[A-Za-z0-9_-]{20,}                    # Google API keys
    | (?<=://)[^\s/@"]*:[^\s/@"]+(?=@)            # user and password in an address
    """,
    re.VERBOSE,
)
EMAIL_ADDRESSES = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")


def redact(text: str) -> str:
    """Replace whatever looks like a credential or an e-mail address, and whatever is one of this
    installation's own secrets, however it looks."""
    if (own := _one_of(_configured())) is not None:
        text = own.sub("[secret]", text)
    return EMAIL_ADDRESSES.sub("[email]", LOOKS_SECRET.sub("[secret]", text))


def _configured() -> tuple[str, ...]:
    """The values that the settings hold and nobody may see."""
    return (
        settings.SECRET_KEY,
        *settings.ENCRYPTION_KEYS,
        *settings.LITELLM_MASTER_KEYS,
        settings.STRIPE_SECRET_KEY,
        *settings.STRIPE_WEBHOOK_SECRETS,
        settings.METRICS_TOKEN,
        *_header_values(settings.OTEL_EXPORTER_OTLP_HEADERS),
        settings.EMAIL_HOST_PASSWORD or "",
        str(settings.DATABASES["default"].get("PASSWORD") or ""),
        unquote(urlsplit(settings.REDIS_URL).password or ""),
    )


def _header_values(headers: str) -> list[str]:
    """Of ``name=value,…``, as the variable spells it and as it is sent."""
    values = [header.partition("=")[2].strip() for header in headers.split(",")]
    return [*values, *map(unquote, values)]


@lru_cache(maxsize=8)
def _one_of(values: tuple[str, ...]) -> re.Pattern[str] | None:
    spelled = {value for value in values if len(value) >= SHORTEST_VALUE}
    spelled |= {json.dumps(value)[1:-1] for value in spelled}
    # The longest first: of two values one may begin with the other.
    alternatives = sorted(map(re.escape, spelled), key=len, reverse=True)
    return re.compile("|".join(alternatives)) if alternatives else None
