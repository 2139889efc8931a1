"""Whose customer is it: linking Stripe's customer objects to our payers.

A link is made by ids that our own server wrote (customer, subscription or checkout metadata, the
checkout's client_reference_id), never by e-mail. What cannot be linked stays an open problem.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

from django.db import connection

from accounts.audit import record_act
from accounts.models import Organization, User
from plans import stripe_client
from plans.inbox_states import reopen
from plans.models import BillingProblem, Customer, StripeCustomerAlias
from plans.problems import open_problem, resolve_problem
from plans.stripe_reading import Json, is_deleted, object_id, payer_metadata
from tesslate.lib.cause import Cause

Kind = BillingProblem.Kind
Alias = StripeCustomerAlias.Kind

# Distinguishes our advisory locks from any other use of the two-integer form.
LOCK_SPACE = 0x5354

# Fixed: every reading passes through it.
_LOCK_KNOWN = "SELECT * FROM plans_customer WHERE stripe_customer_id = %s FOR UPDATE"


class Orphan(Exception):
    """Nobody here can be named as the payer. A problem was opened; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays, as ids of ours: one of the two."""

    user_id: int | None = None
    organization_id: int | None = None

    def __str__(self) -> str:
        if self.user_id is not None:
            return f"user_{self.user_id}"
        return f"organization_{self.organization_id}"

    def metadata(self) -> dict[str, str]:
        """What checkout writes at Stripe, and what payer_from_metadata reads."""
        if self.user_id is not None:
            return {"user_id": str(self.user_id)}
        return {"organization_id": str(self.organization_id)}


def lock_stripe_customer(stripe_customer_id: str) -> None:
    """Until the transaction ends nobody else reads or applies this customer's state.

    Taken before Stripe is read, so that readings are applied in the order they were taken.
    Lock order everywhere: this, then the Customer row, then Subscription, then entitlements.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [LOCK_SPACE, stripe_customer_id]
        )


def find_customer(stripe_customer_id: str) -> Customer | None:
    """Our payer for a customer object at Stripe, also under a former or duplicate id."""
    if not stripe_customer_id:
        return None
    found = Customer.objects.filter(stripe_customer_id=stripe_customer_id).first()
    if found is None:
        found = Customer.objects.filter(aliases__stripe_customer_id=stripe_customer_id).first()
    return found


def find_customers(stripe_customer_ids: Collection[str]) -> dict[str, Customer]:
    """The same for many, in two queries."""
    ids = [each for each in stripe_customer_ids if each]
    rows = Customer.objects.select_related("user", "organization")
    known = {
        alias.stripe_customer_id: alias.customer
        for alias in StripeCustomerAlias.objects.filter(stripe_customer_id__in=ids).select_related(
            "customer__user", "customer__organization"
        )
    }
    for customer in rows.filter(stripe_customer_id__in=ids):
        known[str(customer.stripe_customer_id)] = customer
    return known


def payer_of(customer: Customer) -> Payer:
    return Payer(customer.user_id, customer.organization_id)


def payer_from_reference(reference: object) -> Payer | None:
    """Read a checkout's client_reference_id as Payer.__str__ wrote it."""
    match = (
        re.fullmatch(r"(user|organization)_(\d{1,18})", reference if reference else "")
        if isinstance(reference, str)
        else None
    )
    if match is None:
        return None
    number = int(match[2])
    return Payer(user_id=number) if match[1] == "user" else Payer(organization_id=number)


def payer_from_metadata(holder: Json) -> Payer | None:
    user_id, organization_id = payer_metadata(holder)
    if re.fullmatch(r"\d{1,18}", user_id):
        return Payer(user_id=int(user_id))
    if re.fullmatch(r"\d{1,18}", organization_id):
        return Payer(organization_id=int(organization_id))
    return None


def customer_of(subscription: Json, *, cause: Cause) -> Customer:
    """The locked Customer row that a subscription at Stripe belongs to.

    Links it if this is the first we see of it. Raises Orphan when nobody can be named.
    """
    stripe_customer_id = object_id(subscription.get("customer"))
    known = next(iter(Customer.objects.raw(_LOCK_KNOWN, [stripe_customer_id])), None)
    if known is not None:
        return known
    known = find_customer(stripe_customer_id)
    if known is not None:
        return Customer.objects.select_for_update().get(pk=known.pk)
    payer = payer_from_metadata(subscription)
    if payer is None:
        at_stripe = stripe_client.connection().customer(stripe_customer_id)
        payer = None if at_stripe is None else payer_from_metadata(at_stripe)
    customer = None if payer is None else link(payer, stripe_customer_id, cause=cause)
    if customer is None:
        open_problem(
            kind=Kind.ORPHAN_SUBSCRIPTION,
            subject=stripe_customer_id,
            summary=_orphan_summary(subscription, payer),
        )
        raise Orphan(stripe_customer_id)
    return customer


def _orphan_summary(subscription: Json, payer: Payer | None) -> str:
    what = f"Subscription {object_id(subscription)} ({subscription.get('status')})"
    if payer is None:
        return f"{what} names nobody here. Link its customer, or cancel and refund it."
    return f"{what} names {payer}, who is not a customer here any more. Cancel and refund it."


