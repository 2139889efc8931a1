"""Background work: how far it has come, the way to stop it, and the file that it made."""

from django.apps import apps
from django.contrib import messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST, require_safe

from tesslate.lib.staffactions import staff_cause
from tesslate.staffroom import jobs
from tesslate.staffroom.caller import staff_user
from tesslate.staffroom.customers_views import require, staff_page
from tesslate.staffroom.links import list_of
from tesslate.staffroom.lists import csv_response
from tesslate.staffroom.models import Job

SHOWN = 50
TONES = {Job.State.DONE: "good", Job.State.FAILED: "bad", Job.State.CANCELLED: ""}


def visible(request: HttpRequest) -> "QuerySet[Job]":
    """One's own; auditors and admins see everybody's."""
    rows = Job.objects.select_related("requested_by").defer("targets")
    if request.user.has_perm("staffroom.view_job"):
        return rows
    return rows.filter(requested_by=staff_user(request))


def tone(job: Job) -> str:
    return TONES.get(Job.State(job.state), "warn")


@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    return staff_page(request, "jobs.html", title="Background work", jobs=visible(request)[:SHOWN])


@require_safe
def job(request: HttpRequest, job_id: int) -> HttpResponse:
    row = get_object_or_404(visible(request), pk=job_id)
    return staff_page(
        request,
        "job.html",
        title="Background work",
        subtitle=row.title,
        job=row,
        tone=tone(row),
        has_output=row.output.exists(),
        list_url=list_of(row.model, row.query),
    )


@require_POST
def stop(request: HttpRequest, job_id: int) -> HttpResponse:
    user = staff_user(request)
    row = get_object_or_404(visible(request), pk=job_id)
    if row.requested_by_id != user.pk:
        require(request, "staffroom.change_job")
    if jobs.cancel(job=row, cause=staff_cause(request)):
        messages.success(request, "Stopped. What was done before stays done.")
    else:
        messages.info(request, "It was over already.")
    return redirect("admin:job", job_id=row.pk)


@require_safe
def download(request: HttpRequest, job_id: int) -> HttpResponseBase:
    """The file, for whoever asked for it and may still see the list."""
    row = get_object_or_404(Job, pk=job_id, requested_by=staff_user(request))
    opts = apps.get_model(row.model)._meta
    require(request, f"{opts.app_label}.view_{opts.model_name}")
    if row.state != Job.State.DONE or not row.output.exists():
        raise Http404
    pieces = row.output.values_list("text", flat=True).iterator(chunk_size=1)
    return csv_response(pieces, f"{opts.model_name}-{row.created_at:%Y-%m-%d}.csv")
