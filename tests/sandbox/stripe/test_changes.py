"""Upgrades, downgrades, quantities, intervals: proration and payment."""

from collections.abc import Callable

import pytest

from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.errors import CardDeclined, InvalidRequest
from tests.sandbox.stripe.conftest import Cast

Told = Callable[[], list[str]]


def amounts(invoice) -> list[int]:
    return [line["amount"] for line in invoice["lines"]["data"]]


def test_B16_upgrade_invoiced_at_once_bills_the_rest_of_the_period(cast: Cast, told: Told):
    sub = cast.subscribe()
    cast.engine.advance(days=15.5)  # half of January
    told()
    cast.engine.change_price(sub["id"], cast.pro, proration_behavior="always_invoice")
    invoice = cast.invoice(sub)
    assert amounts(invoice) == [-1000, 2500]
    assert (invoice["total"], invoice["status"]) == (1500, "paid")
    assert invoice["billing_reason"] == "subscription_update"
    heard = told()
    assert heard[:3] == ["invoiceitem.created"] * 2 + ["customer.subscription.updated"]


def test_upgrade_without_more_words_bills_the_difference_with_the_next_invoice(cast: Cast):
    sub = cast.subscribe()
    cast.engine.advance(days=15.5)
    cast.engine.change_price(sub["id"], cast.pro)
    assert len(cast.engine.objects("invoice")) == 1
    cast.engine.advance_past_renewal(sub["id"])
    assert sorted(amounts(cast.invoice(sub))) == [-1000, 2500, 5000]


def test_no_proration_means_the_new_price_from_the_next_period(cast: Cast):
    sub = cast.subscribe()
    cast.engine.advance(days=10)
    cast.engine.change_price(sub["id"], cast.pro, proration_behavior="none")
    assert cast.engine.objects("invoiceitem") == []
    cast.engine.advance_past_renewal(sub["id"])
    assert amounts(cast.invoice(sub)) == [5000]


def test_B17_downgrade_at_once_becomes_credit_for_later_invoices(cast: Cast):
    sub = cast.subscribe(cast.pro)
    cast.engine.advance(days=15.5)
    cast.engine.change_price(sub["id"], cast.plus, proration_behavior="always_invoice")
    assert cast.invoice(sub)["total"] == -1500
    assert cast.invoice(sub)["status"] == "paid"
    assert cast.engine.object(cast.customer)["balance"] == -1500
    cast.engine.advance_past_renewal(sub["id"])
    renewal = cast.invoice(sub)
    assert (renewal["total"], renewal["amount_due"], renewal["amount_paid"]) == (2000, 500, 500)
    assert (renewal["starting_balance"], renewal["ending_balance"]) == (-1500, 0)
    assert cast.engine.object(cast.customer)["balance"] == 0


def test_B18_monthly_to_yearly_starts_a_new_period_and_bills_it_now(cast: Cast):
    sub = cast.subscribe()
    cast.engine.advance(days=15.5)
    changed = cast.engine.change_price(sub["id"], cast.pro_year)
    assert changed["billing_cycle_anchor"] == cast.engine.now()
    assert changed["items"]["data"][0]["current_period_start"] == cast.engine.now()
    assert amounts(cast.invoice(sub)) == [-1000, 50000]
    assert cast.invoice(sub)["status"] == "paid"


def test_B18_quantity_changes_are_prorated(cast: Cast):
    sub = cast.subscribe(quantity=2)
    assert cast.invoice(sub)["total"] == 4000
    cast.engine.advance(days=15.5)
    cast.engine.set_quantity(sub["id"], 5, proration_behavior="always_invoice")
    assert amounts(cast.invoice(sub)) == [-2000, 5000]


def test_B18_another_currency_is_refused(cast: Cast):
    euro = cast.engine.create_price(unit_amount=100, currency="eur")
    sub = cast.subscribe()
    with pytest.raises(InvalidRequest, match="currency"):
        cast.engine.change_price(sub["id"], euro["id"])


def test_failed_payment_of_an_upgrade_makes_it_past_due_but_changes_the_price(cast: Cast):
    sub = cast.subscribe()
    cast.engine.advance(days=5)
    cast.engine.fail_payments(cast.customer)
    cast.engine.change_price(sub["id"], cast.pro, proration_behavior="always_invoice")
    now = cast.again(sub)
    assert now["status"] == "past_due"
    assert now["items"]["data"][0]["price"]["id"] == cast.pro


def test_error_if_incomplete_leaves_the_old_plan_and_no_trace(cast: Cast, told: Told):
    sub = cast.subscribe()
    cast.engine.advance(days=5)
    cast.engine.fail_payments(cast.customer)
    told()
    with pytest.raises(CardDeclined):
        cast.engine.change_price(
            sub["id"],
            cast.pro,
            proration_behavior="always_invoice",
            payment_behavior="error_if_incomplete",
        )
    assert cast.again(sub) == sub
    assert told() == []


