"""The half-minute pass over budgets and overage with many of both: with no news, with the usage of
a hundred customers, and the hourly look at everything.

Baseline of each: the same pass with a hundredth of the customers. BENCH_SPENDERS (100,000) changes
the size: so many customers with a budget, and so many with paid overage.
"""

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal

from bench.lib.result import Result, compared
from bench.staff import database

SPENDERS = int(os.environ.get("BENCH_SPENDERS", "100000"))
SHARE = 100
BUSY = 100
BATCH = 5000


def results() -> Iterator[Result]:
    with database():
        from plans.seeding import seed_plans

        seed_plans()
        few = SPENDERS // SHARE
        _fill(1, few)
        baseline = _passes(few)
        _fill(few + 1, SPENDERS)
        yield Result("customers with budget and overage", SPENDERS, "rows", few)
        for name, seconds in _passes(SPENDERS).items():
            yield compared(name, seconds * 1000, "ms", baseline[name] * 1000)


def _fill(first: int, last: int) -> None:
    """Customers amid their period, all of whom have used something of it."""
    from django.db import connection
    from django.utils import timezone

    from accounts.models import User
    from llmkeys.models import SpendBudget, UsageHour
    from plans.models import CurrentEntitlement, Customer, OverageWindow, Plan

    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    period = {"period_start": hour - timedelta(days=10), "period_end": hour + timedelta(days=20)}
    plan = Plan.objects.get(is_default=True)
    ids = range(first, last + 1)
    User.objects.bulk_create(
        (User(pk=n, email=f"u{n}@bench.example", firebase_uid=f"u{n}") for n in ids), BATCH
    )
    CurrentEntitlement.objects.bulk_create(
        (
            CurrentEntitlement(
                user_id=n,
                plan=plan,
                source="subscription",
                overage_cents=5000,
                decided_at=hour,
                **period,
            )
            for n in ids
        ),
        BATCH,
    )
    Customer.objects.bulk_create(
        (Customer(pk=n, user_id=n, overage_cap_cents=5000) for n in ids), BATCH
    )
    OverageWindow.objects.bulk_create(
        (
            OverageWindow(
                customer_id=n,
                user_id=n,
                plan_code=plan.code,
                included_cents=100,
                allowance_cents=5000,
                due_at=None,
                **period,
            )
            for n in ids
        ),
        BATCH,
    )
    SpendBudget.objects.bulk_create(
        (SpendBudget(user_id=n, amount=100, is_hard=True) for n in ids), BATCH
    )
    UsageHour.objects.bulk_create(
        (
            UsageHour(
                hour=hour - timedelta(hours=h), user_id=n, plan_code=plan.code, model="m", cost=1
            )
            for n in ids
            for h in (1, 2)
        ),
        BATCH,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _passes(customers: int) -> dict[str, float]:
    from llmkeys import overage, spend_budgets

    def both() -> None:
        overage.measure()
        spend_budgets.evaluate()

    def everything() -> None:
        overage.measure_all()
        spend_budgets.evaluate_all()

    everything()  # all of them are new
    both()
    found = {"pass without news": _timed(both)}
    _use(customers)
    found[f"pass after usage of {BUSY} customers"] = _timed(both)
    found["look at everything"] = _timed(everything)
    return found


def _use(customers: int) -> None:
    from django.utils import timezone

    from llmkeys import usage_books
    from llmkeys.usage_books import Attribution
    from llmkeys.usage_log import LoggedCall

    at = timezone.now()
    calls = [
        (
            LoggedCall(
                external_id=f"bench-{customers}-{n}",
                key_hash="",
                call_id="",
                team_id="",
                started_at=at - timedelta(minutes=1),
                ended_at=at,
                model="basic-chat",
                provider_model="",
                provider="",
                failed=False,
                error_code="",
                prompt_tokens=1,
                completion_tokens=1,
                cost=Decimal("0.01"),
                is_unpriced=False,
            ),
            Attribution(1 + n * (customers // BUSY), None, None, "free"),
        )
        for n in range(BUSY)
    ]
    usage_books.write_calls(calls, at=at)


def _timed(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
