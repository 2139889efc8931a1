"""Usage by the gateway's books: own, an organization's, and as CSV."""

import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from llmkeys import usage_books
from llmkeys.usage_books import Attribution, credit_usage
from llmkeys.usage_log import read_row
from sandbox.litellm.routes_spend import shown
from tesslate.lib.cause import Cause
from tests.factories import MembershipFactory, UserFactory
from tests.llmkeys.spendlog import NOON, call_of

pytestmark = pytest.mark.django_db


def booked(
    user: Any, at: datetime = NOON, organization_id: int | None = None, **fields: Any
) -> None:
    """A call of a thousandth of a dollar on the gateway's books."""
    row = read_row(shown(call_of(None, at, **fields), zone="Z"))
    whose = Attribution(user.pk, None, organization_id, "free")
    usage_books.write_calls([(row, whose)], at=at)


def get(api: Any, user: Any, path: str = "/api/usage", accept: str = "*/*", **query: str) -> Any:
    api.force_authenticate(user)
    window = {"from": "2026-11-01", "to": "2026-12-01", "source": "gateway"}
    return api.get(path, {**window, **query}, headers={"Accept": accept})


@pytest.mark.parametrize("group", ["model", "day", "hour", "plan", "provider"])
def test_every_grouping_of_the_gateways_books_adds_up(api: Any, user: Any, group: str) -> None:
    booked(user)
    booked(user, NOON + timedelta(hours=30), model_group="large", provider="groq")
    booked(UserFactory.create())
    body = get(api, user, group_by=group).json()
    assert body["total"]["requests"] == 2
    assert Decimal(body["total"]["cost"]) == Decimal("0.002")
    assert sum(Decimal(row["cost"]) for row in body["data"]) == Decimal("0.002")
    assert len(body["data"]) == (1 if group == "plan" else 2)
    assert all(group in row for row in body["data"])


def test_credits_stand_beside_costs(api: Any, user: Any) -> None:
    booked(user)
    credit_usage(user=user, amount=Decimal("0.25"), reason="x", cause=Cause.system("test"), at=NOON)
    total = get(api, user).json()["total"]
    assert (Decimal(total["cost"]), Decimal(total["credited"])) == (
        Decimal("0.001"),
        Decimal("0.25"),
    )


def test_U17_days_of_the_gateways_books_are_the_callers_too(api: Any, user: Any) -> None:
    booked(user, datetime(2026, 11, 10, 23, 30, tzinfo=UTC))
    body = get(api, user, group_by="day", tz="Asia/Tokyo").json()
    assert body["data"][0]["day"] == "2026-11-11"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"source": "rumour"}, "source"),
        ({"group_by": "outcome"}, "group_by"),
        ({"group_by": "user"}, "group_by"),
    ],
)
def test_what_the_books_do_not_tell_is_refused(
    api: Any, user: Any, query: dict[str, str], param: str
) -> None:
    answer = get(api, user, **query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_an_owner_sees_what_each_member_used_on_the_organizations_seats(
    api: Any, user: Any, free_plan: Any
) -> None:
    owner = MembershipFactory.create(user=user, role="owner")
    member = MembershipFactory.create(organization=owner.organization)
    booked(member.user, organization_id=owner.organization_id)
    booked(user, organization_id=owner.organization_id)
    # Privately, and in another organization.
    booked(member.user)
    booked(member.user, organization_id=MembershipFactory.create().organization_id)
    path = f"/api/organizations/{owner.organization_id}/usage"
    body = get(api, user, path, group_by="user").json()
    assert [(row["user"], row["requests"]) for row in body["data"]] == [
        (email, 1) for email in sorted([user.email, member.user.email])
    ]
    assert body["total"]["requests"] == 2


def test_members_strangers_and_typos_see_no_organization(
    api: Any, user: Any, stranger: Any, staff: Any, free_plan: Any
) -> None:
    seat = MembershipFactory.create(user=user)
    path = f"/api/organizations/{seat.organization_id}/usage"
    assert get(api, user, path).status_code == 404
    assert get(api, stranger, path).status_code == 404
    assert get(api, staff, path).status_code == 200
    assert get(api, staff, "/api/organizations/999999/usage").status_code == 404


def test_usage_comes_as_csv(api: Any, user: Any) -> None:
    booked(user, model_group="=cmd")
    booked(user, model_group="small")
    answer = get(api, user, accept="text/csv")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(answer.content.decode().splitlines()))
    assert [row["model"] for row in rows] == ["'=cmd", "small", "total"]
    assert [row["requests"] for row in rows] == ["1", "1", "2"]


def test_an_error_stays_json_where_csv_was_asked_for(api: Any, user: Any) -> None:
    answer = get(api, user, accept="text/csv", group_by="mood")
    assert answer.status_code == 400
    assert b'"group_by"' in answer.content
