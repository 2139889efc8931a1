"""Every list asks the database as often for many rows as for a few."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import ApiToken, AuditEntry
from llmkeys.models import AuditFinding, AuditRun, KeyEvent, KillSwitch, VirtualKey
from plans.entitlements import refresh_entitlements
from plans.models import BillingNotice, BillingProblem, Checkout, PlanGrant, StripeEvent
from tesslate.lib.cause import Cause
from tests.factories import (
    CustomerFactory,
    GatewayModelFactory,
    MembershipFactory,
    PlanFactory,
    PriceFactory,
    SubscriptionFactory,
    UserFactory,
)
from tests.site.ledger import chat_request

TEST = Cause.system("test")


def key() -> VirtualKey:
    user = UserFactory.create()
    refresh_entitlements([user.pk], cause=TEST)
    return VirtualKey.objects.get(user=user)


def event(number: int) -> None:
    CustomerFactory.create(stripe_customer_id=f"cus_{number}")
    StripeEvent.objects.create(
        event_id=f"evt_{number}",
        type="invoice.paid",
        livemode=False,
        created_at=timezone.now(),
        stripe_customer_id=f"cus_{number}",
    )


def checkout(number: int) -> None:
    Checkout.objects.create(
        customer=CustomerFactory.create(),
        price=PriceFactory.create(),
        stripe_session_id=f"cs_{number}",
        expires_at=timezone.now() + timedelta(hours=1),
    )


def grant(number: int) -> None:
    PlanGrant.objects.create(
        user=UserFactory.create(),
        plan=PlanFactory.create(),
        granted_by=UserFactory.create(),
        starts_at=timezone.now(),
        ends_at=timezone.now() + timedelta(days=1),
        reason="x",
    )


def problem(number: int) -> None:
    BillingProblem.objects.create(
        kind=BillingProblem.Kind.values[0], subject=f"s{number}", customer=CustomerFactory.create()
    )


def notice(number: int) -> None:
    BillingNotice.objects.create(
        kind=BillingNotice.Kind.values[0], subject=f"s{number}", customer=CustomerFactory.create()
    )


def audit_entry(number: int) -> None:
    AuditEntry.objects.create(
        action="a.b", cause_kind="staff", user=UserFactory.create(), actor=UserFactory.create()
    )


def token(number: int) -> None:
    ApiToken.objects.create(
        user=UserFactory.create(),
        name="x",
        prefix=f"tk-{number}",
        token_hash=f"hash-{number}",
        scopes=["chat"],
    )


def finding(number: int) -> None:
    AuditFinding.objects.create(run=AuditRun.objects.create(), kind="drift", key=key())


def switch(number: int) -> None:
    KillSwitch.objects.create(
        scope="user", user=UserFactory.create(), reason="x", pulled_by=UserFactory.create()
    )


LISTS: dict[str, Callable[[int], object]] = {
    "accounts/user": lambda number: UserFactory.create(),
    "accounts/organization": lambda number: MembershipFactory.create(role="owner"),
    "accounts/auditentry": audit_entry,
    "accounts/apitoken": token,
    "plans/plan": lambda number: PlanFactory.create(),
    "plans/gatewaymodel": lambda number: GatewayModelFactory.create(),
    "plans/price": lambda number: PriceFactory.create(),
    "plans/customer": lambda number: CustomerFactory.create(),
    "plans/subscription": lambda number: SubscriptionFactory.create(),
    "plans/plangrant": grant,
    "plans/checkout": checkout,
    "plans/billingproblem": problem,
    "plans/billingnotice": notice,
    "plans/currententitlement": lambda number: key(),
    "plans/stripeevent": event,
    "llmkeys/virtualkey": lambda number: key(),
    "llmkeys/keyevent": lambda number: KeyEvent.objects.create(key=key(), action="created"),
    "llmkeys/auditfinding": finding,
    "llmkeys/killswitch": switch,
    "chatproxy/chatrequest": lambda number: chat_request(UserFactory.create()),
}


@pytest.mark.parametrize("path", sorted(LISTS))
def test_a_list_asks_as_often_for_many_rows_as_for_a_few(staff_client, free_plan, path):
    asked = []
    for numbers in (range(2), range(2, 8)):
        for number in numbers:
            LISTS[path](number)
        with CaptureQueriesContext(connection) as queries:
            assert staff_client.get(f"/admin/{path}/").status_code == 200
        asked.append(len(queries))
    assert asked[0] == asked[1], path
    assert asked[0] <= 20, path
