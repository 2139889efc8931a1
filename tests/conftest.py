"""The fixed cast: a customer (`user`), somebody else (`stranger`), and `staff`."""

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest
from django.core.cache import cache
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from plans.models import Plan
from tests.factories import PlanFactory, UserFactory
from tests.firebase import FirebaseProject, firebase_project

if TYPE_CHECKING:
    # Playwright costs every test process a quarter of a second.
    from playwright.sync_api import Browser


@pytest.fixture
def user(db) -> User:
    return UserFactory.create(email="alice@example.com", display_name="Alice")


@pytest.fixture
def stranger(db) -> User:
    return UserFactory.create(email="mallory@example.com", display_name="Mallory")


@pytest.fixture
def staff(db) -> User:
    return User.objects.create_superuser("staff@example.com", "staff-password")


@pytest.fixture
def free_plan(db) -> Plan:
    """What everyone has at least; whoever signs up needs it to be there."""
    return PlanFactory.create(code="free", name="Free", rank=0, is_default=True, rpm=20, tpm=20_000)


@pytest.fixture
def api() -> APIClient:
    return APIClient()


@pytest.fixture
def staff_client(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client


@pytest.fixture
def empty_cache() -> Iterator[None]:
    """Throttles and heartbeats of other tests are out of the way, and ours afterwards."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(scope="session")
def chromium_browser() -> Iterator["Browser"]:
    """One for all tests that need a real browser: Playwright runs once in a thread."""
    from tests.e2e.browser import HOW_TO_GET_ONE, chromium, do_without, executable

    if executable() is None:
        do_without(HOW_TO_GET_ONE)
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def firebase_server() -> Iterator[FirebaseProject]:
    with firebase_project() as project:
        yield project


_visits = count()


@pytest.fixture
def firebase(firebase_server: FirebaseProject, settings) -> FirebaseProject:
    """A Firebase project in its first state, and a product that remembers nothing of it."""
    firebase_server.reset()
    settings.FIREBASE_PROJECT_ID = "demo-tests"
    # The process keeps one verifier per address.
    settings.FIREBASE_CERTS_URL = f"{firebase_server.url}?visit={next(_visits)}"
    return firebase_server
