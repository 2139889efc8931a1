"""The decision as a table: facts and a moment in, plan and reasons out. No database."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from plans.access import ACCESS_BY_STATUS, Access
from plans.decision import Facts, GrantFacts, Seat, SubscriptionFacts, decide
from plans.models import Plan
from plans.windows import Window

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
JOINED = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
PERIOD = Window(NOW - timedelta(days=10), NOW + timedelta(days=20))

FREE = Plan(pk=1, code="free", name="Free", rank=0, is_default=True)
PLUS = Plan(pk=2, code="plus", name="Plus", rank=10, grace_days=14)
PRO = Plan(pk=3, code="pro", name="Pro", rank=20, grace_days=14, grace_limit_percent=25)


def subscription(**changes: Any) -> SubscriptionFacts:
    given: dict[str, Any] = {"id": 7, "status": "active", "plan": PLUS, "period": PERIOD}
    return SubscriptionFacts(**{**given, **changes})


def facts(*subscriptions: SubscriptionFacts, **changes: Any) -> Facts:
    return Facts(FREE, JOINED, subscriptions=subscriptions, **changes)


def test_B35_free_user_without_stripe_objects_has_the_default_plan() -> None:
    answer = decide(facts(), NOW)
    assert (answer.plan, answer.source, answer.source_id) == (FREE, "default", None)
    assert answer.reasons[0].won


@pytest.mark.parametrize("status", sorted(ACCESS_BY_STATUS))
def test_every_status_gives_what_the_table_says(status: str) -> None:
    answer = decide(facts(subscription(status=status, past_due_since=NOW)), NOW)
    gives = ACCESS_BY_STATUS[status] is not Access.NONE
    assert answer.plan == (PLUS if gives else FREE)
    assert answer.reasons[1].counts is gives


def test_B01_trialing_has_the_plan_until_the_trial_ends() -> None:
    trial_end = NOW + timedelta(days=3)
    answer = decide(facts(subscription(status="trialing", trial_end=trial_end)), NOW)
    assert answer.plan == PLUS
    assert answer.changes_at == trial_end


def test_B07_past_due_keeps_the_plan_for_its_grace_days() -> None:
    since = NOW - timedelta(days=3)
    answer = decide(facts(subscription(status="past_due", past_due_since=since)), NOW)
    assert answer.plan == PLUS
    assert answer.grace_ends_at == since + timedelta(days=14)
    assert answer.changes_at == answer.grace_ends_at


def test_B07_grace_ends_without_any_event() -> None:
    since = NOW - timedelta(days=14)
    answer = decide(facts(subscription(status="past_due", past_due_since=since)), NOW)
    assert answer.plan == FREE
    assert answer.grace_ends_at is None
    assert answer.reasons[1].code == "grace_over"


def test_B07_grace_may_be_throttled() -> None:
    overdue = subscription(plan=PRO, status="past_due", past_due_since=NOW)
    assert decide(facts(overdue), NOW).limit_percent == 25


def test_B13_a_planned_end_comes_by_itself() -> None:
    ends_at = NOW + timedelta(days=2)
    planned = subscription(ends_at=ends_at)
    before = decide(facts(planned), NOW)
    after = decide(facts(planned), ends_at)
    assert (before.plan, before.changes_at) == (PLUS, ends_at)
    assert (after.plan, after.reasons[1].code) == (FREE, "ended")


def test_B14_unmapped_price_without_an_earlier_one_gives_nothing() -> None:
    answer = decide(facts(subscription(plan=None, price_is_mapped=False)), NOW)
    assert answer.plan == FREE
    assert answer.reasons[1].code == "unmapped_price"


def test_B14_unmapped_price_keeps_the_last_good_plan_and_says_so() -> None:
    answer = decide(facts(subscription(price_is_mapped=False)), NOW)
    assert answer.plan == PLUS
    assert "not mapped" in answer.reasons[1].text


def test_B20_of_two_subscriptions_the_highest_plan_counts() -> None:
    answer = decide(facts(subscription(id=1, plan=PLUS), subscription(id=2, plan=PRO)), NOW)
    assert (answer.plan, answer.source_id) == (PRO, 2)


def test_B20_canceling_one_leaves_the_other() -> None:
    two = facts(subscription(id=1), subscription(id=2, plan=PRO, status="canceled"))
    assert decide(two, NOW).source_id == 1


def test_B36_a_higher_grant_wins_over_a_subscription_and_ends_by_itself() -> None:
    grant = GrantFacts(5, PRO, NOW - timedelta(days=1), NOW + timedelta(days=1), "trial of Pro")
    both = facts(subscription(), grants=(grant,))
    during, after = decide(both, NOW), decide(both, grant.ends_at)
    assert (during.plan, during.source, during.source_id) == (PRO, "grant", 5)
    assert during.changes_at == grant.ends_at
    assert (after.plan, after.source) == (PLUS, "subscription")


def test_B36_a_grant_of_the_same_plan_yields_to_the_subscription() -> None:
    grant = GrantFacts(5, PLUS, NOW - timedelta(days=1), NOW + timedelta(days=90), "")
    assert decide(facts(subscription(), grants=(grant,)), NOW).source == "subscription"


def test_a_grant_to_come_is_a_planned_change() -> None:
    grant = GrantFacts(5, PRO, NOW + timedelta(days=1), NOW + timedelta(days=2), "")
    answer = decide(facts(grants=(grant,)), NOW)
    assert answer.plan == FREE
    assert answer.changes_at == grant.starts_at


def test_seats_go_to_the_first_members_and_the_rest_fall_back() -> None:
    seated = subscription(seat=Seat(11, "Acme", 2), quantity=2)
    standing = subscription(seat=Seat(12, "Acme", 3), quantity=2)
    assert decide(facts(seated), NOW).source == "organization"
    assert decide(facts(seated), NOW).source_id == 11
    assert decide(facts(standing), NOW).plan == FREE
    assert decide(facts(standing), NOW).reasons[1].code == "no_seat"


def test_a_closed_account_has_only_the_default_plan() -> None:
    answer = decide(facts(subscription(), account_closed=True), NOW)
    assert answer.plan == FREE
    assert answer.reasons[0].code == "account_closed"


def test_B22_the_window_is_the_plan_items_period() -> None:
    answer = decide(facts(subscription()), NOW)
    assert (answer.period_start, answer.period_end) == PERIOD


def test_the_free_window_counts_months_from_joining() -> None:
    answer = decide(facts(), NOW)
    assert answer.period_start == datetime(2026, 10, 31, 9, 30, tzinfo=UTC)
    assert answer.period_end == datetime(2026, 11, 30, 9, 30, tzinfo=UTC)
    assert answer.changes_at == answer.period_end


def test_B38_an_unknown_status_without_a_last_good_one_gives_nothing() -> None:
    assert decide(facts(subscription(status="", unknown_status="sparkling")), NOW).plan == FREE


def test_B38_an_unknown_status_keeps_the_last_good_one_and_says_so() -> None:
    answer = decide(facts(subscription(unknown_status="sparkling")), NOW)
    assert answer.plan == PLUS
    assert "'sparkling'" in answer.reasons[1].text


def test_C03_a_first_payment_on_its_way_gives_nothing_yet() -> None:
    answer = decide(facts(subscription(awaits_payment=True)), NOW)
    assert answer.plan == FREE
    assert answer.reasons[1].code == "awaiting_payment"


def test_reasons_are_data_that_staff_can_read() -> None:
    reason = decide(facts(subscription()), NOW).reasons[1].as_data()
    assert reason == {
        "source": "subscription",
        "source_id": 7,
        "plan": "plus",
        "counts": True,
        "won": True,
        "code": "active",
        "text": "Paid and running.",
        "until": None,
    }
