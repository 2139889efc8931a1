"""What every list of the admin can do: ask before it acts, work in the background, export."""

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import display_for_field, label_for_field, lookup_field
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone

from accounts.audit import record_act
from tesslate.lib.reauthentication import password_problem
from tesslate.lib.staffactions import (
    LONGEST_REASON,
    Questions,
    given_reason,
    questions_of,
    staff_cause,
)
from tesslate.staffroom.caller import staff_user
from tesslate.staffroom.once import new_submission

BATCH = 1000
# An export up to this size is sent at once, a larger one made in the background.
STREAMED_UP_TO = 1000
MOST_EXPORTED = 1_000_000
# An action on up to this many rows is done while its user waits.
DONE_AT_ONCE = 20
MOST_ACTED_ON = 100_000
SHOWN_TARGETS = 10
# A spreadsheet takes these at a cell's start for the beginning of a formula.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# They change nothing, or ask by themselves.
UNASKED = frozenset({"delete_selected", "export_csv"})


@admin.action(description="Export as CSV", permissions=["view"])
def export_csv(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Model]
) -> HttpResponseBase | None:
    """The list's own columns. Never more than the list shows: it shows no secret."""
    from tesslate.staffroom import jobs

    count = queryset.count()
    if count > MOST_EXPORTED:
        messages.error(
            request, f"{count:,} rows are too many for one file: filter to {MOST_EXPORTED:,}."
        )
        return None
    if count > STREAMED_UP_TO:
        across = request.POST.get("select_across") == "1"
        job = jobs.start_export(
            user=staff_user(request),
            model=queryset.model,
            query=request.GET.urlencode(),
            targets=None if across else request.POST.getlist(ACTION_CHECKBOX_NAME),
            total=count,
            submission=new_submission(),
        )
        return redirect("admin:job", job_id=job.pk)
    record_act(
        action=f"{queryset.model._meta.model_name}.exported",
        cause=staff_cause(request),
        after={"rows": count},
    )
    name = f"{queryset.model._meta.model_name}-{timezone.now():%Y-%m-%d}.csv"
    return csv_response(rows(model_admin, request, queryset), name)


def csv_response(content: Iterator[str], name: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        content,
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


class Line:
    """A file that keeps one line, for csv.writer to write into."""

    def write(self, text: str) -> str:
        return text


def rows(model_admin: Any, request: HttpRequest, queryset: QuerySet[Model]) -> Iterator[str]:
    yield heading(model_admin, request)
    yield from lines(model_admin, request, queryset.iterator(chunk_size=BATCH))


def heading(model_admin: Any, request: HttpRequest) -> str:
    names = [
        str(label_for_field(name, model_admin.model, model_admin))
        for name in columns(model_admin, request)
    ]
    return str(csv.writer(Line()).writerow(names))


def lines(model_admin: Any, request: HttpRequest, found: Iterable[Model]) -> Iterator[str]:
    writer = csv.writer(Line())
    names = columns(model_admin, request)
    for row in found:
        yield str(writer.writerow([cell(column, row, model_admin) for column in names]))


def columns(model_admin: Any, request: HttpRequest) -> list[Any]:
    return [name for name in model_admin.get_list_display(request) if name != "action_checkbox"]


def cell(column: Any, row: Model, model_admin: Any) -> str:
    try:
        field, _, value = lookup_field(column, row, model_admin)
    except ObjectDoesNotExist:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        # Unfold's labels: what is coloured, and what is said.
        value = value[-1]
    text = "" if value is None else str(value)
    if field is not None and getattr(field, "flatchoices", None):
        text = str(display_for_field(value, field, ""))
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def confirmed_or_asked(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]
) -> HttpResponse | None:
    """Before an action of a list: the page that asks, or the one of the job that does it.

    None when there is nothing to ask (any more) and the action may run right away.
    """
    name = request.POST.get("action", "")
    action = model_admin.get_actions(request).get(name)
    ticked = request.POST.getlist(ACTION_CHECKBOX_NAME)
    across = request.POST.get("select_across") == "1"
    if action is None or name in UNASKED or not (ticked or across):
        return None
    if not across:
        queryset = queryset.filter(pk__in=ticked)
    count = queryset.count()
    questions = questions_of(action[0])
    if count <= 1 and not questions.always:
        return None
    problem = _problem(request, questions, count)
    if problem is not None:
        return _ask(model_admin, request, queryset, questions, count, problem)
    if count > DONE_AT_ONCE:
        return _hand_over(model_admin, request, queryset, name)
    return None


def _problem(request: HttpRequest, questions: Questions, count: int) -> str | None:
    """Why the action may not run yet: empty when it was not confirmed, None when it may."""
    if count > MOST_ACTED_ON:
        return f"{count:,} rows are too many at once: filter to {MOST_ACTED_ON:,} at most."
    if "confirmed" not in request.POST:
        return ""
    if questions.reason and not given_reason(request):
        return "Say why."
    if questions.password:
        return password_problem(request) or None
    return None


def _ask(
    model_admin: Any,
    request: HttpRequest,
    queryset: QuerySet[Any],
    questions: Questions,
    count: int,
    problem: str,
) -> HttpResponse:
    opts = model_admin.opts
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _label(model_admin, request),
        "subtitle": str(opts.verbose_name_plural),
        "count": count,
        "noun": opts.verbose_name if count == 1 else opts.verbose_name_plural,
        "targets": queryset[:SHOWN_TARGETS],
        "more": max(0, count - SHOWN_TARGETS),
        "in_background": count > DONE_AT_ONCE,
        "questions": questions,
        "longest_reason": LONGEST_REASON,
        "reason": request.POST.get("reason", ""),
        "problem": problem,
        "submission": new_submission(),
        "fields": [
            (name, value)
            for name in ("action", "select_across", "index", ACTION_CHECKBOX_NAME)
            for value in request.POST.getlist(name)
        ],
    }
    return TemplateResponse(request, "staffroom/confirm_many.html", context)


def _hand_over(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Any], name: str
) -> HttpResponse:
    from tesslate.staffroom import jobs

    job = jobs.start_action(
        user=staff_user(request),
        model=queryset.model,
        action=name,
        title=_label(model_admin, request),
        targets=[str(pk) for pk in queryset.values_list("pk", flat=True)],
        data={"reason": given_reason(request)} if given_reason(request) else {},
        submission=request.POST.get("submission", "")[:64] or new_submission(),
    )
    return redirect("admin:job", job_id=job.pk)


def _label(model_admin: Any, request: HttpRequest) -> str:
    choices = dict(model_admin.get_action_choices(request))
    return str(choices.get(request.POST.get("action", ""), "Are you sure?"))
