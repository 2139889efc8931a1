"""Invoices as Stripe sends them, read as revenue: by the rules of plans.revenue_reading."""

from datetime import UTC, date, datetime
from typing import Any

import pytest

from plans import revenue_reading as reading
from plans.revenue_reading import Item, Kind
from tests.plans.builders import seconds, stripe_invoice

MARCH = (datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))


def line(amount: int, price: str = "price_pro", **fields: Any) -> dict[str, Any]:
    return {
        "id": fields.pop("id", f"il_{amount}"),
        "amount": amount,
        "discount_amounts": [],
        "taxes": [],
        "pricing": {"price_details": {"price": price}},
        "parent": {"subscription_item_details": {"proration": False}},
        "period": {"start": seconds(MARCH[0]), "end": seconds(MARCH[1])},
        **fields,
    }


def paid(total: int, **fields: Any) -> dict[str, Any]:
    moments = {"paid_at": seconds(datetime(2026, 3, 2, 15, tzinfo=UTC))}
    return stripe_invoice("sub_1", status="paid", total=total, status_transitions=moments, **fields)


def read(invoice: dict[str, Any], *lines: dict[str, Any]) -> list[Item]:
    return reading.items_of_invoice(invoice, lines)


def test_a_line_is_earned_over_its_period() -> None:
    (item,) = read(paid(2000), line(2000))
    assert (item.kind, item.price, item.net, item.tax) == (Kind.LINE, "price_pro", 2000, 0)
    assert (item.starts_on, item.ends_on) == (date(2026, 3, 1), date(2026, 4, 1))


@pytest.mark.parametrize("status", ["draft", "open", "void", "uncollectible"])
def test_V07_an_invoice_that_is_not_paid_earns_nothing(status: str) -> None:
    assert read({**paid(2000), "status": status}, line(2000)) == []


def test_V02_an_invoice_for_no_subscription_earns_on_the_day_it_is_paid() -> None:
    one_off = line(500, period={"start": 0, "end": 0})
    (item,) = read({**paid(500), "parent": None}, one_off)
    assert (item.starts_on, item.ends_on) == (date(2026, 3, 2), date(2026, 3, 3))


def test_V05_prorations_are_negative_and_sum_to_the_invoice() -> None:
    details: dict[str, Any] = {"parent": {"invoice_item_details": {"proration": True}}}
    items = read(
        paid(4000),
        line(-1000, "price_plus", id="unused", **details),
        line(5000, id="remaining", **details),
    )
    assert [(item.kind, item.net) for item in items] == [
        (Kind.PRORATION, -1000),
        (Kind.PRORATION, 5000),
    ]
    assert sum(item.gross for item in items) == 4000


def test_V05_tax_and_discounts_are_no_revenue() -> None:
    """Tax on top of one line, inside the other; a discount on both."""
    items = read(
        paid(3000 - 300 + 160),
        line(
            2000,
            discount_amounts=[{"amount": 200}],
            taxes=[{"amount": 160, "tax_behavior": "exclusive"}],
        ),
        line(
            1000,
            discount_amounts=[{"amount": 100}],
            taxes=[{"amount": 60, "tax_behavior": "inclusive"}],
        ),
    )
    assert [(item.gross, item.tax, item.net) for item in items] == [
        (1960, 160, 1800),
        (900, 60, 840),
    ]


def test_V05_tax_in_the_older_shape_is_read_too() -> None:
    (item,) = read(paid(1190), line(1190, tax_amounts=[{"amount": 190, "inclusive": True}]))
    assert (item.net, item.tax) == (1000, 190)


def test_V04_the_price_may_be_expanded_or_in_the_older_place() -> None:
    expanded = {"pricing": {"price_details": {"price": {"id": "price_pro"}}}}
    older = {"pricing": None, "price": {"id": "price_pro"}}
    for fields in (expanded, older):
        (item,) = read(paid(2000), {**line(2000), **fields})
        assert item.price == "price_pro"


