"""Actions on many rows and large exports, in the background, with their progress on record.

A job's claim is a lease: a worker that dies leaves the job to the next one. Progress is written in
the transaction that did the work, so what a job did is done once. Only actions that call
neighbours (``reaches_out``) may repeat their last batch after a crash.
"""

import json
import logging
import time
from contextlib import nullcontext
from datetime import timedelta
from typing import Any, cast

from django.apps import apps
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone

from accounts.audit import record_act
from accounts.models import User
from tesslate.lib.cause import Cause
from tesslate.lib.errors import ApiError
from tesslate.lib.staffactions import questions_of
from tesslate.staffroom import lists
from tesslate.staffroom.models import Job, JobOutput

logger = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)
# One worker's turn at one job; then others' work gets its turn.
TURN_SECONDS = 20.0
ACTION_BATCH = 20
EXPORT_BATCH = 2000
MOST_MESSAGES = 100
OUTPUT_KEPT = timedelta(days=7)

State = Job.State


def start_action(
    *,
    user: User,
    model: type[Model],
    action: str,
    title: str,
    targets: list[str],
    data: dict[str, str],
    submission: str,
) -> Job:
    """Note the work; the caller's form, sent again, finds the job that it made before."""
    return _start(
        user=user,
        submission=submission,
        kind=Job.Kind.ACTION,
        model=model._meta.label_lower,
        action=action,
        title=title,
        targets=targets,
        data=data,
        total=len(targets),
    )


def start_export(
    *,
    user: User,
    model: type[Model],
    query: str,
    targets: list[str] | None,
    total: int,
    submission: str,
) -> Job:
    """``targets`` are the rows that were ticked, None for all that ``query`` filters."""
    return _start(
        user=user,
        submission=submission,
        kind=Job.Kind.EXPORT,
        model=model._meta.label_lower,
        title=f"Export of {model._meta.verbose_name_plural}",
        query=query,
        targets=targets,
        total=total,
    )


@transaction.atomic
def _start(*, user: User, submission: str, **columns: Any) -> Job:
    job, is_new = Job.objects.get_or_create(
        submission=submission, defaults={"requested_by": user, **columns}
    )
    if job.requested_by_id != user.pk:
        raise PermissionDenied
    if is_new:
        record_act(
            action="job.started",
            cause=Cause.staff(user.pk, "admin"),
            target=job,
            after={"title": job.title, "rows": job.total, **job.data},
        )
        transaction.on_commit(_wake, robust=True)
    return job


def _wake() -> None:
    from tesslate.staffroom.tasks import run_jobs

    run_jobs.delay()


@transaction.atomic
def cancel(*, job: Job, cause: Cause) -> bool:
    """Stop after the batch that is being done. What is done stays. False when it is over."""
    row = Job.objects.select_for_update().get(pk=job.pk)
    if row.is_over:
        return False
    _finish(row, State.CANCELLED)
    record_act(action="job.cancelled", cause=cause, target=row, after={"done": row.done})
    return True


def run_next(*, seconds: float = TURN_SECONDS) -> bool:
    """Give the job that waits longest one turn. False when nobody waits."""
    job_id = _claim()
    if job_id is None:
        return False
    ends = time.monotonic() + seconds
    try:
        while _step(job_id):
            if time.monotonic() > ends:
                Job.objects.filter(pk=job_id).update(claimed_until=None)
                break
    except (ApiError, PermissionDenied) as error:
        _fail(job_id, str(getattr(error, "message", "")) or "This is no longer permitted.")
    except Exception as error:
        # Whatever an action does, the job ends with a word about it, and the worker goes on.
        logger.exception("A job stopped", extra={"job": job_id})
        _fail(job_id, f"Stopped by an error ({type(error).__name__}); the log has the rest.")
    return True


def remove_old_output() -> int:
    """Exports hold personal data, and so may what a job told and was filtered by: it goes after
    some days."""
    before = timezone.now() - OUTPUT_KEPT
    gone, _ = JobOutput.objects.filter(job__finished_at__lt=before).delete()
    told = Job.objects.filter(finished_at__lt=before).exclude(messages=[], query="")
    told.update(messages=[], query="")
    return gone


@transaction.atomic
def _claim() -> int | None:
    now = timezone.now()
    free = Q(claimed_until=None) | Q(claimed_until__lt=now)
    job = (
        Job.objects.filter(free, state__in=[State.WAITING, State.RUNNING])
        .order_by("id")
        .select_for_update(skip_locked=True)
        .first()
    )
    if job is None:
        return None
    job.state = State.RUNNING
    job.started_at = job.started_at or now
    job.claimed_until = now + LEASE
    job.save(update_fields=["state", "started_at", "claimed_until"])
    return job.pk


