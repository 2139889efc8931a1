"""The fixed cast: a customer (`user`), somebody else (`stranger`), and `staff`."""

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts.models import User
from tests.factories import UserFactory


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
def api() -> APIClient:
    return APIClient()


@pytest.fixture
def staff_client(client: Client, staff: User) -> Client:
    client.force_login(staff)
    return client
