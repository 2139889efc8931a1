from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from llmkeys.models import AuditFinding, AuditRun, GatewayState, VirtualKey
from plans.entitlements import refresh_entitlements
from plans.models import StripeEvent
from tesslate.lib.cause import Cause
from tesslate.staffroom.attention import attention_for
from tesslate.staffroom.charts import charts
from tesslate.staffroom.dashboard import (
    groups,
    monthly_revenue_cents,
    revenue_changes,
    traffic_between,
)
from tesslate.staffroom.models import HourlyTraffic
from tesslate.staffroom.periods import chosen_period
from tesslate.staffroom.traffic import roll_up
from tests.factories import (
    CustomerFactory,
    GatewayModelFactory,
    PlanFactory,
    PriceFactory,
    SubscriptionFactory,
    UserFactory,
)
from tests.site.ledger import chat_request

TEST = Cause.system("test")


@pytest.fixture
def well(free_plan, empty_cache):
    """A product in which nothing is wrong."""
    free_plan.gateway_models.add(GatewayModelFactory.create())
    return free_plan


def event(state: str, **columns) -> StripeEvent:
    number = StripeEvent.objects.count()
    defaults = {"event_id": f"evt_{number}", "type": "invoice.paid", "livemode": False}
    return StripeEvent.objects.create(
        **{**defaults, "created_at": timezone.now(), "state": state, **columns}
    )


def traffic(at: datetime, **columns) -> HourlyTraffic:
    defaults: dict[str, object] = dict.fromkeys(
        ("errors", "refused", "abandoned", "prompt_tokens", "completion_tokens", "cost"), 0
    )
    defaults |= {"model": "small", "plan_code": "free", "requests": 1}
    hour = at.replace(minute=0, second=0, microsecond=0)
    return HourlyTraffic.objects.create(hour=hour, **{**defaults, **columns})


def whats(staff) -> list[str]:
    return [item.what for item in attention_for(staff)]


def test_when_all_is_well_the_page_says_so(well, staff_client):
    assert "Nothing. Billing, keys and gateway agree" in staff_client.get("/admin/").text


def test_events_of_the_other_mode_are_shown_while_they_keep_coming(well, staff):
    event("ignored", outcome="ignored:mode", received_at=timezone.now() - timedelta(days=8))
    assert attention_for(staff) == []
    event("ignored", outcome="ignored:mode")
    (item,) = attention_for(staff)
    assert item.what == "Events of Stripe's other mode arrive"
    assert item.url.endswith("outcome__exact=ignored:mode")


def test_a_customer_who_pays_twice_and_a_status_nobody_knows_are_shown(well, staff):
    customer = CustomerFactory.create(stripe_customer_id="cus_twice")
    price = PriceFactory.create()
    for status in ("active", "sparkling"):
        SubscriptionFactory.create(customer=customer, price=price, status=status)
    assert whats(staff)[:2] == [
        "A subscription has a status we do not know",
        "A customer pays two subscriptions",
    ]


def test_dead_events_come_with_their_number_and_age(well, staff):
    old = timezone.now() - timedelta(hours=3)
    event("dead", received_at=old)
    event("dead")
    (item,) = attention_for(staff)
    assert item.what == "Stripe events failed for good"
    assert item.who.startswith("2 events")
    assert item.since == old
    assert item.url.endswith("state__exact=dead")


def test_unmapped_prices_lead_to_the_page_that_maps_them(well, staff, staff_client):
    SubscriptionFactory.create(price=None, last_good_price=None, stripe_price_id="price_new")
    (item,) = attention_for(staff)
    assert item.what == "Price price_new belongs to no plan"
    assert "1 subscription" in staff_client.get(item.url).text


def test_keys_that_were_given_up_lead_to_their_customer(well, user, staff):
    refresh_entitlements([user.pk], cause=TEST)
    VirtualKey.objects.filter(user=user).update(parked_at=timezone.now(), last_error="refused")
    (item,) = attention_for(staff)
    assert item.what == "Keys given up after errors"
    assert item.url == f"/admin/customers/{user.pk}"


def test_keys_may_be_behind_for_a_moment_only(well, user, staff):
    refresh_entitlements([user.pk], cause=TEST)
    assert whats(staff) == []
    VirtualKey.objects.filter(user=user).update(dirty_since=timezone.now() - timedelta(hours=1))
    assert whats(staff) == ["Keys behind their plan"]


def test_a_gateway_out_of_reach_comes_first(well, staff):
    event("dead", received_at=timezone.now())
    GatewayState.objects.create(
        url="http://gateway",
        opened_at=timezone.now() - timedelta(minutes=9),
        reason="unreachable",
    )
    assert whats(staff)[0] == "The gateway cannot be reached"


def audited(*findings: str) -> None:
    """An audit that found these, each as ``kind alias``."""
    run = AuditRun.objects.create(state="finished", finished_at=timezone.now())
    for number, finding in enumerate(findings):
        kind, _, alias = finding.partition(" ")
        run.counts[kind] = run.counts.get(kind, 0) + 1
        AuditFinding.objects.create(run=run, kind=kind, alias=alias, gateway_id=f"{number:064}")
    run.save()


