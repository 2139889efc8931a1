"""Seeding, publishing, checks and reconciliation, as operators run them."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import AuditEntry
from plans import checks, reconciliation, subscriptions
from plans.catalogue import map_price
from plans.errors import StripeUnavailable
from plans.models import (
    BillingReconciliation,
    GatewayModel,
    Plan,
    PortalConfiguration,
    Price,
    Subscription,
)
from plans.problems import problems
from plans.reconciliation import read_back_due, reconcile
from plans.seeding import MODELS, seed_plans
from plans.selectors import current_entitlement
from plans.stripe_client import Stripe, connected_to
from sandbox.stripe.api import Api
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.inprocess import InProcessHTTPClient
from tesslate.lib.cause import Cause
from tests.factories import CustomerFactory, SubscriptionFactory, UserFactory

pytestmark = pytest.mark.django_db
CAUSE = Cause.system("test")


@pytest.fixture
def engine(settings: Any) -> Iterator[StripeEngine]:
    engine = StripeEngine(seed=3)
    engine.advance_to(int(timezone.now().timestamp()))
    client = InProcessHTTPClient(Api(engine.world, settings.STRIPE_SECRET_KEY))
    with connected_to(Stripe(http_client=client, retries=0)):
        yield engine


def run(*command: str) -> str:
    out = io.StringIO()
    call_command(*command, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_seeding_makes_the_three_plans_and_a_second_time_nothing() -> None:
    assert "10 made" in run("seed_plans")
    assert "0 made" in run("seed_plans")
    assert [plan.code for plan in Plan.objects.all()] == ["free", "plus", "pro"]
    assert Plan.objects.get(code="pro").gateway_models.count() == len(MODELS)
    assert Price.objects.count() == 4


def test_seeding_never_overwrites_what_staff_edited() -> None:
    seed_plans()
    Plan.objects.filter(code="plus").update(rpm=7, name="Plus Plus")
    Plan.objects.get(code="plus").gateway_models.clear()
    seed_plans()
    plus = Plan.objects.get(code="plus")
    assert (plus.rpm, plus.name, plus.gateway_models.count()) == (7, "Plus Plus", 0)


def test_the_delivered_plans_agree_with_the_delivered_gateway_configuration() -> None:
    seed_plans()
    assert checks.gateway_serves_plans(None, databases=["default"]) == []


def test_a_plan_with_a_model_that_the_gateway_does_not_serve_is_an_error() -> None:
    seed_plans()
    stray = GatewayModel.objects.create(name="no-such-model", title="Stray")
    Plan.objects.get(code="pro").gateway_models.add(stray)
    found = checks.gateway_serves_plans(None, databases=["default"])
    assert [problem.id for problem in found] == ["plans.E003"]


@pytest.mark.parametrize("secrets", [[], [""], ["whsec_x", " "]])
def test_I04_a_blank_secret_fails_the_system_check(settings: Any, secrets: list[str]) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = secrets
    assert [problem.id for problem in checks.signing_secret_is_set(None)] == ["plans.E001"]


def test_I07_tolerance_zero_fails_the_system_check(settings: Any) -> None:
    settings.STRIPE_WEBHOOK_TOLERANCE_SECONDS = 0
    assert [problem.id for problem in checks.signatures_expire(None)] == ["plans.E002"]


def test_publishing_is_told_first_and_done_once(engine: StripeEngine) -> None:
    seed_plans()
    assert "create product for plan plus" in run("publish_plans", "--dry-run")
    assert not engine.objects("product")
    run("publish_plans", "--apply")
    assert len(engine.objects("product")) == 2
    assert len(engine.objects("price")) == 4
    assert "0 steps" in run("publish_plans", "--apply")


def test_publishing_sets_the_portals_rules_up_once(engine: StripeEngine) -> None:
    seed_plans()
    assert "create the billing portal for people" in run("publish_plans", "--dry-run")
    run("publish_plans", "--apply")
    rows = PortalConfiguration.objects.order_by("payer")
    ours = {row.payer: engine.object(row.stripe_configuration_id)["features"] for row in rows}
    assert set(ours) == {"user", "organization"}
    for payer, seats in (("user", False), ("organization", True)):
        update = ours[payer]["subscription_update"]
        assert ("quantity" in update["default_allowed_updates"]) is seats
        assert {"type": "decreasing_item_amount"} in update["schedule_at_period_end"]["conditions"]
        assert sum(len(product["prices"]) for product in update["products"]) == 4
        assert ours[payer]["subscription_cancel"]["mode"] == "at_period_end"
    assert "0 steps" in run("publish_plans", "--apply")


def test_the_portals_rules_follow_the_price_list_and_survive_our_forgetting(
    engine: StripeEngine,
) -> None:
    seed_plans()
    run("publish_plans", "--apply")
    ids = set(PortalConfiguration.objects.values_list("stripe_configuration_id", flat=True))
    PortalConfiguration.objects.all().delete()
    Plan.objects.filter(code="pro").update(is_public=False)
    told = run("publish_plans", "--apply")
    assert told.count("adopt the billing portal") == told.count("update the billing portal") == 2
    rows = PortalConfiguration.objects.all()
    assert {row.stripe_configuration_id for row in rows} == ids
    features = engine.object(rows[0].stripe_configuration_id)["features"]
    assert len(features["subscription_update"]["products"]) == 1


def test_a_price_of_another_product_that_staff_mapped_is_left_as_it_is(
    engine: StripeEngine,
) -> None:
    seed_plans()
    run("publish_plans", "--apply")
    negotiated = engine.create_price(unit_amount=4200, interval="month")["id"]
    map_price(stripe_price_id=negotiated, plan=Plan.objects.get(code="pro"), cause=CAUSE)
    assert "0 steps" in run("publish_plans", "--apply")
    assert engine.object(negotiated)["active"] is True


def test_a_default_price_hands_over_before_it_is_archived(engine: StripeEngine) -> None:
    seed_plans()
    run("publish_plans", "--apply")
    old = Price.objects.get(plan__code="plus", interval="month")
    product = old.plan.stripe_product_id
    engine.request("POST", f"/v1/products/{product}", {"default_price": old.stripe_price_id})
    Price.objects.filter(pk=old.pk).update(archived_at=timezone.now())
    new = Price.objects.create(plan=old.plan, interval="month", unit_amount=2900)
    run("publish_plans", "--apply")
    new.refresh_from_db()
    assert engine.object(str(old.stripe_price_id))["active"] is False
    assert engine.object(product)["default_price"] in {
        new.stripe_price_id,
        Price.objects.get(plan__code="plus", interval="year").stripe_price_id,
    }


def test_publishing_adopts_what_an_interrupted_run_left(engine: StripeEngine) -> None:
    seed_plans()
    run("publish_plans", "--apply")
    ids = set(Price.objects.values_list("stripe_price_id", flat=True))
    Price.objects.update(stripe_price_id=None)
    Plan.objects.update(stripe_product_id="")
    assert "adopt" in run("publish_plans", "--apply")
    assert set(Price.objects.values_list("stripe_price_id", flat=True)) == ids
    assert len(engine.objects("price")) == 4


def test_a_new_amount_is_a_new_price_and_whoever_has_the_old_one_keeps_it(
    engine: StripeEngine,
) -> None:
    seed_plans()
    run("publish_plans", "--apply")
    old = Price.objects.get(plan__code="plus", interval="month")
    user, sub = buy(engine, old)
    old.archived_at = timezone.now()
    old.save()
    new = Price.objects.create(
        plan=old.plan, interval="month", unit_amount=2900, lookup_key=old.lookup_key
    )
    run("publish_plans", "--apply")
    new.refresh_from_db()
    assert engine.object(str(old.stripe_price_id))["active"] is False
    assert engine.object(str(new.stripe_price_id))["lookup_key"] == old.lookup_key
    reconcile(cause=CAUSE)
    assert engine.object(sub)["items"]["data"][0]["price"]["unit_amount"] == 1900
    assert current_entitlement(user).plan.code == "plus"


@dataclass(frozen=True)
class Dearer:
    """Plus costs more than it did when somebody bought it."""

    old: Price
    new: Price
    user: Any
    subscription: str

    def migrate(self, *options: str) -> str:
        return run("migrate_price", str(self.old.stripe_price_id), *options)


@pytest.fixture
def dearer(engine: StripeEngine) -> Dearer:
    seed_plans()
    run("publish_plans", "--apply")
    old = Price.objects.get(plan__code="plus", interval="month")
    user, subscription = buy(engine, old)
    Price.objects.filter(pk=old.pk).update(archived_at=timezone.now())
    new = Price.objects.create(plan=old.plan, interval="month", unit_amount=2900)
    run("publish_plans", "--apply")
    new.refresh_from_db()
    reconcile(cause=CAUSE)
    return Dearer(old, new, user, subscription)


def test_staff_move_payers_to_the_new_price_from_their_next_renewal_on(
    engine: StripeEngine, dearer: Dearer
) -> None:
    assert "1 to move" in dearer.migrate("--dry-run")
    assert Subscription.objects.get().price == dearer.old
    invoices = len(engine.objects("invoice"))
    assert "1 moved, 0 not" in dearer.migrate("--apply")
    assert len(engine.objects("invoice")) == invoices
    assert Subscription.objects.get().price == dearer.new
    assert current_entitlement(dearer.user).plan.code == "plus"
    engine.advance_past_renewal(dearer.subscription)
    assert engine.objects("invoice")[-1]["amount_due"] == 2900
    assert "0 to move" in dearer.migrate("--dry-run")


def test_who_has_a_change_planned_is_not_moved_and_that_is_said(
    engine: StripeEngine, dearer: Dearer
) -> None:
    engine.request("POST", f"/v1/prices/{dearer.old.stripe_price_id}", {"active": True})
    schedule = {"from_subscription": dearer.subscription}
    engine.request("POST", "/v1/subscription_schedules", schedule)
    with pytest.raises(CommandError, match="Some were not moved"):
        dearer.migrate("--apply")
    assert Subscription.objects.get().price == dearer.old


def test_payers_are_not_moved_to_a_price_of_another_interval(dearer: Dearer) -> None:
    yearly = Price.objects.get(plan__code="plus", interval="year").stripe_price_id
    with pytest.raises(CommandError, match="one interval"):
        dearer.migrate(str(yearly), "--apply")


def test_staff_move_payers_in_the_admin(
    dearer: Dearer, staff_client: Client, settings: Any
) -> None:
    settings.STAFF_TWO_FACTOR_REQUIRED = False
    row = Subscription.objects.get()
    staff_client.post(
        reverse("admin:plans_subscription_changelist"),
        {
            "action": "move_to_price_on_sale",
            "_selected_action": [row.pk],
            "confirmed": "1",
            "reason": "New prices since May",
        },
    )
    row.refresh_from_db()
    assert row.price == dearer.new
    entry = AuditEntry.objects.get(action="subscription.price_moved")
    assert entry.reason == "New prices since May"


def buy(engine: StripeEngine, price: Price) -> tuple[Any, str]:
    user = UserFactory.create()
    customer = engine.create_customer(metadata={"user_id": str(user.pk)})
    CustomerFactory.create(user=user, stripe_customer_id=customer["id"])
    return user, engine.subscribe(customer["id"], str(price.stripe_price_id))["id"]


def test_reconciliation_catches_a_week_of_lost_webhooks(engine: StripeEngine) -> None:
    seed_plans()
    run("publish_plans", "--apply")
    plus, pro = (Price.objects.get(plan__code=c, interval="month") for c in ("plus", "pro"))
    buyers = [buy(engine, plus) for _ in range(3)]
    engine.change_price(buyers[1][1], str(pro.stripe_price_id))
    engine.cancel(buyers[2][1])
    engine.advance(days=7)
    told = run("reconcile_billing", "--dry-run", "--no-backfill")
    assert "3 to repair" in told
    assert not Subscription.objects.exists()
    assert not BillingReconciliation.objects.exists()
    assert "3 repaired" in run("reconcile_billing", "--no-backfill")
    assert [current_entitlement(user).plan.code for user, _ in buyers] == ["plus", "pro", "free"]
    assert "3 agreed, 0 repaired" in run("reconcile_billing", "--no-backfill")
    second, first = BillingReconciliation.objects.all()
    assert (first.seen, first.repaired, len(first.lines)) == (3, 3, 3)
    assert (second.agreed, second.repaired, second.lines) == (3, 0, [])


def test_a_reconciliation_that_broke_off_is_on_record_and_becomes_a_problem(
    engine: StripeEngine,
) -> None:
    seed_plans()
    SubscriptionFactory.create()
    Subscription.objects.update(created_at=timezone.now() - timedelta(days=3))
    reconcile(cause=CAUSE)
    assert "not_reconciled" not in {problem.kind for problem in problems()}
    BillingReconciliation.objects.update(started_at=timezone.now() - timedelta(days=3))
    with connected_to(Stripe(retries=0)), pytest.raises(StripeUnavailable):
        reconcile(cause=CAUSE)
    broken = BillingReconciliation.objects.latest("started_at")
    assert broken.finished_at is None
    assert "/v1/subscriptions" in broken.error
    (problem,) = [each for each in problems() if each.kind == "not_reconciled"]
    assert broken.error in problem.summary


def test_one_malformed_subscription_ends_nobody_elses_comparison(
    engine: StripeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed_plans()
    run("publish_plans", "--apply")
    plus, pro = (Price.objects.get(plan__code=c, interval="month") for c in ("plus", "pro"))
    buyers = [buy(engine, plus) for _ in range(3)]
    reconcile(cause=CAUSE)
    for _, sub in buyers:
        engine.change_price(sub, str(pro.stripe_price_id))
    odd = buyers[1][1]
    read = subscriptions.columns_from

    def odd_one_out(found: Any, *rest: Any) -> Any:
        if found["id"] == odd:
            raise KeyError("items")
        return read(found, *rest)

    monkeypatch.setattr(subscriptions, "columns_from", odd_one_out)
    due = timezone.now() + timedelta(days=40)
    assert read_back_due(at=due) == 2

    monkeypatch.setattr(reconciliation, "columns_from", odd_one_out)
    report = reconcile(cause=CAUSE)
    assert (report.seen, report.agreed, report.failed) == (3, 2, 1)
    assert report.lines == [f"{odd}: KeyError: 'items'"]
    assert BillingReconciliation.objects.latest("started_at").finished_at is not None


@pytest.mark.parametrize("error", [KeyError("items"), SystemExit()])
def test_a_reconciliation_that_crashed_has_not_finished(
    engine: StripeEngine, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(reconciliation, "_refresh_everyone", mock.Mock(side_effect=error))
    with pytest.raises(type(error)):
        reconcile(cause=CAUSE)
    broken = BillingReconciliation.objects.get()
    assert broken.finished_at is None
    assert broken.error == ("KeyError: 'items'" if isinstance(error, KeyError) else "")


def test_reconciliation_that_cannot_reach_stripe_says_so_and_changes_nothing(
    settings: Any,
) -> None:
    with (
        connected_to(Stripe(retries=0)),
        pytest.raises(CommandError, match=r"/v1/|no answer"),
    ):
        run("reconcile_billing")


def test_B35_reconciliation_leaves_users_without_stripe_objects_alone(
    engine: StripeEngine,
) -> None:
    seed_plans()
    user = UserFactory.create()
    version = current_entitlement(user).version
    reconcile(cause=CAUSE)
    assert current_entitlement(user).version == version


def test_a_renewal_that_nobody_told_us_of_is_read_when_its_time_comes(
    engine: StripeEngine,
) -> None:
    seed_plans()
    run("publish_plans", "--apply")
    user, sub = buy(engine, Price.objects.get(plan__code="plus", interval="month"))
    reconcile(cause=CAUSE)
    before = current_entitlement(user).period_end
    engine.advance_past_renewal(sub)
    assert read_back_due(at=before) == 1
    assert current_entitlement(user).period_start == before
