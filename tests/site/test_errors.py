"""Pages for what went wrong: the site's look, no detail of the inside, and a way on."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest
from django.test import Client, RequestFactory

from tesslate import errorviews

SECRET = "sk-not-for-anybody"


@pytest.fixture
def request_of_a_visitor(rf: RequestFactory) -> HttpRequest:
    request = rf.get("/somewhere")
    request.user = AnonymousUser()
    return request


@pytest.mark.parametrize(
    ("view", "error", "status", "says"),
    [
        (errorviews.bad_request, SuspiciousOperation(SECRET), 400, "makes no sense"),
        (errorviews.permission_denied, PermissionDenied(SECRET), 403, "You may not do this"),
        (errorviews.page_not_found, Http404(SECRET), 404, "no such page"),
    ],
)
def test_errors_have_the_sites_look(request_of_a_visitor, view, error, status, says):
    response = view(request_of_a_visitor, error)
    html = response.content.decode()
    assert response.status_code == status
    assert says in html
    assert 'class="header"' in html
    assert 'href="/"' in html
    assert SECRET not in html


def test_a_failure_of_ours_needs_nothing_that_may_have_failed(request_of_a_visitor, settings):
    settings.STORAGES = {
        **settings.STORAGES,
        # Whose manifest does not exist here: asking it for a file fails.
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
    }
    response = errorviews.internal_error(request_of_a_visitor)
    html = response.content.decode()
    assert response.status_code == 500
    assert "on our side" in html
    assert 'class="header"' in html


def test_a_stale_form_says_that_nothing_was_changed(user):
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    response = client.post("/sign-out")
    assert response.status_code == 403
    assert "Nothing was changed" in response.text
    assert 'class="header"' in response.text


@pytest.mark.parametrize(
    "path", ["/account/../../etc/passwd", "/%00", "/<script>", "/" + "x" * 3000]
)
def test_nonsense_addresses_find_nothing(client, db, path):
    response = client.get(path)
    assert response.status_code == 404
    assert "<script>" not in response.text.replace("<script src=", "")