def pending_upgrade(cast: Cast):
    sub = cast.subscribe()
    cast.engine.advance(days=5)
    cast.engine.fail_payments(cast.customer)
    return cast.engine.change_price(
        sub["id"],
        cast.pro,
        proration_behavior="always_invoice",
        payment_behavior="pending_if_incomplete",
    )


def test_B24_pending_update_changes_nothing_until_it_is_paid(cast: Cast, told: Told):
    sub = pending_upgrade(cast)
    assert sub["status"] == "active"
    assert sub["items"]["data"][0]["price"]["id"] == cast.plus
    assert sub["pending_update"]["subscription_items"][0]["price"]["id"] == cast.pro
    told()
    cast.engine.pay_invoice(sub["latest_invoice"])
    now = cast.again(sub)
    assert now["items"]["data"][0]["price"]["id"] == cast.pro
    assert now["pending_update"] is None
    assert "customer.subscription.pending_update_applied" in told()


def test_B25_pending_update_that_is_not_paid_is_forgotten(cast: Cast, told: Told):
    sub = pending_upgrade(cast)
    told()
    cast.engine.advance(days=1)
    now = cast.again(sub)
    assert now["status"] == "active"
    assert now["items"]["data"][0]["price"]["id"] == cast.plus
    assert now["pending_update"] is None
    assert "customer.subscription.pending_update_expired" in told()
    assert cast.invoice(sub)["status"] == "void"


# --- items


def test_B21_an_item_can_be_added_and_taken_away(cast: Cast):
    sub = cast.subscribe()
    added = cast.engine.request(
        "POST", "/v1/subscription_items", {"subscription": sub["id"], "price": cast.pro}
    )
    assert [i["price"]["id"] for i in cast.again(sub)["items"]["data"]] == [cast.plus, cast.pro]
    cast.engine.request("DELETE", f"/v1/subscription_items/{added['id']}")
    assert [i["price"]["id"] for i in cast.again(sub)["items"]["data"]] == [cast.plus]
    only = cast.again(sub)["items"]["data"][0]["id"]
    with pytest.raises(InvalidRequest, match="at least one active plan"):
        cast.engine.request("DELETE", f"/v1/subscription_items/{only}")


def test_B22_items_of_different_intervals_renew_each_in_its_own_period(cast: Cast):
    sub = cast.subscribe(items=[{"price": cast.plus}, {"price": cast.pro_year}])
    month, year = cast.again(sub)["items"]["data"]
    assert year["current_period_end"] - month["current_period_end"] > 300 * 86_400
    cast.engine.advance_past_renewal(sub["id"])
    assert amounts(cast.invoice(sub)) == [2000]
    assert cast.again(sub)["items"]["data"][1] == year


def test_mixed_intervals_are_refused_in_classic_mode(cast: Cast):
    with pytest.raises(InvalidRequest, match=r"recurring\.interval"):
        cast.subscribe(
            items=[{"price": cast.plus}, {"price": cast.pro_year}],
            billing_mode={"type": "classic"},
        )


# --- what others are paid by


def test_preview_tells_the_renewal_and_leaves_everything_as_it_was(cast: Cast, told: Told):
    sub = cast.subscribe()
    told()
    before = cast.engine.objects("invoice")
    preview = cast.engine.request(
        "POST", "/v1/invoices/create_preview", {"subscription": sub["id"]}
    )
    assert preview["id"].startswith("upcoming_in_")
    assert preview["total"] == 2000
    assert cast.engine.objects("invoice") == before
    assert cast.again(sub) == sub
    assert told() == []


def test_preview_of_a_change_tells_its_prorations(cast: Cast):
    sub = cast.subscribe()
    cast.engine.advance(days=15.5)
    item = sub["items"]["data"][0]["id"]
    preview = cast.engine.request(
        "POST",
        "/v1/invoices/create_preview",
        {
            "subscription": sub["id"],
            "subscription_details": {
                "items": [{"id": item, "price": cast.pro}],
                "proration_behavior": "always_invoice",
            },
        },
    )
    assert amounts(preview) == [-1000, 2500]
    assert cast.again(sub)["items"]["data"][0]["price"]["id"] == cast.plus


def test_graduated_tiers_add_up():
    engine = StripeEngine(seed=2)
    tiers = [{"up_to": 5, "unit_amount": 100}, {"up_to": "inf", "unit_amount": 50}]
    price = engine.request(
        "POST",
        "/v1/prices",
        {
            "currency": "usd",
            "recurring": {"interval": "month"},
            "billing_scheme": "tiered",
            "tiers_mode": "graduated",
            "tiers": tiers,
            "product_data": {"name": "Seats"},
        },
    )
    customer = engine.create_customer()
    sub = engine.subscribe(customer["id"], price["id"], quantity=8)
    assert engine.object(sub["latest_invoice"])["total"] == 5 * 100 + 3 * 50