def test_lines_that_do_not_sum_to_the_total_leave_a_rest_that_is_shown() -> None:
    items = read(paid(2100), line(2000))
    assert [(item.kind, item.gross) for item in items] == [(Kind.LINE, 2000), (Kind.REST, 100)]


def test_V06_paying_too_much_or_elsewhere_changes_no_revenue() -> None:
    for fields in (
        {"amount_overpaid": 500, "amount_paid": 2500},
        {"amount_paid_off_stripe": 2000},
        {"amount_paid": 0, "starting_balance": -2000},
    ):
        (item,) = read(paid(2000, **fields), line(2000))
        assert item.net == 2000


# Money taken back

EARNED = [
    Item(Kind.LINE, "a", "p", 2380, 380, MARCH[0].date(), MARCH[1].date(), plan_id=1),
    Item(Kind.LINE, "b", "q", 1000, 0, MARCH[0].date(), MARCH[1].date(), plan_id=2),
]
DAY = date(2026, 3, 20)


def test_V09_a_full_refund_takes_back_everything_with_its_tax() -> None:
    items = reading.taken_back(Kind.REFUND, EARNED, [("re_1", 3380, DAY)])
    assert {item.plan_id: (item.gross, item.tax) for item in items} == {
        1: (-2380, -380),
        2: (-1000, 0),
    }
    assert {(item.starts_on, item.ends_on) for item in items} == {(DAY, date(2026, 3, 21))}


@pytest.mark.parametrize("amount", [1, 7, 100, 1691, 3379])
def test_V09_of_a_partial_refund_each_plan_bears_its_share(amount: int) -> None:
    items = reading.taken_back(Kind.REFUND, EARNED, [("re_1", amount, DAY)])
    assert sum(item.gross for item in items) == -amount
    assert all(item.gross == item.net + item.tax for item in items)


def test_V09_a_failed_or_canceled_refund_takes_nothing_and_a_pending_one_does() -> None:
    statuses = ["succeeded", "pending", "requires_action", "failed", "canceled"]
    found = [{"id": s, "status": s, "amount": 5, "created": seconds(MARCH[0])} for s in statuses]
    assert [one[0] for one in reading.refunds(found)] == statuses[:3]


def test_V14_a_credit_note_counts_without_what_it_refunds() -> None:
    created = seconds(MARCH[0])
    notes: list[dict[str, Any]] = [
        {"id": "cn_1", "status": "issued", "total": 500, "created": created},
        {
            "id": "cn_2",
            "status": "issued",
            "total": 500,
            "created": created,
            "refunds": [{"refund": "re_1", "amount_refunded": 300}],
        },
        {
            "id": "cn_3",
            "status": "issued",
            "total": 500,
            "created": created,
            "refunds": [{"refund": "re_2", "amount_refunded": 500}],
        },
        {"id": "cn_4", "status": "void", "total": 500, "created": created},
    ]
    assert [(one[0], one[1]) for one in reading.credit_notes(notes)] == [
        ("cn_1", 500),
        ("cn_2", 200),
    ]


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        ("needs_response", True),
        ("under_review", True),
        ("lost", True),
        ("appeal_under_review", True),
        ("won", False),
        ("warning_needs_response", False),
        ("warning_closed", False),
        ("prevented", False),
    ],
)
def test_V12_a_dispute_takes_money_unless_it_is_won_or_only_asked(
    status: str, counts: bool
) -> None:
    dispute = {"id": "dp_1", "status": status, "amount": 9, "created": seconds(MARCH[0])}
    assert bool(reading.disputes([dispute])) is counts


def test_V16_an_object_without_an_id_or_with_nonsense_breaks_nothing() -> None:
    assert reading.refunds([{}]) == [("", 0, date(1970, 1, 1))]
    (item,) = read(paid(0), {"period": None, "taxes": "x", "amount": None})
    assert (item.gross, item.price) == (0, "")
