"""POST, GET and DELETE /api/auth/session, and both ways to authenticate."""

import time
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from tests.firebase import FirebaseProject

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("empty_cache", "free_plan")]


@pytest.fixture
def browser() -> Client:
    """A client that, as a browser would, gets no exemption from CSRF checks."""
    return Client(enforce_csrf_checks=True)


def sign_in(browser: Client, token: str):
    return browser.post("/api/auth/session", {"id_token": token}, content_type="application/json")


def error(response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert set(body) == {"error"}
    assert {"type", "code", "message", "param"} <= set(body["error"])
    problem: dict[str, Any] = body["error"]
    return problem


def test_fresh_token_becomes_a_session(browser: Client, firebase: FirebaseProject):
    response = sign_in(browser, firebase.token("uid-1", name="Alice"))

    assert response.status_code == 200
    assert response.json()["user"] == {
        "id": User.objects.get().pk,
        "email": "uid-1@example.com",
        "name": "Alice",
    }
    cookie = response.cookies[settings.SESSION_COOKIE_NAME]
    assert cookie["httponly"]
    assert settings.CSRF_COOKIE_NAME in response.cookies
    assert browser.get("/api/auth/session").json()["user"]["email"] == "uid-1@example.com"


def test_session_key_and_csrf_token_are_new_with_each_sign_in(
    browser: Client, firebase: FirebaseProject
):
    names = (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME)
    sign_in(browser, firebase.token("uid-1"))
    before = [browser.cookies[name].value for name in names]
    sign_in(browser, firebase.token("uid-2"))
    after = [browser.cookies[name].value for name in names]

    assert all(old != new for old, new in zip(before, after, strict=True))


def test_sign_in_of_long_ago_gets_no_cookie(browser: Client, firebase: FirebaseProject):
    response = sign_in(browser, firebase.token(auth_time=int(time.time()) - 301))

    assert response.status_code == 401
    assert error(response)["code"] == "token_too_old"
    assert settings.SESSION_COOKIE_NAME not in response.cookies
    assert not User.objects.exists()


def test_token_that_hides_its_age_gets_no_cookie(browser: Client, firebase: FirebaseProject):
    assert sign_in(browser, firebase.token(auth_time=None)).status_code == 401


@pytest.mark.parametrize("token", ["", "garbage", None, 7, [], {"a": 1}, "x" * 9000])
def test_bad_input_is_refused_in_the_one_error_shape(browser: Client, firebase, token):
    response = sign_in(browser, token)

    assert response.status_code in {400, 401}
    assert error(response)["code"] in {"invalid_request", "invalid_token"}


@pytest.mark.parametrize("body", ["", "{", "[]", '"x"', "null"])
def test_malformed_body_is_400(browser: Client, body):
    response = browser.post("/api/auth/session", body, content_type="application/json")

    assert response.status_code == 400
    assert error(response)["code"] == "invalid_request"


def test_form_posted_from_another_site_is_refused(browser: Client, firebase: FirebaseProject):
    response = browser.post("/api/auth/session", {"id_token": firebase.token()})

    assert response.status_code == 415


def test_certificates_down_is_503(browser: Client, firebase: FirebaseProject):
    firebase.is_down = True

    response = sign_in(browser, firebase.token())

    assert response.status_code == 503
    assert error(response)["code"] == "sign_in_unavailable"


def test_staff_gets_no_session_through_firebase(browser: Client, firebase: FirebaseProject):
    sign_in(browser, firebase.token("uid-1"))
    User.objects.update(is_staff=True)
    browser.cookies.clear()

    response = sign_in(browser, firebase.token("uid-1"))

    assert response.status_code == 403
    assert error(response)["code"] == "staff_sign_in_elsewhere"
    assert settings.SESSION_COOKIE_NAME not in response.cookies


def test_signing_out_ends_the_session(browser: Client, firebase: FirebaseProject):
    token = sign_in(browser, firebase.token()).json()["csrf_token"]

    response = browser.delete("/api/auth/session", headers={"X-CSRFToken": token})

    assert response.status_code == 204
    assert browser.get("/api/auth/session").status_code == 401


def test_signing_out_twice_is_no_error(browser: Client):
    assert browser.delete("/api/auth/session").status_code == 204


def test_signing_out_needs_the_csrf_token(browser: Client, firebase: FirebaseProject):
    sign_in(browser, firebase.token())

    response = browser.delete("/api/auth/session")

    assert response.status_code == 403
    assert error(response)["code"] == "csrf_failed"
    assert browser.get("/api/auth/session").status_code == 200


def test_sign_ins_are_throttled_per_address(browser: Client, firebase: FirebaseProject):
    token = firebase.token()
    statuses = [sign_in(browser, token).status_code for _ in range(31)]

    assert statuses[:30] == [200] * 30
    response = sign_in(browser, token)
    assert statuses[30] == response.status_code == 429
    assert error(response)["code"] == "rate_limit_exceeded"
    assert int(response.headers["Retry-After"]) > 0


def test_throttle_fails_open_while_the_cache_is_down(
    browser: Client, firebase: FirebaseProject, settings, caplog
):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": "redis://127.0.0.1:1/0",
        }
    }

    assert sign_in(browser, firebase.token()).status_code == 200
    assert "Throttle sign-in is off" in caplog.text


def bearer(api: APIClient, header: str):
    return api.get("/api/me", headers={"Authorization": header})


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer a b", "bearer garbage", "Bearer é"]
)
def test_bad_bearer_token_is_401_with_a_challenge(api: APIClient, firebase, header):
    response = bearer(api, header)

    assert response.status_code == 401
    assert error(response)["code"] == "invalid_token"
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="tesslate", error="invalid_token"'


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Token x"])
def test_no_bearer_token_is_401_with_a_challenge(api: APIClient, header):
    response = bearer(api, header)

    assert response.status_code == 401
    assert error(response)["code"] == "not_authenticated"
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="tesslate"'


def test_bearer_token_signs_in_without_csrf(browser: Client, firebase: FirebaseProject):
    token = firebase.token("uid-9")

    response = browser.get("/api/me", headers={"Authorization": f"Bearer {token}"})

    assert response.status_code == 200
    assert response.json()["user"]["email"] == "uid-9@example.com"


def test_bad_bearer_token_is_not_saved_by_a_good_cookie(browser: Client, firebase: FirebaseProject):
    sign_in(browser, firebase.token())

    response = browser.get("/api/me", headers={"Authorization": "Bearer garbage"})

    assert response.status_code == 401