def link(payer: Payer, stripe_customer_id: str, *, cause: Cause) -> Customer | None:
    """Say that this customer object at Stripe is this payer; returns the locked row.

    None if the payer does not exist or closed the account, or if the object is somebody else's:
    the first claim stands and staff are told. A second object for one payer is kept beside the
    first and staff are told.
    """
    holder = find_customer(stripe_customer_id)
    if holder is not None and payer_of(holder) != payer:
        open_problem(
            kind=Kind.CUSTOMER_CLAIMED_TWICE,
            subject=stripe_customer_id,
            summary=f"It belongs to {payer_of(holder)}; {payer} claims it too. The claim was "
            "refused.",
            customer=holder,
        )
        return None
    customer = customer_for(payer)
    if customer is None or holder is not None:
        return customer
    if customer.stripe_customer_id is None:
        customer.stripe_customer_id = stripe_customer_id
        customer.save(update_fields=["stripe_customer_id"])
    else:
        customer.aliases.create(stripe_customer_id=stripe_customer_id, kind=Alias.DUPLICATE)
        open_problem(
            kind=Kind.DUPLICATE_CUSTOMER,
            subject=stripe_customer_id,
            summary=f"{payer} has {customer.stripe_customer_id} already. Merge them at Stripe.",
            customer=customer,
        )
    resolve_problem(kind=Kind.ORPHAN_SUBSCRIPTION, subject=stripe_customer_id)
    reopen(outcome="quarantined:orphan", stripe_customer_ids=[stripe_customer_id])
    _record("customer.linked", customer, stripe_customer_id, cause)
    return customer


def existing_customer(payer: Payer) -> Customer | None:
    """The payer's row, if they ever came near a purchase."""
    if payer.user_id is not None:
        return Customer.objects.filter(user_id=payer.user_id).first()
    assert payer.organization_id is not None
    return Customer.objects.filter(organization_id=payer.organization_id).first()


def customer_for(payer: Payer) -> Customer | None:
    """The payer's locked Customer row, made on first need; None for nobody or a closed account."""
    if payer.user_id is not None:
        if not User.objects.filter(pk=payer.user_id, deleted_at=None).exists():
            return None
        row, _ = Customer.objects.get_or_create(user_id=payer.user_id)
    else:
        assert payer.organization_id is not None
        if not Organization.objects.filter(pk=payer.organization_id).exists():
            return None
        row, _ = Customer.objects.get_or_create(organization_id=payer.organization_id)
    return Customer.objects.select_for_update().get(pk=row.pk)


def forget_deleted(stripe_customer_id: str, *, cause: Cause) -> Customer | None:
    """The object was deleted at Stripe: the next checkout makes a new one. Returns whose it was."""
    customer = (
        Customer.objects.select_for_update().filter(stripe_customer_id=stripe_customer_id).first()
    )
    if customer is None:
        customer = find_customer(stripe_customer_id)
        aliases = StripeCustomerAlias.objects.filter(stripe_customer_id=stripe_customer_id)
        if customer and aliases.exclude(kind=Alias.DELETED).update(kind=Alias.DELETED):
            _record("customer.deleted_at_stripe", customer, stripe_customer_id, cause)
        return customer
    customer.stripe_customer_id = None
    customer.save(update_fields=["stripe_customer_id"])
    customer.aliases.create(stripe_customer_id=stripe_customer_id, kind=Alias.DELETED)
    _record("customer.deleted_at_stripe", customer, stripe_customer_id, cause)
    return customer


def relink_by_metadata(at_stripe: Json, *, cause: Cause) -> tuple[Customer, Customer] | None:
    """Follow support, who named another payer in the customer's own metadata.

    Returns (former, present), or None if nothing changed. Metadata of the customer object is
    writable only at Stripe's dashboard and by our server, unlike a checkout's reference.
    """
    stripe_customer_id = object_id(at_stripe)
    former = find_customer(stripe_customer_id)
    payer = None if is_deleted(at_stripe) else payer_from_metadata(at_stripe)
    if former is None or payer is None or payer_of(former) == payer:
        return None
    present = customer_for(payer)
    if present is None:
        return None
    Customer.objects.filter(pk=former.pk, stripe_customer_id=stripe_customer_id).update(
        stripe_customer_id=None
    )
    StripeCustomerAlias.objects.filter(stripe_customer_id=stripe_customer_id).delete()
    if present.stripe_customer_id is not None:
        present.aliases.create(stripe_customer_id=present.stripe_customer_id, kind=Alias.REPLACED)
    present.stripe_customer_id = stripe_customer_id
    present.save(update_fields=["stripe_customer_id"])
    former.subscriptions.filter(snapshot__customer=stripe_customer_id).update(customer=present)
    resolve_problem(kind=Kind.CUSTOMER_CLAIMED_TWICE, subject=stripe_customer_id)
    _record("customer.relinked", present, stripe_customer_id, cause, before=str(former.pk))
    return former, present


def _record(
    action: str, customer: Customer, stripe_customer_id: str, cause: Cause, before: str = ""
) -> None:
    record_act(
        action=action,
        cause=cause,
        target=customer,
        user=customer.user_id,
        organization=customer.organization_id,
        before={"customer": before} if before else None,
        after={"stripe_customer_id": stripe_customer_id},
    )
