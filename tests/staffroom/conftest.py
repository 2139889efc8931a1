from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from accounts.models import User


@pytest.fixture
def colleague(db) -> Callable[[str], Client]:
    """A signed-in member of staff with one role."""

    def make(role: str) -> Client:
        user = User.objects.create_user(f"{role}@example.com", "colleague-password", is_staff=True)
        user.groups.add(Group.objects.get(name=role))
        client = Client()
        client.force_login(user)
        return client

    return make
