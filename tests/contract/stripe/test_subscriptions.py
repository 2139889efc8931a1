import time

import pytest
import stripe

from tests.contract.stripe.conftest import Target

pytestmark = pytest.mark.contract

DAY = 86_400


def test_subscription_has_its_period_on_the_item(target: Target):
    sub = target.subscribe(target.customer().id, target.price().id, metadata={"user_id": "7"})
    assert sub.status == "active"
    assert sub.metadata["user_id"] == "7"
    item = sub.items.data[0]
    assert 28 * DAY <= item.current_period_end - item.current_period_start <= 31 * DAY
    assert "current_period_end" not in sub
    assert item.quantity == 1
    assert (sub.cancel_at_period_end, sub.cancel_at, sub.canceled_at) == (False, None, None)
    assert sub.collection_method == "charge_automatically"


def test_first_invoice_names_its_subscription_under_parent(target: Target):
    price = target.price(1500)
    sub = target.subscribe(target.customer().id, price.id)
    invoice = target.v1.invoices.retrieve(sub.latest_invoice)
    assert invoice.parent.subscription_details.subscription == sub.id
    assert (invoice.status, invoice.billing_reason) == ("paid", "subscription_create")
    assert (invoice.total, invoice.amount_due, invoice.amount_paid) == (1500, 1500, 1500)
    assert (invoice.amount_remaining, invoice.attempt_count) == (0, 1)
    assert invoice.status_transitions.paid_at
    assert "subscription" not in invoice
    line = invoice.lines.data[0]
    assert line.pricing.price_details.price == price.id
    assert line.pricing.price_details.product == price.product
    assert line.parent.type == "subscription_item_details"
    assert line.parent.subscription_item_details.proration is False
    assert line.parent.subscription_item_details.subscription == sub.id


def test_payment_of_an_invoice_is_found_through_its_payments(target: Target):
    sub = target.subscribe(target.customer().id, target.price(1500).id)
    payment = target.v1.invoice_payments.list({"invoice": sub.latest_invoice}).data[0]
    assert (payment.status, payment.amount_paid, payment.is_default) == ("paid", 1500, True)
    intent = target.v1.payment_intents.retrieve(payment.payment.payment_intent)
    assert (intent.status, intent.amount_received) == ("succeeded", 1500)
    charge = target.v1.charges.retrieve(intent.latest_charge)
    assert (charge.paid, charge.amount, charge.refunded) == (True, 1500, False)
    assert "invoice" not in charge
    found = target.v1.invoice_payments.list(
        {"payment": {"type": "payment_intent", "payment_intent": intent.id}}
    ).data
    assert [one.invoice for one in found] == [sub.latest_invoice]


def test_lists_hide_what_has_ended_unless_asked(target: Target):
    customer, price = target.customer().id, target.price().id
    ended, live = target.subscribe(customer, price), target.subscribe(customer, price)
    target.v1.subscriptions.cancel(ended.id)

    def listed(**filters: str) -> list[str]:
        found = target.v1.subscriptions.list({"customer": customer, **filters})
        return [sub.id for sub in found.data]

    assert listed() == [live.id]
    assert listed(status="canceled") == [ended.id]
    assert sorted(listed(status="all")) == sorted([ended.id, live.id])
    assert listed(status="trialing") == []


def test_cancel_at_period_end_is_planned_and_taken_back(target: Target):
    sub = target.subscribe(target.customer().id, target.price().id)
    planned = target.v1.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    assert planned.status == "active"
    assert planned.cancel_at_period_end is True
    assert planned.canceled_at is not None
    assert planned.cancellation_details.reason == "cancellation_requested"
    kept = target.v1.subscriptions.update(sub.id, {"cancel_at_period_end": False})
    assert (kept.cancel_at_period_end, kept.cancel_at, kept.canceled_at) == (False, None, None)


def test_cancel_at_a_date_and_clearing_it(target: Target):
    sub = target.subscribe(target.customer().id, target.price().id)
    moment = int(time.time()) + 10 * DAY
    planned = target.v1.subscriptions.update(
        sub.id, {"cancel_at": moment, "proration_behavior": "none"}
    )
    assert (planned.cancel_at, planned.cancel_at_period_end) == (moment, False)
    cleared = target.v1.subscriptions.update(
        sub.id, {"cancel_at": "", "proration_behavior": "none"}
    )
    assert cleared.cancel_at is None


def test_canceled_now(target: Target):
    sub = target.subscribe(target.customer().id, target.price().id)
    ended = target.v1.subscriptions.cancel(sub.id)
    assert (ended.status, ended.cancellation_details.reason) == (
        "canceled",
        "cancellation_requested",
    )
    assert ended.ended_at >= sub.created
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.subscriptions.update(sub.id, {"cancel_at_period_end": True})
    assert refusal.value.http_status == 400


def test_upgrade_invoiced_at_once(target: Target):
    product = target.product().id
    low, high = (target.price(amount, product=product).id for amount in (1000, 3000))
    sub = target.subscribe(target.customer().id, low)
    changed = target.v1.subscriptions.update(
        sub.id,
        {
            "items": [{"id": sub.items.data[0].id, "price": high}],
            "proration_behavior": "always_invoice",
        },
    )
    assert changed.items.data[0].price.id == high
    assert changed.items.data[0].current_period_end == sub.items.data[0].current_period_end
    invoice = target.v1.invoices.retrieve(changed.latest_invoice)
    assert invoice.billing_reason == "subscription_update"
    amounts = sorted(line.amount for line in invoice.lines.data)
    assert amounts[0] < 0 < amounts[1]
    assert 1900 <= invoice.total <= 2000  # the whole period is still ahead
    for line in invoice.lines.data:
        details = getattr(line.parent, line.parent.type)
        assert details.proration is True