def test_keys_that_nobody_accounts_for_are_shown_once_however_often_they_were_found(
    well, staff, staff_client
):
    for _ in range(4):
        audited("foreign stray", "foreign", "orphan tesslate-u9")
    posing, foreign = attention_for(staff)
    assert (posing.level, posing.who) == ("bad", "tesslate-u9 (000000000000…)")
    assert (foreign.level, foreign.who) == ("warn", "2 keys, the first: stray (000000000000…)")
    assert foreign.since == AuditRun.objects.earliest("pk").started_at
    found = staff_client.get(foreign.url).context["cl"]
    assert found.result_count == 2
    ever = staff_client.get(f"{foreign.url}&when=ever").context["cl"]
    assert ever.result_count == 8
    assert figures_of("Machinery", timezone.now())["Drift"][0] == "1"


def test_a_key_that_was_changed_behind_our_back_is_shown(well, staff):
    audited("drifted tesslate-u1")
    assert whats(staff) == ["Keys changed or lost behind our back"]


def test_public_plans_need_models_and_prices(well, staff):
    PlanFactory.create(code="empty", name="Empty")
    assert whats(staff) == [
        "Empty has no model that works",
        "Empty is on the price list without a price",
    ]


def test_items_are_for_those_who_may_see_them(well, colleague):
    event("dead")
    assert colleague("support").get("/admin/").context["items"] == []
    assert len(colleague("billing").get("/admin/").context["items"]) == 1


def test_revenue_counts_seats_and_twelfths(well):
    monthly = PriceFactory.create(unit_amount=1900)
    yearly = PriceFactory.create(unit_amount=12_000, interval="year")
    SubscriptionFactory.create(price=monthly, quantity=3)
    SubscriptionFactory.create(price=yearly)
    SubscriptionFactory.create(price=monthly, status="canceled")
    SubscriptionFactory.create(price=monthly, collection_paused=True)
    SubscriptionFactory.create(price=PriceFactory.create(currency="eur"))
    assert monthly_revenue_cents() == 3 * 1900 + 1000


def test_the_roll_up_counts_each_request_once(well, user):
    GatewayModelFactory.create(name="small")
    noon = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    chat_request(user, started_at=noon, cost="0.5")
    chat_request(user, started_at=noon, outcome="refused", cost=None, ttfb_ms=None)
    chat_request(user, started_at=noon + timedelta(minutes=40), outcome="failed")
    for _ in range(2):
        roll_up(at=noon + timedelta(hours=1))
    assert HourlyTraffic.objects.count() == 2
    day = traffic_between(noon - timedelta(days=1), noon + timedelta(days=1))
    assert (day.requests, day.refused, day.errors) == (3, 1, 1)
    assert day.error_rate == 0.5


def test_names_that_customers_make_up_are_one_line(well, user):
    noon = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    GatewayModelFactory.create(name="small")
    refused: dict[str, Any] = {
        "started_at": noon,
        "outcome": "refused",
        "cost": None,
        "ttfb_ms": None,
    }
    for name in ("made-up-1", "made-up-2", "small"):
        chat_request(user, model=name, **refused)
    chat_request(user, model="gone-since", started_at=noon)
    roll_up(at=noon)
    rows = HourlyTraffic.objects.values_list("model", "requests").order_by("model")
    assert list(rows) == [("gone-since", 1), ("small", 1), ("unknown", 2)]
    spend = charts(chosen_period({"range": "7"}, noon))[0]
    assert [name for name, _ in spend.series] == ["gone-since"]


def test_rows_that_arrive_late_are_counted(well, user):
    noon = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    chat_request(user, started_at=noon)
    roll_up(at=noon + timedelta(minutes=30))
    chat_request(user, started_at=noon + timedelta(minutes=10))
    roll_up(at=noon + timedelta(hours=1))
    assert HourlyTraffic.objects.get().requests == 2


def test_figures_of_an_empty_product(well):
    values = {
        (group.title, figure.label): figure.value
        for group in groups(timezone.now())
        for figure in group.figures
    }
    assert values["Customers", "Monthly revenue"] == "$0"
    assert values["Today", "Error rate"] == "0.0%"
    assert values["This month", "Spend"] == "$0.00"
    assert values["Machinery", "Drift"] == "0"


def figures_of(title: str, at: datetime) -> dict[str, tuple[str, str]]:
    (found,) = (group.figures for group in groups(at) if group.title == title)
    return {figure.label: (figure.value, figure.trend) for figure in found}


def test_today_is_measured_against_the_same_hours_of_yesterday(well):
    noon = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
    traffic(noon, requests=30)
    traffic(noon - timedelta(days=1, hours=2), requests=20)
    traffic(noon - timedelta(days=1) + timedelta(hours=3), requests=500)
    assert figures_of("Today", noon)["Requests"] == ("30", "+50%")


