"""The people of a demo come back whatever was done to them."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from accounts.models import User
from accounts.services import delete_account
from sandbox.firebase.app import CERTIFICATES_PATH, create_app
from sandbox.seed import PASSWORD, seed_customer
from sandbox.serving import served
from tesslate.lib.cause import Cause
from tests.firebase import PROJECT

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]
EMAIL = "free@example.com"
KEY = "web-key"


@pytest.fixture
def firebase(settings: Any) -> Iterator[httpx.Client]:
    with (
        served(create_app(project_id=PROJECT, api_key=KEY)) as url,
        httpx.Client(base_url=url, params={"key": KEY}) as http,
    ):
        settings.FIREBASE_AUTH_URL = url
        settings.FIREBASE_API_KEY = KEY
        settings.FIREBASE_CERTS_URL = url + CERTIFICATES_PATH
        yield http


def sign_in(firebase: httpx.Client) -> httpx.Response:
    body = {"email": EMAIL, "password": PASSWORD, "returnSecureToken": True}
    return firebase.post("/v1/accounts:signInWithPassword", json=body)


def test_nobody_is_made_twice(firebase: httpx.Client) -> None:
    assert seed_customer(EMAIL, "free") == seed_customer(EMAIL, "free")
    assert User.objects.get().email == EMAIL


def test_a_changed_password_is_the_one_on_the_screen_again(firebase: httpx.Client) -> None:
    seed_customer(EMAIL, "free")
    token = sign_in(firebase).json()["idToken"]
    firebase.post("/v1/accounts:update", json={"idToken": token, "password": "another-one"})
    assert sign_in(firebase).is_error
    seed_customer(EMAIL, "free")
    assert sign_in(firebase).is_success


def test_whose_account_was_closed_comes_as_somebody_new(firebase: httpx.Client) -> None:
    seed_customer(EMAIL, "free")
    closed = User.objects.get()
    delete_account(user_id=closed.pk, cause=Cause.system("test"))
    seed_customer(EMAIL, "free")
    assert User.objects.exclude(pk=closed.pk).get().email == EMAIL
    assert sign_in(firebase).is_success
