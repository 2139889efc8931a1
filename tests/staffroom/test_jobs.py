"""Work on many rows: confirmed with its number, done in the background, watched and stopped."""

import csv
import io

import pytest
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.utils import timezone

from accounts.models import AuditEntry, User
from plans.models import StripeEvent
from tesslate.staffroom import jobs, lists
from tesslate.staffroom.models import Job, JobOutput
from tests.factories import GatewayModelFactory, UserFactory

EVENTS = "/admin/plans/stripeevent/"
MODELS = "/admin/plans/gatewaymodel/"
USERS = "/admin/accounts/user/"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few rows are many here."""
    monkeypatch.setattr(lists, "DONE_AT_ONCE", 2)
    monkeypatch.setattr(lists, "STREAMED_UP_TO", 2)
    monkeypatch.setattr(jobs, "ACTION_BATCH", 2)
    monkeypatch.setattr(jobs, "EXPORT_BATCH", 2)


def send(client, address, action, rows, **extra):
    data = {"action": action, ACTION_CHECKBOX_NAME: [row.pk for row in rows], **extra}
    return client.post(address, data)


def replay(client, events, **extra):
    return send(
        client, EVENTS, "replay_selected", events, confirmed="1", submission="form-1", **extra
    )


def dead() -> int:
    return StripeEvent.objects.filter(state="dead").count()


def test_an_action_on_many_rows_waits_for_a_worker(staff_client, staff, events):
    response = replay(staff_client, events)
    job = Job.objects.get()
    assert response["Location"] == f"/admin/jobs/{job.pk}"
    assert (job.requested_by, job.total, job.state) == (staff, 5, "waiting")
    assert dead() == 5
    assert jobs.run_next()
    job.refresh_from_db()
    assert (job.done, job.state) == (5, "done")
    assert dead() == 0
    assert "5 of 5" in staff_client.get(f"/admin/jobs/{job.pk}").text
    assert not jobs.run_next()


def test_everything_the_filters_show_can_be_chosen(staff_client, events):
    StripeEvent.objects.filter(pk=events[0].pk).update(state="quarantined")
    address = f"{EVENTS}?state__exact=dead"
    send(staff_client, address, "replay_selected", events[:1], select_across="1", confirmed="1")
    assert Job.objects.get().total == 4


def test_a_form_sent_twice_is_one_job(staff_client, events):
    replay(staff_client, events)
    replay(staff_client, events)
    assert Job.objects.count() == 1
    assert AuditEntry.objects.filter(action="job.started").count() == 1


def test_a_short_action_sent_twice_is_done_once(staff_client, events, empty_cache):
    replay(staff_client, events[:2])
    StripeEvent.objects.update(state="dead")
    page = send(
        staff_client,
        EVENTS,
        "replay_selected",
        events[:2],
        confirmed="1",
        submission="form-1",
    )
    assert page.status_code == 302
    assert dead() == 5


def test_stopping_keeps_what_was_done(staff_client, events):
    replay(staff_client, events)
    job = Job.objects.get()
    jobs.run_next(seconds=0)
    assert dead() == 3
    staff_client.post(f"/admin/jobs/{job.pk}/stop")
    assert not jobs.run_next()
    job.refresh_from_db()
    assert (job.state, job.done) == ("cancelled", 2)
    assert (
        "It was over already" in staff_client.post(f"/admin/jobs/{job.pk}/stop", follow=True).text
    )


def test_a_worker_that_died_leaves_its_job_to_the_next(staff_client, events):
    replay(staff_client, events)
    Job.objects.update(state="running", done=2, claimed_until=timezone.now() - jobs.LEASE)
    assert jobs.run_next()
    assert dead() == 2
    assert Job.objects.get().state == "done"


def test_a_job_is_not_taken_by_two(staff_client, events):
    replay(staff_client, events)
    Job.objects.update(state="running", claimed_until=timezone.now() + jobs.LEASE)
    assert not jobs.run_next()


def test_whoever_may_no_longer_do_it_does_no_more(colleague, events):
    client = colleague("billing")
    replay(client, events)
    User.objects.get(email="billing@example.com").groups.clear()
    jobs.run_next()
    job = Job.objects.get()
    assert (job.state, job.error) == ("failed", "This is no longer permitted.")
    assert dead() == 5


def test_an_action_that_breaks_ends_the_job_with_a_word(staff_client, events, monkeypatch):
    replay(staff_client, events)

    def breaks(**kwargs):
        raise RuntimeError("secret detail")

    monkeypatch.setattr("plans.admin.inbox.replay", breaks)
    jobs.run_next()
    job = Job.objects.get()
    assert job.state == "failed"
    assert "RuntimeError" in job.error
    assert "secret detail" not in job.error
    assert "What was done before stays done" in staff_client.get(f"/admin/jobs/{job.pk}").text


def test_the_reason_reaches_every_row(staff_client, staff, free_plan):
    users = UserFactory.create_batch(3)
    page = send(staff_client, USERS, "suspend", users, confirmed="1")
    assert "Say why." in page.text
    send(staff_client, USERS, "suspend", users, confirmed="1", reason="Abuse")
    jobs.run_next()
    entries = AuditEntry.objects.filter(action="user.suspended")
    assert {(entry.user, entry.actor, entry.reason) for entry in entries} == {
        (user, staff, "Abuse") for user in users
    }
    assert [message["text"] for message in Job.objects.get().messages] == [
        "Suspended: 2 of 2.",
        "Suspended: 1 of 1.",
    ]


def test_the_gravest_need_the_password_too(staff_client, free_plan):
    users = UserFactory.create_batch(3)
    send(staff_client, USERS, "close", users, confirmed="1", reason="Asked", password="wrong")
    assert not Job.objects.exists()
    send(
        staff_client,
        USERS,
        "close",
        users,
        confirmed="1",
        reason="Asked",
        password="staff-password",
    )
    jobs.run_next()
    assert User.objects.filter(deleted_at=None, pk__in=[user.pk for user in users]).count() == 0


def test_a_large_export_is_made_in_the_background(staff_client, colleague, db):
    for number in range(5):
        GatewayModelFactory.create(name=f"model-{number}", title=f"=Title {number}")
    rows = GatewayModelFactory._meta.model.objects.all()
    response = send(staff_client, f"{MODELS}?q=model", "export_csv", rows, select_across="1")
    job = Job.objects.get()
    assert response["Location"] == f"/admin/jobs/{job.pk}"
    assert staff_client.get(f"/admin/jobs/{job.pk}/download").status_code == 404
    jobs.run_next()
    file = staff_client.get(f"/admin/jobs/{job.pk}/download")
    head, *found = csv.reader(io.StringIO(b"".join(file.streaming_content).decode()))
    assert head[:2] == ["name", "title"]
    assert [row[:2] for row in found] == [
        [f"model-{number}", f"'=Title {number}"] for number in range(5)
    ]
    assert colleague("admin").get(f"/admin/jobs/{job.pk}/download").status_code == 404


def test_files_of_old_exports_go(staff, db):
    job = Job.objects.create(
        kind="export",
        requested_by=staff,
        model="plans.plan",
        title="x",
        total=0,
        submission="x",
        state="done",
        finished_at=timezone.now() - jobs.OUTPUT_KEPT * 2,
    )
    JobOutput.objects.create(job=job, number=0, text="a,b")
    jobs.remove_old_output()
    assert not JobOutput.objects.exists()


def test_colleagues_work_is_for_auditors_and_admins_to_see(colleague, staff_client, events):
    replay(staff_client, events)
    job = Job.objects.get()
    for role, status in (("support", 404), ("billing", 404), ("auditor", 200), ("admin", 200)):
        client = colleague(role)
        assert client.get(f"/admin/jobs/{job.pk}").status_code == status, role
    assert colleague("operator").post(f"/admin/jobs/{job.pk}/stop").status_code == 404
    auditor = User.objects.get(email="auditor@example.com")
    assert not auditor.has_perm("staffroom.change_job")
