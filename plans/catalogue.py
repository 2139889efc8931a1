"""Changes to what is for sale: plan edits, price mapping, and what was changed at Stripe."""

from datetime import datetime

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.audit import record_act
from plans import stripe_client
from plans.entitlements import refresh_entitlements, users_of
from plans.inbox_states import reopen
from plans.models import BillingProblem, CurrentEntitlement, GatewayModel, Plan, Price, Subscription
from plans.overage import include_more
from plans.problems import open_problem, resolve_problem
from plans.signals import plan_changed
from tesslate.lib.cause import Cause
from tesslate.lib.errors import InvalidRequest

Problem = BillingProblem.Kind


class CannotMap(InvalidRequest):
    code = "cannot_map_price"
    message = "This price cannot be mapped."


@transaction.atomic
def announce_plan_edit(*, plan: Plan, changed: list[str], cause: Cause) -> None:
    """After a plan or its models were saved, in the same transaction: raise its version, leave an
    entry, tell those above, and have every entitlement that could follow decided anew."""
    plan.version += 1
    plan.save(update_fields=["version", "updated_at"])
    record_act(action="plan.edited", cause=cause, target=plan, after={"changed": changed})
    plan_changed.send(sender=Plan, plan=plan, cause=cause)
    if "budget_cents" in changed:
        include_more(plan)
    everybody = CurrentEntitlement.objects.all()
    if {"rank", "is_default"} & set(changed):
        decide_again(everybody)
        return
    if {"grace_days", "grace_limit_percent"} & set(changed):
        decide_again(everybody.filter(_overdue_on(plan)))
    if {"overage_allowed", "overage_markup_percent"} & set(changed):
        decide_again(everybody.filter(plan=plan))


@transaction.atomic
def retire_default(*, in_favour_of: Plan, cause: Cause) -> Plan | None:
    """Have the default plan step down; returns it, or None if there was no other.

    The caller saves ``in_favour_of`` as the default in the same transaction, so that nobody ever
    sees two or none.
    """
    # All of them: of two who change the default at once, the second sees what the first did.
    plans = list(Plan.objects.select_for_update().order_by("pk"))
    former = next((plan for plan in plans if plan.is_default and plan != in_favour_of), None)
    if former is not None:
        former.is_default = False
        former.save(update_fields=["is_default"])
        announce_plan_edit(plan=former, changed=["is_default"], cause=cause)
    return former


@transaction.atomic
def announce_model_edit(*, model: GatewayModel, cause: Cause) -> None:
    """After a model was saved (disabled, enabled): every plan that includes it has changed."""
    for plan in model.plans.all():
        plan_changed.send(sender=Plan, plan=plan, cause=cause)


def decide_again(rows: QuerySet[CurrentEntitlement], *, at: datetime | None = None) -> int:
    """Make entitlements due for the sweep, in one statement however many there are."""
    return rows.update(changes_at=at or timezone.now())


def _overdue_on(plan: Plan) -> Q:
    """Whose grace the plan decides, though they may have lost it already: also by the last mapped
    price and the last known status, where Stripe has new words."""
    subscriptions = Subscription.objects.filter(
        Q(price__plan=plan) | Q(price=None, last_good_price__plan=plan),
        Q(status="past_due") | Q(last_good_status="past_due"),
    )
    return Q(user__customer__subscriptions__in=subscriptions) | Q(
        user__memberships__organization__customer__subscriptions__in=subscriptions
    )


def map_price(*, stripe_price_id: str, plan: Plan, cause: Cause) -> Price:
    """Say which plan an unknown price stands for, and let everyone who pays it have that plan.

    The price is kept as archived: it is honoured, not sold. Amount and interval come from Stripe.
    Raises CannotMap, StripeUnavailable.
    """
    at_stripe = stripe_client.connection().price(stripe_price_id)
    if at_stripe is None:
        raise CannotMap(f"Stripe does not know {stripe_price_id}.")
    recurring = at_stripe.get("recurring") or {}
    if recurring.get("interval") not in Price.Interval.values or recurring.get(
        "interval_count", 1
    ) not in (1, None):
        raise CannotMap("Only prices billed every month or every year stand for a plan.")
    with transaction.atomic():
        price, created = Price.objects.get_or_create(
            stripe_price_id=stripe_price_id,
            defaults={
                "plan": plan,
                "interval": recurring["interval"],
                "unit_amount": at_stripe.get("unit_amount") or 0,
                "currency": at_stripe.get("currency") or "usd",
                "archived_at": timezone.now(),
            },
        )
        if not created and price.plan_id != plan.pk:
            raise CannotMap(f"{stripe_price_id} stands for {price.plan} already.")
        record_act(
            action="price.mapped",
            cause=cause,
            target=price,
            after={"stripe_price_id": stripe_price_id, "plan": plan.code},
        )
        _give_to_payers(price, cause)
    return price


def _give_to_payers(price: Price, cause: Cause) -> None:
    """Subscriptions that waited for this mapping get it, and so do their people."""
    waiting = Subscription.objects.select_for_update().filter(
        stripe_price_id=price.stripe_price_id, price=None
    )
    users: set[int] = set()
    customer_ids = set()
    for row in waiting.select_related("customer"):
        row.price = row.last_good_price = price
        row.save(update_fields=["price", "last_good_price", "updated_at"])
        users |= set(users_of(row.customer))
        customer_ids.add(row.snapshot.get("customer"))
    refresh_entitlements(users, cause=cause)
    reopen(outcome="quarantined:price", stripe_customer_ids=customer_ids)


def follow_price(price_id: str, *, cause: Cause) -> str:
    """A price was made, changed or archived at Stripe: one withdrawn there is sold no more.

    Whoever has it keeps it. An outcome in stable words.
    """
    price = Price.objects.filter(stripe_price_id=price_id).first()
    if price is None:
        return "price.unknown"
    at_stripe = stripe_client.connection().price(price_id)
    withdrawn = at_stripe is None or at_stripe.get("active") is False
    if withdrawn == (price.archived_at is not None):
        return "price.unchanged"
    if not withdrawn:
        return _report(price_id, f"{price} is archived here but active at Stripe.")
    price.archived_at = timezone.now()
    price.save(update_fields=["archived_at"])
    record_act(action="price.archived", cause=cause, target=price, reason="archived at Stripe")
    _report(price_id, f"{price} was archived at Stripe and is not sold any more.")
    return "price.archived"


def follow_product(product_id: str, *, cause: Cause) -> str:
    """A product was changed at Stripe: staff hear of it when a plan on sale lost its product."""
    plan = Plan.objects.filter(stripe_product_id=product_id, archived_at=None).first()
    if plan is None:
        return "product.unknown"
    at_stripe = stripe_client.connection().product(product_id)
    gone = at_stripe is None or at_stripe.get("deleted") or at_stripe.get("active") is False
    if not gone:
        resolve_problem(kind=Problem.CATALOGUE_CHANGED, subject=product_id)
        return "product.unchanged"
    return _report(product_id, f"The product of {plan} was archived at Stripe.")


def _report(subject: str, summary: str) -> str:
    open_problem(kind=Problem.CATALOGUE_CHANGED, subject=subject, summary=summary)
    return "catalogue.reported"
