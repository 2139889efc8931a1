import pytest
from django.test import Client

from accounts.models import User
from plans.models import Plan
from tests.factories import GatewayModelFactory, PlanFactory, PriceFactory


@pytest.fixture
def pro_plan(free_plan) -> Plan:
    """Free has one model; Pro has that and a second, monthly and yearly."""
    small, large = (
        GatewayModelFactory.create(name="small"),
        GatewayModelFactory.create(name="large"),
    )
    free_plan.gateway_models.add(small)
    plan = PlanFactory.create(code="pro", name="Pro", rank=30, gateway_models=[small, large])
    PriceFactory.create(plan=plan, interval="month", unit_amount=1900)
    PriceFactory.create(plan=plan, interval="year", unit_amount=19_000)
    return plan


@pytest.fixture
def signed_in(client: Client, pro_plan, user: User) -> Client:
    client.force_login(user)
    return client