def test_the_error_rate_says_how_many_failed_of_those_let_through(well):
    noon = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
    traffic(noon, requests=45, refused=6, errors=2)
    assert figures_of("Today", noon)["Error rate"] == ("5.1%", "2 of 39 failed")


def test_the_month_is_measured_against_as_much_of_the_last(well):
    at = datetime(2026, 3, 31, 12, 30, tzinfo=UTC)
    traffic(at, requests=60, cost=3)
    traffic(datetime(2026, 2, 28, 23, tzinfo=UTC), requests=80, cost=4)
    month = figures_of("This month", at)
    assert month["Requests"] == ("60", "-25%")
    assert month["Spend"] == ("$3.00", "-25%")


def test_revenue_that_came_and_went(well):
    price = PriceFactory.create(unit_amount=1900)
    month_ago = timezone.now() - timedelta(days=30)
    SubscriptionFactory.create(price=price, started_at=timezone.now())
    SubscriptionFactory.create(price=price, started_at=month_ago - timedelta(days=1))
    SubscriptionFactory.create(
        price=price,
        quantity=2,
        status="canceled",
        started_at=month_ago - timedelta(days=9),
        ended_at=timezone.now(),
    )
    assert revenue_changes(month_ago) == (1900, 3800)


def test_charts_keep_the_largest_models_and_sum_up_the_rest(well):
    now = timezone.now()
    for number in range(12):
        traffic(now, model=f"model-{number:02}", cost=number)
    spend = charts(chosen_period({"range": "7"}, now))[0]
    assert len(spend.labels) == 7
    assert [name for name, _ in spend.series][:2] == ["model-11", "model-10"]
    assert spend.series[-1] == ("others", [0, 0, 0, 0, 0, 0, 0 + 1 + 2 + 3 + 4])


def test_a_short_range_is_drawn_by_the_hour(well):
    now = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
    traffic(now, cost=5)
    spend = charts(chosen_period({"range": "1"}, now))[0]
    assert spend.labels[12] == "12:00"
    assert spend.series == [("small", [*[0] * 12, 5, *[0] * 11])]


def test_hours_with_many_requests_weigh_more_in_a_days_latency(well):
    now = datetime(2026, 3, 10, 12, 30, tzinfo=UTC)
    traffic(now, requests=90, ttfb_p50_ms=100, ttfb_p95_ms=200)
    traffic(now, model="slow", requests=10, ttfb_p50_ms=1100, ttfb_p95_ms=2200)
    latency = charts(chosen_period({"range": "7"}, now))[2]
    assert [values[-2:] for _, values in latency.series] == [[None, 200], [None, 400]]


@pytest.mark.parametrize(
    ("given", "first", "last"),
    [
        ({}, "2026-02-09", "2026-03-10"),
        ({"range": "7"}, "2026-03-04", "2026-03-10"),
        ({"range": "1000000"}, "2026-02-09", "2026-03-10"),
        ({"from": "2026-01-05", "to": "2026-01-09"}, "2026-01-05", "2026-01-09"),
        ({"from": "2026-01-09", "to": "2026-01-05"}, "2026-01-05", "2026-01-09"),
        ({"from": "2026-03-09", "to": "2027-01-01"}, "2026-03-09", "2026-03-10"),
        ({"from": "0001-01-01", "to": "2026-03-10"}, "2025-03-10", "2026-03-10"),
        ({"from": "yesterday", "to": "<script>"}, "2026-02-09", "2026-03-10"),
    ],
)
def test_ranges(given, first, last):
    period = chosen_period(given, datetime(2026, 3, 10, 12, 30, tzinfo=UTC))
    assert (str(period.first), str(period.last)) == (first, last)


@pytest.mark.parametrize("chosen", ["7", "90", "nonsense", "-1"])
def test_any_range_opens(well, staff_client, chosen):
    assert staff_client.get("/admin/", {"range": chosen}).status_code == 200


def test_the_front_page_shows_its_numbers_without_the_cache(well, staff_client, settings):
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": "redis://127.0.0.1:1"}}
    response = staff_client.get("/admin/")
    assert response.status_code == 200
    assert response.context["groups"]
    assert response.context["charts"]


def trouble(count: int) -> None:
    for number in range(count):
        user = UserFactory.create()
        CustomerFactory.create(user=user)
        refresh_entitlements([user.pk], cause=TEST)
        VirtualKey.objects.filter(user=user).update(parked_at=timezone.now())
        event("dead", type=f"type.{number}")
        traffic(timezone.now(), model=user.email)


def test_the_front_page_asks_the_same_number_of_questions_however_much_there_is(well, staff_client):
    asked = []
    for count in (2, 15):
        trouble(count)
        cache.clear()
        with CaptureQueriesContext(connection) as queries:
            staff_client.get("/admin/")
        asked.append(len(queries))
    assert asked[0] == asked[1]
    assert asked[0] < 50
