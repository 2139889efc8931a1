"""Revenue against the Stripe stand-in: to the cent, whatever happens and in any order."""

import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db.models import Sum
from django.urls import reverse
from django.utils import timezone

from plans import revenue
from plans.models import ExchangeRate, RevenueCharge, RevenueInvoice, RevenueItem
from plans.revenue_audit import audit_revenue
from plans.revenue_recognition import caveats, recognised, revenue_between
from plans.stripe_client import Stripe, connected_to
from sandbox.stripe.api import Api
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.inprocess import InProcessHTTPClient
from tests.factories import CustomerFactory, PriceFactory

pytestmark = pytest.mark.django_db
EVER = (date(2020, 1, 1), date(2040, 1, 1))


class Account:
    """A Stripe account, and the product told of its events by hand."""

    def __init__(self, engine: StripeEngine) -> None:
        self.engine = engine
        self.seen = 0
        self.outage = False

    def price(self, amount: int, **fields: Any) -> Any:
        made = self.engine.create_price(unit_amount=amount, product_name="Plan", **fields)
        return PriceFactory.create(
            stripe_price_id=made["id"], unit_amount=amount, currency=made["currency"]
        )

    def customer(self, **fields: Any) -> Any:
        found = self.engine.create_customer(**fields)
        return CustomerFactory.create(stripe_customer_id=found["id"])

    def events(self) -> list[Any]:
        found = self.engine.events(after=self.seen)
        self.seen += len(found)
        return found

    def tell(self, events: list[Any] | None = None) -> None:
        for event in self.events() if events is None else events:
            body = json.loads(self.engine.event_payload(event))
            revenue.note_event(event.type, body["data"]["object"])
        self.read()

    def read(self) -> None:
        turns = 0
        while revenue.read_next(at=timezone.now()):
            turns += 1
            assert turns < 1000

    def _trouble(self, method: str, path: str) -> int | None:
        return 500 if self.outage else None


@pytest.fixture
def account() -> Iterator[Account]:
    engine = StripeEngine(seed=1)
    found = Account(engine)
    api = Api(engine.world, settings.STRIPE_SECRET_KEY)
    client = InProcessHTTPClient(api, found._trouble)
    with connected_to(Stripe(http_client=client, retries=0)):
        yield found


@pytest.fixture
def subscriber(account: Account) -> dict[str, Any]:
    price, customer = account.price(2000), account.customer()
    sub = account.engine.subscribe(customer.stripe_customer_id, price.stripe_price_id)
    return {"price": price, "customer": customer, "sub": sub, "invoice": sub["latest_invoice"]}


def invoice() -> RevenueInvoice:
    return RevenueInvoice.objects.get()


def all_revenue() -> Decimal:
    return revenue_between(*EVER)


def test_V01_three_events_of_one_payment_make_one_revenue(
    account: Account, subscriber: dict[str, Any]
) -> None:
    events = account.events()
    told = {event.type for event in events}
    assert {"invoice.paid", "invoice.payment_succeeded", "invoice_payment.paid"} <= told
    account.tell(events)
    account.tell(events[::-1])
    assert all_revenue() == Decimal("20.00")
    row = invoice()
    assert (row.status, row.customer, row.total) == ("paid", subscriber["customer"], 2000)
    item = row.items.get()
    assert item.plan == subscriber["price"].plan


def test_days_of_a_period_sum_to_it_to_the_cent(
    account: Account, subscriber: dict[str, Any]
) -> None:
    account.tell()
    days = recognised(*EVER, by=["day"])
    assert len(days) == 31
    assert {day.revenue for day in days} <= {Decimal("0.64"), Decimal("0.65")}
    assert sum(day.revenue for day in days) == Decimal("20.00")
    middle = date(2026, 1, 11)
    assert revenue_between(EVER[0], middle) + revenue_between(middle, EVER[1]) == 20


def test_V02_a_manual_invoice_earns_without_any_subscription(account: Account) -> None:
    customer = account.customer()
    made = account.engine.request(
        "POST", "/v1/invoices", {"customer": customer.stripe_customer_id, "currency": "usd"}
    )
    account.engine.request(
        "POST",
        "/v1/invoiceitems",
        {
            "customer": customer.stripe_customer_id,
            "invoice": made["id"],
            "amount": 5000,
            "currency": "usd",
        },
    )
    account.engine.request("POST", f"/v1/invoices/{made['id']}/finalize")
    account.engine.request("POST", f"/v1/invoices/{made['id']}/pay")
    account.tell()
    assert all_revenue() == Decimal("50.00")
    assert RevenueItem.objects.get().customer == customer