def test_quantity(target: Target):
    sub = target.subscribe(target.customer().id, target.price(1000).id)
    changed = target.v1.subscriptions.update(
        sub.id,
        {
            "items": [{"id": sub.items.data[0].id, "quantity": 4}],
            "proration_behavior": "none",
        },
    )
    assert changed.items.data[0].quantity == 4


def test_items_can_be_listed_added_and_removed(target: Target):
    base, extra = target.price(1000).id, target.price(300).id
    sub = target.subscribe(target.customer().id, base)
    added = target.v1.subscription_items.create({"subscription": sub.id, "price": extra})
    listed = target.v1.subscription_items.list({"subscription": sub.id}).data
    assert {item.price.id for item in listed} == {base, extra}
    assert target.v1.subscription_items.delete(added.id).deleted is True
    assert len(target.v1.subscriptions.retrieve(sub.id).items.data) == 1


def test_pause_collection_leaves_it_active(target: Target):
    sub = target.subscribe(target.customer().id, target.price().id)
    paused = target.v1.subscriptions.update(sub.id, {"pause_collection": {"behavior": "void"}})
    assert (paused.status, paused.pause_collection.behavior) == ("active", "void")
    back = target.v1.subscriptions.update(sub.id, {"pause_collection": ""})
    assert back.pause_collection is None


def test_trial(target: Target):
    sub = target.subscribe(target.customer().id, target.price().id, trial_period_days=14)
    assert sub.status == "trialing"
    assert sub.trial_end - sub.trial_start == 14 * DAY
    assert sub.items.data[0].current_period_end == sub.trial_end
    assert target.v1.invoices.retrieve(sub.latest_invoice).total == 0


def test_declined_first_payment_leaves_it_incomplete(target: Target):
    customer = target.customer(None)
    target.use_method(customer.id, "pm_card_chargeCustomerFail")
    sub = target.subscribe(customer.id, target.price().id)
    assert sub.status == "incomplete"
    invoice = target.v1.invoices.retrieve(sub.latest_invoice)
    assert (invoice.status, invoice.attempted) == ("open", True)


def test_error_if_incomplete_makes_nothing(target: Target):
    customer = target.customer(None)
    target.use_method(customer.id, "pm_card_chargeCustomerFail")
    with pytest.raises(stripe.CardError) as refusal:
        target.subscribe(customer.id, target.price().id, payment_behavior="error_if_incomplete")
    assert refusal.value.http_status == 402
    listed = target.v1.subscriptions.list({"customer": customer.id, "status": "all"}).data
    assert listed == []


def test_no_payment_method_is_refused(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.subscribe(target.customer(None).id, target.price().id)
    assert refusal.value.http_status == 400


def test_coupon_is_taken_off(target: Target):
    coupon = target.v1.coupons.create({"percent_off": 25, "duration": "forever"})
    sub = target.subscribe(
        target.customer().id, target.price(2000).id, discounts=[{"coupon": coupon.id}]
    )
    invoice = target.v1.invoices.retrieve(sub.latest_invoice)
    assert (invoice.subtotal, invoice.total) == (2000, 1500)
    shown = target.v1.subscriptions.retrieve(sub.id, {"expand": ["discounts"]})
    assert shown.discounts[0].source.coupon == coupon.id


def test_preview_of_the_next_invoice(target: Target):
    sub = target.subscribe(target.customer().id, target.price(2000).id)
    preview = target.v1.invoices.create_preview({"subscription": sub.id})
    assert preview.total == 2000
    assert len(target.v1.invoices.list({"subscription": sub.id}).data) == 1


def test_schedule_from_a_subscription_is_released(target: Target):
    sub = target.subscribe(target.customer().id, target.price().id)
    schedule = target.v1.subscription_schedules.create({"from_subscription": sub.id})
    assert (schedule.status, schedule.subscription) == ("active", sub.id)
    assert len(schedule.phases) == 1
    assert target.v1.subscriptions.retrieve(sub.id).schedule == schedule.id
    released = target.v1.subscription_schedules.release(schedule.id)
    assert (released.status, released.released_subscription) == ("released", sub.id)
    assert target.v1.subscriptions.retrieve(sub.id).schedule is None


def test_refund_of_a_subscription_payment(target: Target):
    sub = target.subscribe(target.customer().id, target.price(2000).id)
    payment = target.v1.invoice_payments.list({"invoice": sub.latest_invoice}).data[0]
    intent = payment.payment.payment_intent
    refund = target.v1.refunds.create({"payment_intent": intent, "amount": 500})
    assert (refund.amount, refund.status, refund.payment_intent) == (500, "succeeded", intent)
    charge = target.v1.charges.retrieve(refund.charge)
    assert (charge.amount_refunded, charge.refunded) == (500, False)
    assert target.v1.invoices.retrieve(sub.latest_invoice).status == "paid"
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.refunds.create({"payment_intent": intent, "amount": 9000})
