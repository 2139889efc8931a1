"""Margins: revenue as Stripe has it less cost as the gateway has it, to the cent."""

import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from chatproxy.exchange import new_exchange
from chatproxy.models import ChatRequest
from chatproxy.usage import import_usage
from llmkeys import gateway, usage_books
from llmkeys.models import VirtualKey
from llmkeys.provisioning import new_key
from llmkeys.usage_books import Attribution
from llmkeys.usage_log import read_row
from plans import revenue
from plans.models import Plan, RevenueInvoice, RevenueItem
from plans.stripe_client import Stripe, connected_to
from sandbox.litellm.routes_spend import shown
from sandbox.stripe.api import Api
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.inprocess import InProcessHTTPClient
from tesslate.lib.cause import Cause
from tesslate.margin import figures
from tesslate.margin.figures import split
from tesslate.margin.what_if import Change, what_if
from tests.factories import (
    CustomerFactory,
    OrganizationFactory,
    PlanFactory,
    PriceFactory,
    UserFactory,
)
from tests.llmkeys.spendlog import call_of, log
from tests.llmkeys.standin import StandIn, client_of

pytestmark = pytest.mark.django_db
START, END = date(2026, 1, 1), date(2026, 2, 1)


def earn(customer: Any, plan: Plan | None, cents: int, day: date = START, days: int = 31) -> None:
    invoice = RevenueInvoice.objects.create(
        stripe_invoice_id=f"in_{RevenueInvoice.objects.count()}", status="paid", stale_since=None
    )
    RevenueItem.objects.create(
        invoice=invoice,
        kind="line",
        external_id=invoice.stripe_invoice_id,
        customer=customer,
        plan=plan,
        currency="usd",
        gross=cents,
        tax=0,
        net=cents,
        revenue=Decimal(cents) / 100,
        starts_on=day,
        ends_on=day + timedelta(days=days),
    )


def spend(user: User | None, dollars: str, **fields: Any) -> None:
    at = fields.pop("at", datetime(2026, 1, 15, 12, tzinfo=UTC))
    whose = {name: fields.pop(name, None) for name in ("organization_id",)}
    call = call_of(None, at, input_cost=float(dollars), output_cost=0.0, **fields)
    row = read_row(shown(call, zone="Z"))
    attribution = Attribution(user.pk if user else None, None, plan_code="pro", **whose)
    usage_books.write_calls([(row, attribution)], at=at)


@pytest.fixture
def pro(db: None) -> Plan:
    return PlanFactory.create(code="pro", name="Pro", budget_cents=1000, rpm=100)


def test_each_customer_is_whoever_pays(pro: Plan) -> None:
    alone, member = UserFactory.create(), UserFactory.create()
    team = OrganizationFactory.create(name="Acme")
    earn(CustomerFactory.create(user=alone), pro, 2000)
    earn(CustomerFactory.create(user=None, organization=team), pro, 9000)
    spend(alone, "25")
    spend(member, "10", organization_id=team.pk)
    spend(None, "1")
    lines = {line.label: line for line in figures.by_customer(START, END)}
    assert lines[alone.email].margin == Decimal(-5)
    assert lines[alone.email].costs_more_than_it_pays
    assert lines["Acme"].margin == Decimal(80)
    assert lines["Keys that are not ours"].cost == 1
    assert sum(line.margin for line in lines.values()) == figures.total(START, END).margin


def test_plans_and_models_sum_to_the_total(pro: Plan) -> None:
    user, idle = UserFactory.create(), UserFactory.create()
    earn(CustomerFactory.create(user=user), pro, 1000)
    earn(CustomerFactory.create(user=idle), None, 333)
    spend(user, "1", model_group="small")
    spend(user, "2", model_group="large")
    total = figures.total(START, END)
    assert (total.revenue, total.cost) == (Decimal("13.33"), Decimal(3))
    for lines in (figures.by_plan(START, END), figures.by_model(START, END)):
        assert sum(line.revenue for line in lines) == total.revenue
        assert sum(line.cost for line in lines) == total.cost
    models = {line.label: line.revenue for line in figures.by_model(START, END)}
    assert models == {
        "large": Decimal("6.67"),
        "small": Decimal("3.33"),
        "Paid without use": Decimal("3.33"),
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_split_sums_to_what_was_split(seed: int) -> None:
    chance = random.Random(seed)
    weights = {str(n): Decimal(chance.randrange(1, 1000)) / 7 for n in range(9)}
    amount = Decimal(chance.randrange(-5000, 5000)) / 100
    shares = split(amount, weights)
    assert sum(shares.values()) == amount
    assert all(share == share.quantize(Decimal("0.01")) for share in shares.values())


def test_days_without_anything_are_days_too(pro: Plan) -> None:
    days = figures.by_day(START, END)
    assert len(days) == 31
    assert {day.margin for day in days} == {Decimal(0)}


def test_U15_late_spend_changes_the_margin_of_the_period_it_belongs_to(pro: Plan) -> None:
    user = UserFactory.create()
    earn(CustomerFactory.create(user=user), pro, 2000)
    assert figures.total(START, END).margin == Decimal(20)
    spend(user, "3", at=datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC))
    spend(user, "5", at=datetime(2026, 2, 1, tzinfo=UTC))
    assert figures.total(START, END).margin == Decimal(17)


