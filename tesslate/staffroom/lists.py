"""What every list of the admin can do: export, and count before it acts on many rows."""

import csv
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import display_for_field, lookup_field
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponseBase, StreamingHttpResponse
from django.utils import timezone

from accounts.audit import record_act
from tesslate.lib.cause import Cause

BATCH = 1000
MOST_ROWS = 200_000
# A spreadsheet takes these at a cell's start for the beginning of a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# These ask by themselves (for users: with a reason), or change nothing.
UNASKED = frozenset({"delete_selected", "export_csv", "suspend", "reinstate", "close"})


@admin.action(description="Export as CSV", permissions=["view"])
def export_csv(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Model]
) -> HttpResponseBase | None:
    """The list's own columns, streamed. Never more than the list shows: it shows no secret."""
    count = queryset.count()
    if count > MOST_ROWS:
        messages.error(
            request, f"{count:,} rows are too many for one file: filter to {MOST_ROWS:,} at most."
        )
        return None
    name = f"{queryset.model._meta.model_name}-{timezone.now():%Y-%m-%d}.csv"
    record_act(
        action=f"{queryset.model._meta.model_name}.exported",
        cause=Cause.staff(request.user.pk or 0, "admin"),
        after={"rows": count},
    )
    return StreamingHttpResponse(
        rows(model_admin, request, queryset),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


class Line:
    """A file that keeps one line, for csv.writer to write into."""

    def write(self, text: str) -> str:
        return text


def rows(model_admin: Any, request: HttpRequest, queryset: QuerySet[Model]) -> Iterator[str]:
    columns = [
        column for column in model_admin.get_list_display(request) if column != "action_checkbox"
    ]
    writer = csv.writer(Line())
    yield writer.writerow([name if isinstance(name, str) else name.__name__ for name in columns])
    for row in queryset.iterator(chunk_size=BATCH):
        yield writer.writerow([cell(column, row, model_admin) for column in columns])


def cell(column: Any, row: Model, model_admin: Any) -> str:
    try:
        field, _, value = lookup_field(column, row, model_admin)
    except ObjectDoesNotExist:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    text = "" if value is None else str(value)
    if field is not None and getattr(field, "flatchoices", None):
        text = str(display_for_field(value, field, ""))
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def must_ask(request: HttpRequest, queryset: QuerySet[Model]) -> int:
    """How many rows an action is about to touch, where it should ask first; otherwise 0."""
    name = request.POST.get("action", "")
    if not name or name in UNASKED or "confirmed" in request.POST:
        return 0
    if request.POST.get("select_across") == "1":
        count = queryset.count()
    else:
        count = len(request.POST.getlist(ACTION_CHECKBOX_NAME))
    return count if count > 1 else 0
