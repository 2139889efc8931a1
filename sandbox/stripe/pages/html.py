"""Building blocks of the hosted pages. Everything that comes from outside goes through `text`."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from sandbox.stripe.billing.amounts import money

Json = dict[str, Any]

_FOLDER = Path(__file__).parents[2] / "pages" / "stripe"
_BASE = Template((_FOLDER / "base.html").read_text())
_STYLE = (_FOLDER / "style.css").read_text()

# No scripts, nothing from elsewhere. Forms may lead elsewhere: that is what checkout is for.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'"

# What a person at the checkout may try: value, name, what it does.
METHODS = (
    ("pm_card_visa", "Visa •••• 4242", "succeeds"),
    ("pm_card_mastercard", "Mastercard •••• 4444", "succeeds"),
    ("pm_card_threeDSecure2Required", "Visa •••• 3220", "asks for 3-D Secure"),
    ("pm_card_chargeDeclined", "Visa •••• 0002", "is declined"),
    ("pm_card_chargeDeclinedInsufficientFunds", "Visa •••• 9995", "has insufficient funds"),
    ("pm_usBankAccount_success", "Bank account •••• 6789", "pays after some days"),
    ("pm_usBankAccount_insufficientFunds", "Bank account •••• 2227", "is returned after some days"),
)


@dataclass
class Page:
    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def text(value: object) -> str:
    return escape(str(value), quote=True)


def page(
    title: str,
    body: str,
    *,
    kind: str = "plain",
    nav: str = "",
    error: str = "",
    done: str = "",
    status: int = 200,
) -> Page:
    notice = ""
    if error:
        notice = f'<p class="notice bad" role="alert">{text(error)}</p>'
    elif done:
        notice = f'<p class="notice good" role="status">{text(done)}</p>'
    html = _BASE.substitute(
        title=text(title), style=_STYLE, kind=kind, nav=nav, notice=notice, body=body
    )
    headers = [
        (b"content-security-policy", POLICY.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Page(status, html.encode(), headers)


def redirect(location: str) -> Page:
    return Page(303, b"", [(b"location", location.encode())])


def missing(what: str) -> Page:
    return page("Not found", f"<h1>Not found</h1><p>There is no {text(what)}.</p>", status=404)


def amount(value: int | None, currency: str | None) -> str:
    return text(money(value or 0, currency or "usd"))


def day(moment: int | None) -> str:
    if moment is None:
        return "–"
    return f"{datetime.fromtimestamp(moment, UTC):%-d %b %Y}"


def instant(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%-d %b %Y %H:%M:%S} UTC"


def every(recurring: Json | None) -> str:
    """`per month`, `every 3 months`."""
    if not recurring:
        return ""
    count, interval = recurring["interval_count"], recurring["interval"]
    return f"per {interval}" if count == 1 else f"every {count} {interval}s"


_TONES = {
    "active": "good", "trialing": "good", "paid": "good", "succeeded": "good", "complete": "good",
    "delivered": "good", "won": "good",
    "past_due": "warn", "incomplete": "warn", "open": "warn", "processing": "warn",
    "waiting": "warn", "sending": "warn", "paused": "warn", "draft": "", "canceled": "bad",
    "unpaid": "bad", "incomplete_expired": "bad", "void": "", "uncollectible": "bad",
    "failed": "bad", "dropped": "bad", "given_up": "bad",
}  # fmt: skip


def badge(status: str) -> str:
    tone = _TONES.get(status, "")
    return f'<span class="badge {tone}">{text(status.replace("_", " "))}</span>'


def method_choice(chosen: str = "pm_card_visa", legend: str = "Test payment method") -> str:
    choices = "".join(
        f'<label class="choice"><input type="radio" name="method" value="{value}"'
        f"{' checked' if value == chosen else ''}>"
        f'<span>{name}<span class="hint">{effect}</span></span></label>'
        for value, name, effect in METHODS
    )
    return f"<fieldset><legend>{legend}</legend>{choices}</fieldset>"


def hidden(**fields: object) -> str:
    return "".join(
        f'<input type="hidden" name="{name}" value="{text(value)}">'
        for name, value in fields.items()
    )


def button(action: str, label: str, *, style: str = "", fields: Json | None = None) -> str:
    """A form that is one button."""
    return (
        f'<form method="post" action="{text(action)}">{hidden(**fields or {})}'
        f'<button type="submit" class="{style}">{text(label)}</button></form>'
    )


def table(heads: tuple[str, ...], rows: list[str], empty: str) -> str:
    """`heads` that end in # are of number columns."""
    if not rows:
        return f'<p class="soft">{text(empty)}</p>'
    names = "".join(
        f'<th scope="col" class="number">{head[:-1]}</th>'
        if head.endswith("#")
        else f'<th scope="col">{head}</th>'
        for head in heads
    )
    return (
        # Reachable by keyboard: on a narrow screen it scrolls.
        f'<div class="scroll" role="region" tabindex="0" aria-label="{heads[0]}: table">'
        f"<table><thead><tr>{names}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def authentication(action: str, shop: str, **fields: object) -> str:
    """The bank's page in the middle of a payment."""
    return (
        '<div class="card"><h1>Your bank wants to make sure it is you</h1>'
        f"<p>3-D Secure for a payment to {text(shop)}. Choose what the card holder does.</p>"
        f'<form method="post" action="{text(action)}">{hidden(**fields)}<p class="row">'
        '<button type="submit" name="answer" value="passed" class="primary">'
        "Complete authentication</button>"
        '<button type="submit" name="answer" value="failed" class="danger">'
        "Fail authentication</button></p></form></div>"
    )