# Both neighbours


@pytest.fixture
def engine() -> Iterator[StripeEngine]:
    engine = StripeEngine(seed=3)
    client = InProcessHTTPClient(Api(engine.world, settings.STRIPE_SECRET_KEY))
    with connected_to(Stripe(http_client=client, retries=0)):
        yield engine


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[StandIn]:
    transport = StandIn(tmp_path)
    gateway.use(client_of(transport))
    yield transport
    gateway.use(None)
    transport.close()


def test_margins_equal_stripe_and_the_gateways_log_to_the_cent(
    engine: StripeEngine, standin: StandIn
) -> None:
    """Three customers who buy, change and are refunded, and who call models; all of it through the
    stand-ins' own interfaces, and told to us out of order."""
    chance = random.Random(11)
    price = engine.create_price(unit_amount=1999, product_name="Pro")
    plan = PriceFactory.create(stripe_price_id=price["id"]).plan
    first = datetime.fromtimestamp(engine.now(), UTC)
    keys: list[VirtualKey] = []
    for _ in range(3):
        user = UserFactory.create()
        at_stripe = engine.create_customer()
        CustomerFactory.create(user=user, stripe_customer_id=at_stripe["id"])
        engine.subscribe(at_stripe["id"], price["id"], quantity=chance.randrange(1, 4))
        key = new_key(user_id=user.pk, label="default", cause=Cause.system("test"))
        key.created_at = first
        key.save()
        keys.append(key)
    for _ in range(4):
        engine.advance(days=20)
        charges = [one["id"] for one in engine.objects("charge")]
        engine.refund(chance.choice(charges), amount=chance.randrange(1, 99))
    for n in range(250):
        at = first + timedelta(hours=2 * n)
        cost = chance.randrange(1, 10**6) / 10**7
        log(standin, call_of(chance.choice(keys), at, input_cost=cost, output_cost=cost / 3))

    events = [json.loads(engine.event_payload(event)) for event in engine.events()]
    chance.shuffle(events)
    for event in events:
        revenue.note_event(event["type"], event["data"]["object"])
    while revenue.read_next(at=timezone.now()):
        pass
    import_usage(at=first + timedelta(days=25), since=first)

    paid = sum(one["total"] for one in engine.objects("invoice") if one["status"] == "paid")
    back = sum(one["amount"] for one in engine.objects("refund"))
    logged = standin.gateway.store.spend.database.execute(
        "SELECT count(*), sum(input_cost + output_cost) FROM calls"
    ).fetchone()
    start, end = first.date(), first.date() + timedelta(days=400)
    total = figures.total(start, end)
    assert total.revenue == Decimal(paid - back) / 100
    assert total.requests == logged[0] == 250
    assert total.cost.quantize(Decimal("0.00000001")) == Decimal(repr(logged[1])).quantize(
        Decimal("0.00000001")
    )
    for lines in (
        figures.by_day(start, end),
        figures.by_customer(start, end),
        figures.by_plan(start, end),
        figures.by_model(start, end),
    ):
        assert sum(line.revenue for line in lines) == total.revenue
        assert sum(line.cost for line in lines) == total.cost
    assert {line.id for line in figures.by_plan(start, end) if line.revenue} == {plan.pk}


# What if


def test_another_price_changes_revenue_in_proportion(pro: Plan) -> None:
    earn(CustomerFactory.create(), pro, 2000)
    outcome = what_if(Change(pro, price_percent=Decimal(150)), START, END)
    assert (outcome.before.revenue, outcome.after.revenue) == (Decimal(20), Decimal(30))
    assert outcome.difference == Decimal(10)


def test_a_lower_budget_would_have_refused_what_was_used_beyond_it(pro: Plan) -> None:
    heavy, light = UserFactory.create(), UserFactory.create()
    spend(heavy, "9")
    spend(light, "2")
    outcome = what_if(Change(pro, budget_cents=500), START, END)
    assert (outcome.before.cost, outcome.after.cost) == (Decimal(11), Decimal(7))
    assert (outcome.users, outcome.over_budget) == (2, 1)
    assert [(one.user, one.refused) for one in outcome.affected] == [(heavy, Decimal(4))]


