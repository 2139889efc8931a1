"""What the site's templates need beyond Django's own tags."""

from datetime import datetime, timedelta

from django import template
from django.template import Context
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.timesince import timesince

from tesslate.lib.currencies import dollars
from tesslate.site.money import format_money

register = template.Library()

# Drawn for this project on a 24-unit grid.
OUTLINES = {
    "check": '<path d="m5 12.5 4.5 4.5L19 7"/>',
    "copy": '<rect x="9" y="9" width="11" height="11" rx="2"/><path d="M5 15V6a2 2 0 0 1 2-2h8"/>',
    "lock": '<rect x="5" y="11" width="14" height="9" rx="2"/><path d="M8 11V8a4 4 0 0 1 8 0v3"/>',
    "moon": '<path d="M20 14.5A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.5z"/>',
    "send": '<path d="M12 20V5m-6 6 6-6 6 6"/>',
    "stop": '<rect x="7" y="7" width="10" height="10" rx="1.5" fill="currentColor"/>',
    "sun": (
        '<circle cx="12" cy="12" r="4"/><path d="M12 2v2m0 16v2M4.9 4.9l1.4 1.4m11.4 11.4 '
        '1.4 1.4M2 12h2m16 0h2M4.9 19.1l1.4-1.4M17.7 6.3l1.4-1.4"/>'
    ),
}
BRAND = (
    '<path fill="currentColor" stroke="none" d="M2 2h9v9H2zM13 2h9v9h-9a2 2 0 0 1 0-9z'
    'M2 13h9v7a2 2 0 0 1-2 2H2zM13 13h9v9h-9z"/>'
)


@register.simple_tag
def icon(name: str, css_class: str = "") -> SafeString:
    """An inline drawing, hidden from screen readers: the words beside it say the same."""
    outline = BRAND if name == "brand" else OUTLINES[name]
    return format_html(
        '<svg class="{}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
        'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{}</svg>',
        css_class,
        mark_safe(outline),  # noqa: S308 - a constant from above
    )


@register.simple_tag(takes_context=True)
def nav_link(context: Context, name: str, label: str) -> SafeString:
    """A link of the main navigation that knows when it is the current page."""
    path = reverse(name)
    current = mark_safe(' aria-current="page"') if context["request"].path == path else ""
    return format_html('<a href="{}"{}>{}</a>', path, current, label)


register.filter("money", format_money)
register.filter("dollars", dollars)


# What a browser calls itself, the more particular name first: all of them say "Mozilla" as well.
BROWSERS = (
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
)


@register.filter
def ago(moment: datetime) -> str:
    """``3 hours ago``; the first minute is ``just now``."""
    if timezone.now() - moment < timedelta(minutes=1):
        return "just now"
    return f"{timesince(moment)} ago"


@register.filter
def browser_name(agent: str) -> str:
    """Out of what a browser says of itself, like ``Firefox on Linux``."""
    browser = next((name for sign, name in BROWSERS if sign in agent), "A browser")
    system = next((name for sign, name in SYSTEMS if sign in agent), "")
    return f"{browser} on {system}" if system else browser