def _step(job_id: int) -> bool:
    """One batch. True while there is more."""
    job = Job.objects.select_related("requested_by").get(pk=job_id)
    model_admin = admin.site.get_model_admin(apps.get_model(job.model))
    request = request_for(job)
    action = None
    if job.kind == Job.Kind.ACTION:
        action = _permitted(model_admin, request, job.action)
    reaches_out = action is not None and questions_of(action).reaches_out
    with nullcontext() if reaches_out else transaction.atomic():
        if not reaches_out:
            # Whoever cancels waits for this batch, and the next one sees it.
            job = Job.objects.select_for_update(of=["self"]).get(pk=job_id)
        if job.state != State.RUNNING:
            return False
        if action is None:
            more = _export(job, model_admin, request)
        else:
            more = _act(job, model_admin, request, action)
        _save_progress(job, more=more)
    return more


def _permitted(model_admin: Any, request: HttpRequest, name: str) -> Any:
    """The action, asked for once more: a role may have changed since."""
    user = cast(User, request.user)
    found = model_admin.get_actions(request).get(name) if user.is_active and user.is_staff else None
    if found is None:
        raise PermissionDenied
    return found[0]


def _act(job: Job, model_admin: Any, request: HttpRequest, action: Any) -> bool:
    batch = (job.targets or [])[job.done : job.done + ACTION_BATCH]
    if batch:
        action(model_admin, request, model_admin.get_queryset(request).filter(pk__in=batch))
    job.messages = _added(job.messages, request)
    job.done += len(batch)
    return job.done < job.total


def _export(job: Job, model_admin: Any, request: HttpRequest) -> bool:
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    number = job.output.count()
    text = "" if number else lists.heading(model_admin, request)
    rows = list(_rest(job, model_admin, request)[:EXPORT_BATCH])
    text += "".join(lists.lines(model_admin, request, rows))
    if text:
        JobOutput.objects.create(job=job, number=number, text=text)
    job.done += len(rows)
    if rows:
        job.cursor = str(rows[-1].pk)
    more = len(rows) == EXPORT_BATCH
    if not more:
        job.total = job.done
    return more


def _rest(job: Job, model_admin: Any, request: HttpRequest) -> QuerySet[Model]:
    queryset: QuerySet[Model] = model_admin.get_changelist_instance(request).get_queryset(request)
    if job.targets is not None:
        queryset = queryset.filter(pk__in=job.targets)
    if job.cursor:
        queryset = queryset.filter(pk__gt=job.cursor)
    return queryset.order_by("pk")


def _save_progress(job: Job, *, more: bool) -> None:
    """Never over a cancellation that came meanwhile."""
    columns: dict[str, Any] = {
        name: getattr(job, name) for name in ("done", "total", "cursor", "messages")
    }
    Job.objects.filter(pk=job.pk).update(**columns)
    running = Job.objects.filter(pk=job.pk, state=State.RUNNING)
    if more:
        running.update(claimed_until=timezone.now() + LEASE)
    else:
        running.update(state=State.DONE, finished_at=timezone.now(), claimed_until=None)


def _finish(job: Job, state: str, error: str = "") -> None:
    job.state, job.error = state, error[:300]
    job.finished_at, job.claimed_until = timezone.now(), None
    job.save(update_fields=["state", "error", "finished_at", "claimed_until"])


@transaction.atomic
def _fail(job_id: int, error: str) -> None:
    job = Job.objects.select_for_update().get(pk=job_id)
    if not job.is_over:
        _finish(job, State.FAILED, error)


class Told:
    """Takes the messages that an action would have shown."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, str]] = []

    def add(self, level: int, message: Any, extra_tags: str = "") -> None:
        self.messages.append((level, str(message)))


def request_for(job: Job) -> HttpRequest:
    """The request that the member of staff would have sent: theirs, with what they filled in."""
    request = HttpRequest()
    request.method = "POST" if job.kind == Job.Kind.ACTION else "GET"
    request.path = request.path_info = "/admin/"
    request.META = {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}
    request.user = job.requested_by
    request.GET = QueryDict(job.query)
    form = QueryDict(mutable=True)
    form.update(job.data)
    request.POST = form  # type: ignore[assignment]  # mutable here, and nobody minds
    request._messages = Told()  # type: ignore[attr-defined]  # as MessageMiddleware sets it
    return request


def _added(messages: list[dict[str, Any]], request: HttpRequest) -> list[dict[str, Any]]:
    """Each text once, with how often it was said."""
    known = {json.dumps([each["level"], each["text"]]): dict(each) for each in messages}
    for level, text in request._messages.messages:  # type: ignore[attr-defined]
        entry = known.setdefault(
            json.dumps([level, text]), {"level": level, "text": text, "times": 0}
        )
        entry["times"] += 1
    return list(known.values())[:MOST_MESSAGES]