def test_V05_an_upgrade_in_mid_period_earns_what_it_costs(
    account: Account, subscriber: dict[str, Any]
) -> None:
    pro = account.price(10_000)
    account.engine.advance(days=10)
    account.engine.change_price(
        subscriber["sub"]["id"], pro.stripe_price_id, proration_behavior="always_invoice"
    )
    account.tell()
    by_plan = {row.group[0]: row.revenue for row in recognised(*EVER, by=["plan_id"])}
    whole = RevenueInvoice.objects.aggregate(total=Sum("total"))["total"]
    assert sum(by_plan.values()) == Decimal(whole) / 100
    assert RevenueItem.objects.filter(net__lt=0, kind="proration").exists()
    # What is left of the old plan after ten of 31 days went back.
    assert by_plan[subscriber["price"].plan_id] == Decimal("20.00") - Decimal("13.55")


def test_V06_an_invoice_paid_outside_of_stripe_earns_and_has_no_fee(account: Account) -> None:
    price, customer = account.price(3000), account.customer(method=None)
    sub = account.engine.subscribe(
        customer.stripe_customer_id,
        price.stripe_price_id,
        collection_method="send_invoice",
        days_until_due=10,
    )
    account.engine.advance(days=1)
    account.tell()
    assert all_revenue() == 0
    account.engine.request(
        "POST", f"/v1/invoices/{sub['latest_invoice']}/pay", {"paid_out_of_band": True}
    )
    account.tell()
    assert all_revenue() == Decimal("30.00")
    assert (invoice().fee, invoice().is_provisional) == (Decimal(0), False)