def test_models_taken_out_would_not_have_been_called(pro: Plan) -> None:
    user = UserFactory.create()
    spend(user, "9", model_group="large")
    spend(user, "2", model_group="small")
    outcome = what_if(Change(pro, without_models=["large"], budget_cents=100), START, END)
    assert outcome.after.cost == Decimal(1)


def test_a_lower_rate_would_have_refused_what_came_too_fast(pro: Plan) -> None:
    user = UserFactory.create()
    at = datetime(2026, 1, 15, 12, tzinfo=UTC)
    for n in range(10):
        ChatRequest.objects.create(
            id=uuid.UUID(new_exchange("chat").id),
            started_at=at + timedelta(seconds=n if n < 7 else 60 + n),
            user=user,
            plan_code="pro",
            model="small",
            client="chat",
            outcome="completed",
            status=200,
            duration_ms=1,
        )
        spend(user, "1", at=at)
    outcome = what_if(Change(pro, rpm=5), START, END)
    assert (outcome.refused_by_rate, outcome.too_fast) == (2, 1)
    assert outcome.after.cost == Decimal(8)


def test_no_change_changes_nothing(pro: Plan) -> None:
    user = UserFactory.create()
    earn(CustomerFactory.create(user=user), pro, 2000)
    spend(user, "3")
    outcome = what_if(Change(pro), START, END)
    assert outcome.difference == 0
    assert (outcome.over_budget, outcome.refused_by_rate) == (0, 0)


# Pages


def test_the_margin_page_shows_who_costs_more_than_they_pay(staff_client: Any, pro: Plan) -> None:
    user = UserFactory.create(email="heavy@example.com")
    earn(CustomerFactory.create(user=user), pro, 2000)
    spend(user, "25")
    page = staff_client.get(reverse("admin:margin"), {"start": START, "end": "2026-01-31"})
    text = page.content.decode()
    for part in ("heavy@example.com", "$20.00", "$25.00", "-$5.00", "cost more than they pay"):
        assert part in text
    assert staff_client.get(reverse("admin:margin")).status_code == 200


def test_losses_are_of_customers_who_pay_and_told_to_prometheus(
    client: Any, pro: Plan, empty_cache: None
) -> None:
    today = timezone.now()
    heavy, light, free = UserFactory.create_batch(3)
    for user, cents in ((heavy, 1000), (light, 1000)):
        earn(CustomerFactory.create(user=user), pro, cents, today.date(), days=1)
    for user, dollars in ((heavy, "12.5"), (light, "2"), (free, "7")):
        spend(user, dollars, at=today)

    day = today.date()
    assert [line.label for line in figures.losing(day, day + timedelta(days=1))] == [heavy.email]
    told = client.get("/metrics").content.decode()
    assert "\ntesslate_customers_at_a_loss 1.0\n" in told
    assert "\ntesslate_loss_dollars 2.5\n" in told


@pytest.mark.parametrize("query", [{"start": "x"}, {"start": "2026-02-01", "end": "2026-01-01"}])
def test_days_that_make_no_sense_show_an_error_and_a_page(
    staff_client: Any, pro: Plan, query: dict[str, str]
) -> None:
    assert staff_client.get(reverse("admin:margin"), query).status_code == 200


@pytest.mark.parametrize("table", ["customers", "losses", "plans", "models", "days"])
def test_every_table_comes_as_csv(staff_client: Any, pro: Plan, table: str) -> None:
    user = UserFactory.create(email="=cmd@example.com")
    earn(CustomerFactory.create(user=user), pro, 2000)
    spend(user, "25")
    query = {"start": START, "end": "2026-01-31", "csv": table}
    answer = staff_client.get(reverse("admin:margin"), query)
    rows = answer.content.decode().splitlines()
    assert answer["Content-Type"].startswith("text/csv")
    first = "customer" if table == "losses" else table[:-1]
    assert rows[0] == f"{first},revenue_usd,cost_usd,margin_usd,requests"
    assert not any(row.startswith("=") for row in rows)


def test_the_what_if_page_works_it_out(staff_client: Any, pro: Plan) -> None:
    user = UserFactory.create(email="heavy@example.com")
    spend(user, "25")
    address = reverse("admin:what-if")
    assert staff_client.get(address).status_code == 200
    query = {"start": START, "end": "2026-01-31", "plan": pro.pk, "budget": "10", "rpm": "5"}
    text = staff_client.get(address, query).content.decode()
    assert "heavy@example.com" in text
    assert "$15.00" in text
    assert staff_client.get(address, {**query, "budget": "-1"}).status_code == 200


@pytest.mark.parametrize("name", ["margin", "what-if"])
def test_margins_are_for_staff_who_may_see_money(client: Any, stranger: User, name: str) -> None:
    stranger.is_staff = True
    stranger.save()
    client.force_login(stranger)
    assert client.get(reverse(f"admin:{name}")).status_code == 403
