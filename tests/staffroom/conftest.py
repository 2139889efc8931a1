from collections.abc import Callable

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from accounts.models import User
from plans.models import StripeEvent


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


@pytest.fixture
def events(db) -> list[StripeEvent]:
    """Five that failed for good."""
    return [
        StripeEvent.objects.create(
            event_id=f"evt_{number}",
            type="invoice.paid",
            livemode=False,
            created_at=timezone.now(),
            state="dead",
        )
        for number in range(5)
    ]
