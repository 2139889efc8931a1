import pytest
from django.contrib.auth import login
from django.test import Client, RequestFactory
from django.utils import timezone

from accounts.models import AuditEntry, BrowserSession
from accounts.sessions import SessionStore
from accounts.tasks import clear_sessions


@pytest.fixture
def elsewhere(user) -> Client:
    """The same person in another browser."""
    client = Client(headers={"user-agent": "Elsewhere/1.0"})
    client.force_login(user)
    return client


@pytest.fixture
def here(client: Client, user, free_plan) -> Client:
    client.force_login(user)
    return client


def ids(client: Client) -> dict[bool, str]:
    found = client.get("/api/sessions").json()["sessions"]
    return {session["is_current"]: session["id"] for session in found}


def test_lists_where_one_is_signed_in(here, elsewhere):
    found = here.get("/api/sessions").json()["sessions"]
    assert [session["is_current"] for session in found] == [False, True]


def test_never_tells_a_sessions_key(here, elsewhere):
    body = here.get("/api/sessions").content.decode()
    for key in BrowserSession.objects.values_list("session_key", flat=True):
        assert key not in body


def test_a_session_keeps_its_id_when_it_changes(here):
    before = ids(here)[True]
    session = here.session
    session["something"] = 1
    session.save()
    assert ids(here)[True] == before


def test_ending_another_session_signs_that_browser_out(here, elsewhere, user):
    response = here.delete(f"/api/sessions/{ids(here)[False]}")
    assert response.status_code == 204
    assert elsewhere.get("/api/me").status_code == 401
    assert here.get("/api/sessions").status_code == 200
    assert AuditEntry.objects.filter(user=user, action="user.session_ended").exists()


def test_everywhere_else_can_be_ended_at_once(here, elsewhere):
    assert here.delete("/api/sessions").status_code == 204
    assert list(ids(here)) == [True]
    assert elsewhere.get("/api/sessions").status_code == 401


def test_a_stranger_cannot_end_a_session(here, stranger):
    client = Client()
    client.force_login(stranger)
    assert client.delete(f"/api/sessions/{ids(here)[True]}").status_code == 404
    assert client.delete("/api/sessions").status_code == 204
    assert here.get("/api/sessions").status_code == 200


def test_visitors_leave_no_name(client, db, free_plan):
    client.get("/")
    assert not BrowserSession.objects.exclude(user=None).exists()


def test_sessions_that_are_over_do_not_stay(here, elsewhere):
    over = BrowserSession.objects.filter(pk=elsewhere.session.session_key)
    over.update(expire_date=timezone.now())

    clear_sessions()

    assert list(ids(here)) == [True]
    assert BrowserSession.objects.count() == 1


@pytest.mark.parametrize(
    ("proxies", "forwarded", "shown"),
    [
        (0, "203.0.113.77", "172.18.0.5"),
        (1, "198.51.100.1, 203.0.113.77", "203.0.113.77"),
        (1, "unknown", None),
    ],
)
def test_a_session_tells_the_callers_address_and_not_our_proxys(
    user, settings, proxies, forwarded, shown
):
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": proxies}
    request = RequestFactory(REMOTE_ADDR="172.18.0.5").get(
        "/", headers={"x-forwarded-for": forwarded}
    )
    request.session = SessionStore()

    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    request.session.save()

    assert BrowserSession.objects.get().address == shown
