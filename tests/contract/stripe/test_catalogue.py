import pytest
import stripe

from tests.contract.stripe.conftest import Target

pytestmark = pytest.mark.contract


def test_product_and_price_are_found_again(target: Target):
    product = target.product("Pro", metadata={"plan": "pro"}, description="All models")
    price = target.price(5000, product=product.id, nickname="monthly", metadata={"v": "1"})
    again = target.v1.prices.retrieve(price.id, {"expand": ["product"]})
    assert again.product.metadata["plan"] == "pro"
    assert (again.unit_amount, again.unit_amount_decimal, again.currency) == (5000, 5000, "usd")
    assert (again.recurring.interval, again.recurring.interval_count) == ("month", 1)
    assert (again.type, again.active, again.billing_scheme) == ("recurring", True, "per_unit")
    assert again.livemode is False


def test_lookup_key_finds_the_price_and_can_be_moved_to_another(target: Target):
    key = f"pro_month_{target.run}"
    old = target.price(1000, lookup_key=key)
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.price(1100, lookup_key=key)
    assert refusal.value.http_status == 400
    new = target.price(1200, lookup_key=key, transfer_lookup_key=True)
    found = target.v1.prices.list({"lookup_keys": [key]}).data
    assert [price.id for price in found] == [new.id]
    assert target.v1.prices.retrieve(old.id).lookup_key is None


def test_archived_price_is_no_longer_listed_as_active_nor_sold(target: Target):
    price = target.price(1000)
    target.v1.prices.update(price.id, {"active": False})
    listed = target.v1.prices.list({"product": price.product, "active": True}).data
    assert listed == []
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.subscribe(target.customer().id, price.id)
    assert "inactive" in str(refusal.value.user_message)


def test_product_is_updated_and_its_metadata_merged(target: Target):
    product = target.product("Old", metadata={"a": "1", "b": "2"})
    changed = target.v1.products.update(
        product.id, {"name": "New", "metadata": {"b": "", "c": "3"}}
    )
    assert (changed.name, changed.metadata.to_dict()) == ("New", {"a": "1", "c": "3"})


def test_product_may_have_an_id_of_our_own(target: Target):
    product = target.product("Named", id=f"plan_{target.run}")
    assert product.id == f"plan_{target.run}"
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.product("Again", id=product.id)
    assert refusal.value.code == "resource_already_exists"


def test_product_with_prices_cannot_be_deleted(target: Target):
    price = target.price(1000)
    with pytest.raises(stripe.InvalidRequestError):
        target.v1.products.delete(price.product)


def test_coupon_and_promotion_code(target: Target):
    coupon = target.v1.coupons.create({"percent_off": 25, "duration": "once"})
    code = target.v1.promotion_codes.create(
        {"promotion": {"type": "coupon", "coupon": coupon.id}, "code": f"SAVE{target.run}"}
    )
    assert code.promotion.coupon == coupon.id
    found = target.v1.promotion_codes.list({"code": code.code}).data
    assert [one.id for one in found] == [code.id]
    target.v1.coupons.delete(coupon.id)
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.coupons.retrieve(coupon.id)
    assert refusal.value.http_status == 404


def test_price_needs_an_amount(target: Target):
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        target.v1.prices.create({"currency": "usd", "product": target.product().id})
    assert refusal.value.http_status == 400
