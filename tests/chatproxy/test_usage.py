"""The usage API, from rows of our own ledger."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from chatproxy.exchange import new_exchange
from chatproxy.models import ChatRequest
from chatproxy.selectors import usage_in_period
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
DAY = datetime(2026, 11, 10, 12, tzinfo=UTC)


def spent(user, at=DAY, **fields):
    values = {
        "plan_code": "free",
        "model": "basic",
        "client": "chat",
        "outcome": "completed",
        "status": 200,
        "duration_ms": 5,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cost": Decimal("0.001"),
        **fields,
    }
    identity = uuid.UUID(new_exchange("chat").id)
    return ChatRequest.objects.create(id=identity, started_at=at, user=user, **values)


def get(api, user, path="/api/usage", **query):
    api.force_authenticate(user)
    window = {"from": "2026-11-01", "to": "2026-12-01", **query}
    return api.get(path, window)


def test_totals_and_groups(api, user):
    spent(user)
    spent(user, model="big", prompt_tokens=100, cost=None)
    spent(user, outcome="refused", status=429, prompt_tokens=0, completion_tokens=0, cost=None)
    body = get(api, user).json()
    assert [(row["model"], row["total_tokens"]) for row in body["data"]] == [
        ("basic", 15),
        ("big", 105),
    ]
    total = body["total"]
    assert (total["requests"], total["refused"], total["total_tokens"]) == (2, 1, 120)
    assert Decimal(total["cost"]) == Decimal("0.001")
    assert total["unpriced"] == 1


@pytest.mark.parametrize("group", ["model", "day", "plan", "outcome"])
def test_every_grouping_adds_up(api, user, group):
    spent(user)
    spent(user, at=DAY + timedelta(days=2), plan_code="pro", outcome="abandoned", model="big")
    body = get(api, user, group_by=group).json()
    assert len(body["data"]) == 2
    assert sum(row["total_tokens"] for row in body["data"]) == body["total"]["total_tokens"]


def test_U17_days_are_those_of_the_callers_time_zone(api, user):
    spent(user, at=datetime(2026, 11, 10, 23, 30, tzinfo=UTC))
    assert get(api, user, group_by="day").json()["data"][0]["day"] == "2026-11-10"
    there = get(api, user, group_by="day", tz="Asia/Tokyo").json()
    assert there["data"][0]["day"] == "2026-11-11"


def test_U06_a_request_belongs_to_the_window_in_which_it_began(user):
    spent(user, at=datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC), duration_ms=600_000)
    december = datetime(2026, 12, 1, tzinfo=UTC)
    assert usage_in_period(user, december - timedelta(days=30), december).requests == 1
    assert usage_in_period(user, december, december + timedelta(days=31)).requests == 0


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"from": "yesterday"}, "from"),
        ({"to": "2026-13-40"}, "to"),
        ({"from": "2020-01-01"}, "from"),
        ({"from": "0001-01-01T00:00:00+20:00"}, "from"),
        ({"group_by": "mood"}, "group_by"),
        ({"tz": "Mars/Olympus"}, "tz"),
        ({"tz": "../etc/passwd"}, "tz"),
    ],
)
def test_nonsense_is_refused(api, user, query, param):
    response = get(api, user, **query)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_moments_with_a_zone_are_understood(api, user):
    spent(user)
    body = get(api, user, **{"from": "2026-11-10T11:00:00+00:00", "to": "2026-11-10T13:00:00Z"})
    assert body.json()["total"]["requests"] == 1


def test_offsets_that_no_place_has_are_understood(api, user):
    spent(user)
    window = {"from": "2026-11-10T08:00:00-20:52", "to": "2026-11-12T00:00:00+20:52"}
    assert get(api, user, **window).json()["total"]["requests"] == 0


def test_the_default_window_is_the_billing_period(api, user, free_plan):
    spent(user, at=timezone.now())
    spent(user, at=timezone.now() - timedelta(days=200))
    api.force_authenticate(user)
    assert api.get("/api/usage").json()["total"]["requests"] == 1


def test_another_users_usage_is_for_that_user_and_staff(api, user, stranger, staff):
    spent(user)
    path = f"/usage/{user.pk}"
    assert get(api, user, path).json()["total"]["requests"] == 1
    assert get(api, staff, path).json()["total"]["requests"] == 1
    assert get(api, stranger, path).status_code == 404
    assert get(api, staff, "/usage/999999").status_code == 404


def test_own_usage_holds_nobody_elses(api, user):
    spent(UserFactory.create())
    assert get(api, user).json()["total"]["requests"] == 0


def test_nobody_reads_usage_without_signing_in(api):
    assert api.get("/api/usage").status_code == 401


@pytest.mark.parametrize(
    "name", ["req_x", "req_" + "f" * 32, "req_0a1b2c3d4e5f4a6b8c7d9e0f1a2b3c4d", "req_"]
)
def test_a_receipt_that_cannot_be_is_not_found(api, user, name):
    api.force_authenticate(user)
    assert api.get(f"/api/usage/requests/{name}").status_code == 404
