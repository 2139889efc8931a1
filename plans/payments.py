"""Disputes, refunds and charges, as far as they touch access or staff must hear of them."""

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from accounts.models import User
from accounts.services import change_suspension_reason, reinstate_user, suspend_user
from plans import stripe_client
from plans.customers import find_customer
from plans.entitlements import users_of
from plans.models import BillingProblem, Customer
from plans.problems import open_problem, resolve_problem
from plans.stripe_reading import object_id
from tesslate.lib.cause import Cause

# The bank only asks, or the dispute was headed off: nobody is accused of anything.
HARMLESS = frozenset(
    {"warning_needs_response", "warning_under_review", "warning_closed", "prevented"}
)
IN_OUR_FAVOUR = frozenset({"won"}) | HARMLESS


def customer_of_charge(charge_id: str) -> str:
    """The Stripe customer who was charged, or an empty string."""
    charge = stripe_client.connection().charge(charge_id)
    return "" if charge is None else object_id(charge.get("customer"))


def review_refund(refund_id: str, *, customer: Customer | None) -> None:
    """Staff must pay back in another way what a failed refund did not bring to the customer."""
    refund = stripe_client.connection().refund(refund_id)
    if refund is None or refund.get("status") != "failed":
        resolve_problem(kind=BillingProblem.Kind.REFUND_FAILED, subject=refund_id)
        return
    reason = refund.get("failure_reason") or "no reason given"
    open_problem(
        kind=BillingProblem.Kind.REFUND_FAILED,
        subject=refund_id,
        summary=f"The refund did not arrive ({reason}); the money is back with us. Pay it back in "
        "another way.",
        customer=customer,
    )


def follow_dispute(dispute_id: str, *, cause: Cause) -> str:
    """Apply the dispute policy to the dispute's present status; returns an outcome word.

    With STRIPE_DISPUTE_POLICY "suspend", the payer loses access to models while a dispute is open
    and after it was lost, and has it back once it is won and no other dispute of theirs stands.
    With "notify" only staff are told. An inquiry changes nothing. A suspension for any other
    reason is left alone.
    """
    stripe = stripe_client.connection()
    dispute = stripe.dispute(dispute_id)
    if dispute is None:
        return "ignored:unknown_object"
    status = str(dispute.get("status") or "")
    customer = find_customer(customer_of_charge(object_id(dispute.get("charge"))))
    reason = _reason(dispute_id)
    with transaction.atomic():
        if status in IN_OUR_FAVOUR:
            resolve_problem(kind=BillingProblem.Kind.DISPUTE, subject=dispute_id)
        else:
            open_problem(
                kind=BillingProblem.Kind.DISPUTE,
                subject=dispute_id,
                summary=f"Dispute is {status}. Answer it at Stripe before it is due.",
                customer=customer,
            )
        if customer is None or settings.STRIPE_DISPUTE_POLICY != "suspend":
            return f"dispute.{status}"
        users = sorted(users_of(customer))
        if status in IN_OUR_FAVOUR:
            for user_id in _suspended(users, reason):
                _release(user_id, f"{reason}: {status}", cause)
        else:
            for user_id in users:
                suspend_user(user_id=user_id, reason=reason, cause=cause)
    return f"dispute.{status}"


def _reason(dispute_id: str) -> str:
    return f"Payment dispute {dispute_id}"


def _suspended(users: list[int], reason: str) -> list[int]:
    """Who is suspended for that reason. They are locked before other disputes are looked for: one
    that begins at this moment is either seen by us, or suspends after us."""
    rows = User.objects.filter(pk__in=users, suspension_reason=reason).order_by("pk")
    return list(rows.select_for_update().values_list("pk", flat=True))


def _release(user_id: int, reason: str, cause: Cause) -> None:
    """Reinstate, unless another dispute stands that touches this user: then it is the reason."""
    theirs = Q(customer__user=user_id) | Q(customer__organization__memberships__user=user_id)
    other = (
        BillingProblem.objects.filter(theirs, kind=BillingProblem.Kind.DISPUTE, resolved_at=None)
        .order_by("first_seen_at", "pk")
        .first()
    )
    if other is None:
        reinstate_user(user_id=user_id, reason=reason, cause=cause)
    else:
        change_suspension_reason(user_id=user_id, reason=_reason(other.subject), cause=cause)
