"""Old calls leave the gateway's books, and nothing that anybody is told or billed changes."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from chatproxy.models import UsageCheck
from chatproxy.usage_retention import drop_entries
from llmkeys import usage_books
from llmkeys.models import UsageDay, UsageEntry, UsageHour
from llmkeys.usage_books import Attribution, EntriesGone, credit_usage
from llmkeys.usage_log import read_row
from plans.models import BillingProblem, OverageReport, OverageWindow
from sandbox.litellm.routes_spend import shown
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory
from tests.llmkeys.spendlog import call_of

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 20, 4, 41, tzinfo=UTC)
OLD = datetime(2026, 8, 1, 12, tzinfo=UTC)
KEPT = timedelta(days=90)


def used(user: User, at: datetime, *, calls: int = 1) -> list[Any]:
    made = [
        (
            read_row(shown(call_of(None, at + timedelta(seconds=n)), zone="Z")),
            Attribution(user.pk, None, None, "pro"),
        )
        for n in range(calls)
    ]
    usage_books.write_calls(made, at=at)
    return made


def compared(at: datetime, **fields: Any) -> UsageCheck:
    given = {"checked_at": at, "settled_until": at + timedelta(days=2), **fields}
    return UsageCheck.objects.create(day=at.date(), **given)


def sums() -> list[Any]:
    return [
        list(model.objects.order_by(unit).values_list(unit, "user", "requests", "cost", "credited"))
        for model, unit in ((UsageHour, "hour"), (UsageDay, "day"))
    ]


def drop(**options: Any) -> int:
    return drop_entries(older_than=KEPT, now=NOW, **options)


@pytest.fixture
def window(user: User) -> OverageWindow:
    """Reported to its end."""
    return OverageWindow.objects.create(
        customer=CustomerFactory.create(user=user),
        user=user,
        plan_code="pro",
        period_start=OLD - timedelta(days=9),
        period_end=OLD + timedelta(days=21),
        included_cents=0,
        allowance_cents=100,
        due_at=None,
    )


def test_old_calls_go_and_every_sum_stays(user: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(usage_books, "LET_GO_AT_ONCE", 2)
    used(user, OLD, calls=5)
    used(user, NOW)
    compared(OLD)
    before = sums()

    assert drop() == 5
    assert [entry.started_at for entry in UsageEntry.objects.all()] == [NOW]
    assert sums() == before
    assert drop() == 0


def test_the_day_that_the_horizon_lies_in_stays_whole(user: User) -> None:
    horizon = (NOW - KEPT).replace(hour=1)
    used(user, horizon)
    compared(horizon)

    assert drop() == 0


def test_what_is_read_again_is_not_counted_again(user: User) -> None:
    calls = used(user, OLD)
    compared(OLD)
    before = sums()
    drop()

    assert usage_books.write_calls(calls, at=NOW).entries == 0
    assert sums() == before


def test_a_day_that_lost_its_entries_is_not_counted_anew(user: User) -> None:
    used(user, OLD)
    used(user, NOW)
    compared(OLD)
    credit_usage(user=user, amount=Decimal(1), reason="x", cause=Cause.system("test"), at=OLD)
    before = sums()
    drop()

    with pytest.raises(EntriesGone, match="2026-08-01"):
        usage_books.rebuild_day(OLD.date())
    assert min(usage_books.days_with_entries()) == (NOW - KEPT).date()
    usage_books.rebuild(usage_books.days_with_entries())
    assert sums() == before


def test_credits_of_staff_stay(user: User) -> None:
    used(user, OLD)
    compared(OLD)
    credit_usage(user=user, amount=Decimal(1), reason="x", cause=Cause.system("test"), at=OLD)

    drop()

    assert [entry.source for entry in UsageEntry.objects.all()] == ["credit"]


def test_calls_of_a_window_that_is_reported_go(user: User, window: OverageWindow) -> None:
    used(user, OLD)
    window.due_at = None
    window.save()
    compared(OLD)

    assert drop() == 1


def unsent(window: OverageWindow, state: str) -> None:
    OverageReport.objects.create(
        window=window, identifier="x", first_unit=0, units=1, occurred_at=OLD, state=state
    )


def disputed(window: OverageWindow) -> None:
    BillingProblem.objects.create(
        kind=BillingProblem.Kind.OVERAGE_DIFFERS, subject="x", customer=window.customer
    )


@pytest.mark.parametrize(
    "open_it",
    [
        lambda window: OverageWindow.objects.update(due_at=timezone.now()),
        lambda window: OverageWindow.objects.update(period_end=NOW - timedelta(days=2)),
        lambda window: unsent(window, "pending"),
        lambda window: unsent(window, "refused"),
        disputed,
    ],
    ids=["not measured", "late calls may come", "not sent", "refused by Stripe", "disputed"],
)
def test_calls_of_a_window_that_is_open_stay(
    user: User, stranger: User, window: OverageWindow, open_it: Any
) -> None:
    used(user, OLD)
    used(stranger, OLD + timedelta(minutes=1))
    OverageWindow.objects.update(due_at=None)
    compared(OLD)
    open_it(window)

    assert drop() == 1
    assert [entry.user for entry in UsageEntry.objects.all()] == [user]


@pytest.mark.parametrize(
    "check",
    [
        None,
        {"unexplained_requests": 1},
        {"settled_until": OLD + timedelta(hours=1)},
    ],
    ids=["never compared", "differs", "compared half"],
)
def test_days_whose_books_are_not_reconciled_stay_as_long_as_the_ledger(
    user: User, settings: Any, check: dict[str, Any] | None
) -> None:
    used(user, OLD)
    if check is not None:
        compared(OLD, **check)

    assert drop() == 0
    settings.CHAT_LEDGER_DAYS = 100
    assert drop() == 1
