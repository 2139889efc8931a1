"""Rows of ours. What Stripe and LiteLLM hold is built at their stand-ins, never here."""

from datetime import timedelta
from typing import Any

import factory
from django.utils import timezone

from accounts.models import Membership, Organization, User
from plans.models import (
    Customer,
    GatewayModel,
    OverageMeter,
    Plan,
    PlanGrant,
    Price,
    Subscription,
)


class UserFactory(factory.django.DjangoModelFactory[User]):
    class Meta:
        model = User

    email = factory.Sequence(lambda n: f"user{n}@example.com")
    firebase_uid = factory.Sequence(lambda n: f"firebase-uid-{n}")
    display_name = factory.Sequence(lambda n: f"User {n}")

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        return model_class.objects.create_user(*args, **kwargs)


class OrganizationFactory(factory.django.DjangoModelFactory[Organization]):
    class Meta:
        model = Organization

    name = factory.Sequence(lambda n: f"Organization {n}")


class MembershipFactory(factory.django.DjangoModelFactory[Membership]):
    class Meta:
        model = Membership

    organization = factory.SubFactory(OrganizationFactory)
    user = factory.SubFactory(UserFactory)


class GatewayModelFactory(factory.django.DjangoModelFactory[GatewayModel]):
    class Meta:
        model = GatewayModel

    name = factory.Sequence(lambda n: f"model-{n}")
    title = factory.LazyAttribute(lambda model: model.name.title())


class PlanFactory(factory.django.DjangoModelFactory[Plan]):
    class Meta:
        model = Plan
        skip_postgeneration_save = True

    code = factory.Sequence(lambda n: f"plan-{n}")
    name = factory.LazyAttribute(lambda plan: plan.code.title())
    rank = factory.Sequence(lambda n: 1000 + n)
    rpm = 60
    tpm = 60_000
    budget_cents = 1000

    @factory.post_generation  # type: ignore[untyped-decorator]
    def gateway_models(self: Plan, create: bool, models: Any, **kwargs: Any) -> None:
        if create and models:
            self.gateway_models.set(models)


class PriceFactory(factory.django.DjangoModelFactory[Price]):
    class Meta:
        model = Price

    plan = factory.SubFactory(PlanFactory)
    stripe_price_id = factory.Sequence(lambda n: f"price_{n}")
    interval = Price.Interval.MONTH
    unit_amount = 1900


class CustomerFactory(factory.django.DjangoModelFactory[Customer]):
    class Meta:
        model = Customer

    user = factory.SubFactory(UserFactory)
    stripe_customer_id = factory.Sequence(lambda n: f"cus_{n}")


class SubscriptionFactory(factory.django.DjangoModelFactory[Subscription]):
    class Meta:
        model = Subscription

    customer = factory.SubFactory(CustomerFactory)
    stripe_subscription_id = factory.Sequence(lambda n: f"sub_{n}")
    status = "active"
    price = factory.SubFactory(PriceFactory)
    last_good_price = factory.SelfAttribute("price")
    stripe_price_id = factory.LazyAttribute(lambda sub: sub.price.stripe_price_id)
    current_period_start = factory.LazyFunction(lambda: timezone.now() - timedelta(days=1))
    current_period_end = factory.LazyFunction(lambda: timezone.now() + timedelta(days=29))
    read_at = factory.LazyFunction(timezone.now)


class PlanGrantFactory(factory.django.DjangoModelFactory[PlanGrant]):
    class Meta:
        model = PlanGrant

    user = factory.SubFactory(UserFactory)
    plan = factory.SubFactory(PlanFactory)
    starts_at = factory.LazyFunction(lambda: timezone.now() - timedelta(hours=1))
    ends_at = factory.LazyFunction(lambda: timezone.now() + timedelta(days=7))
    reason = "Because they asked nicely"


def let_overage_be_billed(subscription: Subscription, *, cap_cents: int) -> None:
    """The plan allows it, the payer has set a cap, and our copy has the metered price."""
    assert subscription.price is not None
    Plan.objects.filter(pk=subscription.price.plan_id).update(overage_allowed=True)
    meter = OverageMeter.objects.create(
        event_name="overage", stripe_meter_id="mtr_1", stripe_price_id="price_metered"
    )
    customer = subscription.customer
    customer.overage_cap_cents = cap_cents
    customer.save()
    subscription.snapshot = {
        "customer": customer.stripe_customer_id,
        "items": [{"price": {"id": meter.stripe_price_id}}],
    }
    subscription.save()
