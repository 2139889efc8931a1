"""Which plan a price at Stripe stands for (EDGE-CASES B14 and B15)."""

from django.utils import timezone

from accounts.models import User
from plans.catalogue import map_price
from plans.models import Customer, Price, Subscription
from plans.selectors import live_subscriptions
from plans.subscriptions import price_for
from tesslate.lib.cause import Cause
from tests.factories import PriceFactory, SubscriptionFactory
from tests.plans.builders import stripe_invoice, stripe_item, stripe_price, stripe_subscription
from tests.plans.conftest import Catalogue, Happen
from tests.plans.shop import plan_of, process_all
from tests.plans.wire import Wire

CAUSE = Cause.system("test")


def test_B14_an_unknown_price_keeps_the_last_good_plan_and_is_a_problem(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription()
    wire.put(sub)
    happen("customer.subscription.created", sub)
    wire.put({**sub, "items": {"data": [stripe_item("price_unheard_of")]}})
    event = happen("customer.subscription.updated", sub)
    assert plan_of(user) == "plus"
    assert (event.state, event.outcome) == ("quarantined", "quarantined:price")


def test_B14_an_unknown_price_from_the_start_gives_nothing(
    happen: Happen, wire: Wire, user: User, customer: Customer
) -> None:
    sub = stripe_subscription(price="price_unheard_of")
    wire.put(sub)
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "free"


def test_B14_an_item_that_names_no_price_gives_nothing_though_a_price_is_unpublished(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> None:
    PriceFactory.create(plan=plans.pro, interval="year", stripe_price_id=None)
    sub = stripe_subscription(items=[stripe_item({**stripe_price(), "id": ""})])
    wire.put(sub)
    event = happen("customer.subscription.created", sub)
    assert plan_of(user) == "free"
    assert event.outcome == "quarantined:price"


def test_B14_mapping_the_price_gives_everyone_who_pays_it_the_plan(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> None:
    sub = stripe_subscription(price="price_unheard_of")
    wire.put(sub, stripe_price("price_unheard_of", unit_amount=4200))
    event = happen("customer.subscription.created", sub)
    price = map_price(stripe_price_id="price_unheard_of", plan=plans.pro, cause=CAUSE)
    assert plan_of(user) == "pro"
    assert (price.unit_amount, price.archived_at is None) == (4200, False)
    process_all()
    event.refresh_from_db()
    assert event.state == "processed"


def test_B14_mapping_the_price_also_settles_events_that_name_no_customer(
    happen: Happen, wire: Wire, customer: Customer, plans: Catalogue
) -> None:
    sub = stripe_subscription(price="price_odd")
    invoice = stripe_invoice(sub["id"], status="paid")
    wire.put(sub, invoice, sub["items"]["data"][0]["price"])
    paid = happen("invoice_payment.paid", {"id": "inpay_1", "invoice": invoice["id"]})
    assert (paid.stripe_customer_id, paid.outcome) == ("", "quarantined:price")
    map_price(stripe_price_id="price_odd", plan=plans.pro, cause=CAUSE)
    process_all()
    paid.refresh_from_db()
    assert paid.state == "processed"


def test_B15_the_price_id_goes_before_the_lookup_key(
    happen: Happen, wire: Wire, user: User, customer: Customer, plans: Catalogue
) -> None:
    plans.pro_price.lookup_key = "the_key"
    plans.pro_price.save()
    both = stripe_price("price_plus", lookup_key="the_key")
    sub = stripe_subscription(items=[stripe_item(both)])
    wire.put(sub)
    happen("customer.subscription.created", sub)
    assert plan_of(user) == "plus"
    moved = stripe_price("price_new_at_stripe", lookup_key="the_key")
    wire.put({**sub, "items": {"data": [stripe_item(moved)]}})
    happen("customer.subscription.updated", sub)
    assert plan_of(user) == "pro"


def test_B15_of_a_lookup_keys_prices_the_one_on_sale_counts(plans: Catalogue) -> None:
    moved = {"price": stripe_price("price_new_at_stripe", lookup_key="the_key")}
    PriceFactory.create(plan=plans.plus, lookup_key="the_key", archived_at=timezone.now())
    on_sale = PriceFactory.create(plan=plans.pro, lookup_key="the_key", interval="year")
    assert price_for(moved) == on_sale


def test_B20_a_subscription_whose_price_is_unmapped_counts_by_the_plan_it_still_gives(
    customer: Customer, plans: Catalogue
) -> None:
    def unmapped(was: Price) -> Subscription:
        row: Subscription = SubscriptionFactory.create(customer=customer, price=was)
        Subscription.objects.filter(pk=row.pk).update(price=None)
        return row

    low = unmapped(plans.plus_price)
    best = SubscriptionFactory.create(customer=customer, price=plans.pro_price)
    newer = unmapped(plans.pro_price)
    assert list(live_subscriptions(customer)) == [newer, best, low]
