import pytest
import stripe

from tests.contract.stripe.conftest import Target

pytestmark = pytest.mark.contract


def test_customer_is_made_read_and_changed(target: Target):
    made = target.customer(None, name="Ada", metadata={"user_id": "7"})
    changed = target.v1.customers.update(made.id, {"name": "Ada L.", "metadata": {"x": "y"}})
    assert (changed.id, changed.name, changed.email) == (made.id, "Ada L.", made.email)
    assert changed.metadata.to_dict() == {"user_id": "7", "x": "y"}
    assert (changed.balance, changed.delinquent, changed.livemode) == (0, False, False)


def test_deleted_customer_leaves_a_tombstone(target: Target):
    made = target.customer()
    sub = target.subscribe(made.id, target.price().id)
    gone = target.v1.customers.delete(made.id)
    assert gone.deleted is True
    assert target.v1.customers.retrieve(made.id).deleted is True
    assert target.v1.subscriptions.retrieve(sub.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.customers.update(made.id, {"name": "x"})
    assert refusal.value.code == "resource_missing"


def test_payment_method_is_attached_made_default_and_detached(target: Target):
    made = target.customer(None)
    method = target.use_method(made.id, "pm_card_visa")
    held = target.v1.customers.retrieve(made.id)
    assert held.invoice_settings.default_payment_method == method
    listed = target.v1.payment_methods.list({"customer": made.id}).data
    assert [(m.id, m.type, m.card.last4) for m in listed] == [(method, "card", "4242")]
    target.v1.payment_methods.detach(method)
    assert target.v1.customers.payment_methods.list(made.id).data == []
    held = target.v1.customers.retrieve(made.id)
    assert held.invoice_settings.default_payment_method is None


def test_method_of_nobody_cannot_become_the_default(target: Target):
    made, other = target.customer(None), target.customer()
    method = target.v1.payment_methods.list({"customer": other.id}).data[0].id
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.customers.update(
            made.id, {"invoice_settings": {"default_payment_method": method}}
        )