def test_V07_what_an_invoice_becomes_later_replaces_what_it_was(
    account: Account, subscriber: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    account.tell()
    assert all_revenue() == 20
    for status in ("void", "uncollectible", "open"):
        held = account.engine.world.get("invoice", subscriber["invoice"])
        held["status"] = status
        revenue.note_event("invoice.updated", {"id": subscriber["invoice"], "object": "invoice"})
        account.read()
        assert all_revenue() == 0
        assert invoice().status == status
        held["status"] = "paid"
        revenue.note_event("invoice.paid", {"id": subscriber["invoice"], "object": "invoice"})
        account.read()
        assert all_revenue() == 20


def test_V07_a_deleted_draft_earns_nothing(account: Account) -> None:
    customer = account.customer()
    made = account.engine.request(
        "POST", "/v1/invoices", {"customer": customer.stripe_customer_id, "currency": "usd"}
    )
    account.tell()
    account.engine.request("DELETE", f"/v1/invoices/{made['id']}")
    account.tell()
    assert (invoice().status, all_revenue()) == ("deleted", Decimal(0))


@pytest.mark.parametrize("shuffled", range(3))
def test_V10_all_events_of_a_refund_take_it_back_once(
    account: Account, subscriber: dict[str, Any], shuffled: int
) -> None:
    charge = account.engine.charge_of(subscriber["invoice"])
    account.engine.refund(charge, amount=500)
    events = account.events()
    assert {"charge.refunded", "refund.created"} <= {event.type for event in events}
    random.Random(shuffled).shuffle(events)
    account.tell(events)
    account.tell(events)
    assert all_revenue() == Decimal("15.00")
    refund = RevenueItem.objects.get(kind="refund")
    assert (refund.net, refund.plan) == (-500, subscriber["price"].plan)
    assert not RevenueCharge.objects.exists()


def test_V09_refunds_add_up_and_one_that_fails_comes_back(
    account: Account, subscriber: dict[str, Any]
) -> None:
    charge = account.engine.charge_of(subscriber["invoice"])
    account.engine.refund(charge, amount=500)
    pending = account.engine.refund(charge, amount=300, status="pending")
    account.tell()
    assert all_revenue() == Decimal("12.00")
    account.engine.finish_refund(pending["id"], well=False)
    account.tell()
    assert all_revenue() == Decimal("15.00")
    account.engine.refund(charge)
    account.tell()
    assert all_revenue() == 0


def test_V09_a_refund_belongs_to_its_own_day(account: Account, subscriber: dict[str, Any]) -> None:
    account.engine.advance(days=20)
    account.engine.refund(account.engine.charge_of(subscriber["invoice"]))
    account.tell()
    days = {row.group[0]: row.revenue for row in recognised(*EVER, by=["day"])}
    assert days[date(2026, 1, 21)] < Decimal("-19")
    assert days[date(2026, 1, 20)] > 0


def test_V12_a_dispute_takes_the_money_and_winning_it_gives_it_back(
    account: Account, subscriber: dict[str, Any]
) -> None:
    dispute = account.engine.dispute(account.engine.charge_of(subscriber["invoice"]))
    account.tell()
    assert all_revenue() == 0
    assert invoice().fee > 15
    account.engine.move_dispute(dispute["id"], "won")
    account.tell()
    assert all_revenue() == 20


def test_V14_a_credit_note_that_refunds_counts_once(
    account: Account, subscriber: dict[str, Any]
) -> None:
    note = {"invoice": subscriber["invoice"], "amount": 800, "refund_amount": 800}
    account.engine.request("POST", "/v1/credit_notes", note)
    account.tell()
    assert all_revenue() == Decimal("12.00")


def test_V14_credit_for_the_next_invoice_counts_when_it_is_given(
    account: Account, subscriber: dict[str, Any]
) -> None:
    note = {"invoice": subscriber["invoice"], "amount": 800}
    account.engine.request("POST", "/v1/credit_notes", note)
    account.engine.advance(days=32)
    account.tell()
    invoices = RevenueInvoice.objects.filter(status="paid")
    assert invoices.count() == 2
    # 20 - 8 credited, and 20 of which 8 were paid out of that credit.
    assert all_revenue() == Decimal("32.00")


@pytest.mark.parametrize(
    ("currency", "amount", "rate", "dollars"),
    [
        ("jpy", 3000, "0.0066", "19.80"),
        ("kwd", 6150, "3.25", "19.99"),
        ("eur", 1900, "1.08", "20.52"),
    ],
)
def test_V15_any_currency_becomes_dollars_by_a_stored_rate(
    account: Account, currency: str, amount: int, rate: str, dollars: str
) -> None:
    price, customer = account.price(amount, currency=currency), account.customer()
    account.engine.subscribe(customer.stripe_customer_id, price.stripe_price_id)
    account.tell()
    assert all_revenue() == 0
    assert caveats(*EVER).unconverted == [(currency, amount)]
    ExchangeRate.objects.create(currency=currency, day=date(2025, 12, 1), rate=Decimal(rate))
    revenue.note_unconverted(currency)
    account.read()
    assert all_revenue() == Decimal(dollars)
    assert invoice().fx_rate == Decimal(rate)
    # A later rate leaves the day as it was.
    ExchangeRate.objects.create(currency=currency, day=date(2026, 6, 1), rate=Decimal(9))
    revenue.note_invoices([invoice().stripe_invoice_id])
    account.read()
    assert all_revenue() == Decimal(dollars)


def test_V15_where_stripe_exchanges_the_money_its_rate_is_taken(account: Account) -> None:
    price, customer = account.price(1000, currency="eur"), account.customer()
    account.engine.subscribe(customer.stripe_customer_id, price.stripe_price_id)
    (entry,) = account.engine.objects("balance_transaction")
    held = account.engine.world.get("balance_transaction", entry["id"])
    held.update(currency="usd", amount=1093, fee=62, exchange_rate=1.093)
    account.tell()
    row = invoice()
    assert (row.fx_source, row.fx_rate) == ("stripe", Decimal("1.093"))
    assert (all_revenue(), row.fee) == (Decimal("10.93"), Decimal("0.62"))


def test_V17_fees_are_provisional_until_the_balance_transaction_is_there(
    account: Account, subscriber: dict[str, Any]
) -> None:
    charge = account.engine.world.get("charge", account.engine.charge_of(subscriber["invoice"]))
    entry, charge["balance_transaction"] = charge["balance_transaction"], None
    account.tell()
    row = invoice()
    assert (row.is_provisional, row.fee) == (True, Decimal(0))
    assert caveats(*EVER).provisional == 1
    charge["balance_transaction"] = entry
    revenue.note_unsettled(at=timezone.now() + timedelta(hours=2))
    RevenueInvoice.objects.update(next_attempt_at=timezone.now())
    account.read()
    row = invoice()
    assert (row.is_provisional, row.fee) == (False, Decimal("0.88"))


def test_V16_an_upcoming_invoice_has_no_id_and_asks_for_nothing(account: Account) -> None:
    revenue.note_event("invoice.upcoming", {"object": "invoice", "id": None})
    revenue.note_event("invoice.upcoming", {"object": "invoice"})
    assert not RevenueInvoice.objects.exists()


def test_an_outage_postpones_the_reading_and_loses_nothing(
    account: Account, subscriber: dict[str, Any]
) -> None:
    account.outage = True
    account.tell()
    row = invoice()
    assert (row.attempts, row.read_at) == (1, None)
    assert row.stale_since is not None
    assert "500" in row.last_error
    account.outage = False
    RevenueInvoice.objects.update(next_attempt_at=timezone.now())
    account.read()
    assert (invoice().last_error, all_revenue()) == ("", Decimal(20))


def test_what_changes_while_it_is_read_is_read_again(
    account: Account, subscriber: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    revenue.note_invoices([subscriber["invoice"]])
    genuine = revenue._read

    def read_slowly(row: RevenueInvoice) -> Any:
        items = genuine(row)
        account.engine.refund(account.engine.charge_of(subscriber["invoice"]), amount=500)
        revenue.note_invoices([subscriber["invoice"]])
        monkeypatch.setattr(revenue, "_read", genuine)
        return items

    monkeypatch.setattr(revenue, "_read", read_slowly)
    account.read()
    assert all_revenue() == 15


def _something_happens(
    account: Account, chance: random.Random, prices: list[Any], subs: list[str], paid: list[Any]
) -> None:
    engine, invoice_id = account.engine, chance.choice(paid)["id"]
    match chance.randrange(4):
        case 0:
            engine.change_price(
                chance.choice(subs),
                chance.choice(prices).stripe_price_id,
                proration_behavior=chance.choice(["always_invoice", "create_prorations"]),
            )
        case 1:
            engine.refund(engine.charge_of(invoice_id), amount=chance.randrange(1, 100))
        case 2:
            note = {"invoice": invoice_id, "amount": chance.randrange(1, 100)}
            engine.request("POST", "/v1/credit_notes", note)
        case 3:
            engine.set_quantity(chance.choice(subs), chance.randrange(1, 5))


@pytest.mark.parametrize("seed", range(4))
def test_sums_equal_stripes_to_the_cent_after_any_life(account: Account, seed: int) -> None:
    """Purchases, changes, renewals, refunds, disputes and credit notes at random; then what we
    recognised over all days, held against Stripe's own objects."""
    chance = random.Random(seed)
    prices = [account.price(amount) for amount in (1999, 4999, 9901)]
    subs = [
        account.engine.subscribe(
            account.customer().stripe_customer_id, chance.choice(prices).stripe_price_id
        )["id"]
        for _ in range(3)
    ]
    for _ in range(12):
        account.engine.advance(days=chance.randrange(1, 20))
        paid = [one for one in account.engine.objects("invoice") if one["amount_paid"] > 100]
        _something_happens(account, chance, prices, subs, paid)
    events = account.events()
    chance.shuffle(events)
    account.tell([event for event in events if chance.random() < 0.9])
    revenue.note_all(since=datetime(2020, 1, 1, tzinfo=UTC))
    account.read()
    engine = account.engine
    earned = sum(one["total"] for one in engine.objects("invoice") if one["status"] == "paid")
    returned = sum(one["amount"] for one in engine.objects("refund"))
    credited = sum(one["total"] for one in engine.objects("credit_note"))
    assert RevenueItem.objects.filter(kind="rest").count() == 0
    assert all_revenue() == Decimal(earned - returned - credited) / 100
    by_day = recognised(*EVER, by=["day", "customer_id", "plan_id"])
    assert sum(row.revenue for row in by_day) == all_revenue()
    fees = sum(one["fee"] for one in engine.objects("balance_transaction"))
    assert RevenueInvoice.objects.aggregate(fees=Sum("fee"))["fees"] == Decimal(fees) / 100


def test_what_no_webhook_told_is_found_by_comparing_lists(
    account: Account, subscriber: dict[str, Any]
) -> None:
    account.events()
    now = datetime.fromtimestamp(account.engine.now(), UTC)
    assert audit_revenue(at=now).differing == 1
    account.read()
    assert all_revenue() == 20
    account.engine.refund(account.engine.charge_of(subscriber["invoice"]), amount=100)
    assert audit_revenue(at=now).differing == 1
    account.read()
    assert all_revenue() == 19
    assert audit_revenue(at=now).differing == 0


def test_staff_read_invoices_and_enter_rates(account: Account, staff_client: Any) -> None:
    price, customer = account.price(1000, currency="eur"), account.customer()
    account.engine.subscribe(customer.stripe_customer_id, price.stripe_price_id)
    account.tell()
    rate = {"currency": "EUR", "day": "2025-12-31", "rate": "1.1"}
    assert staff_client.post(reverse("admin:plans_exchangerate_add"), rate).status_code == 302
    again = staff_client.post(reverse("admin:plans_exchangerate_add"), rate)
    assert "already exists" in again.content.decode()
    account.read()
    assert all_revenue() == 11
    page = reverse("admin:plans_revenueinvoice_change", args=[invoice().pk])
    assert "10.00 eur" in staff_client.get(page).content.decode()
    listed = staff_client.get(reverse("admin:plans_revenueinvoice_changelist"))
    assert invoice().stripe_invoice_id in listed.content.decode()


def test_the_command_reads_everything_since_a_date(
    account: Account, subscriber: dict[str, Any]
) -> None:
    account.events()
    call_command("read_revenue", "--since", "2020-01-01")
    assert all_revenue() == 20
