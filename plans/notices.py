"""Mails to payers about their billing: written down once, sent after the commit."""

import logging
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone

from accounts.models import Membership
from plans.models import BillingNotice, Customer

logger = logging.getLogger(__name__)
Kind = BillingNotice.Kind
MAX_ATTEMPTS = 10

TEXTS: dict[str, tuple[str, str]] = {
    Kind.TRIAL_ENDING: (
        "Your trial ends soon",
        "Your trial is about to end. If you want to keep your plan, make sure that a payment "
        "method is on file.",
    ),
    Kind.PAYMENT_FAILED: (
        "Your payment did not go through",
        "We could not collect your last payment. Your plan stays as it is during the grace "
        "period. Please update your payment method.",
    ),
    Kind.ACTION_REQUIRED: (
        "Please confirm your payment",
        "Your bank asks you to confirm a payment. Your plan changes once it is confirmed.",
    ),
    Kind.CHECKOUT_FAILED: (
        "Your payment failed",
        "The payment for your new plan failed, so the plan was not activated. You can try again "
        "at any time.",
    ),
}


def note(*, customer: Customer, kind: str, subject: str) -> bool:
    """Resolve to tell the customer, in the caller's transaction; False if told before."""
    _, created = BillingNotice.objects.get_or_create(
        kind=kind, subject=subject, defaults={"customer": customer}
    )
    return created


def send_next_notice() -> bool:
    """Send one notice that waits; says whether there was one.

    The row stays locked while the mail goes out, so two workers never send it twice.
    """
    with transaction.atomic():
        notice = (
            BillingNotice.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(sent_at=None, attempts__lt=MAX_ATTEMPTS)
            .select_related("customer__user", "customer__organization")
            .order_by("attempts", "id")
            .first()
        )
        if notice is None:
            return False
        notice.attempts += 1
        try:
            _send(notice)
        except (SMTPException, OSError, ValueError) as error:
            logger.warning("notice %s could not be sent: %s", notice.pk, type(error).__name__)
            notice.save(update_fields=["attempts"])
            return False
        notice.sent_at = timezone.now()
        notice.save(update_fields=["attempts", "sent_at"])
    return True


def _send(notice: BillingNotice) -> None:
    recipients = recipients_of(notice.customer)
    if not recipients:
        return
    subject, text = TEXTS[notice.kind]
    body = f"{text}\n\nManage your billing: {settings.PUBLIC_URL}/account\n"
    send_mail(subject, body, settings.DEFAULT_FROM_EMAIL, recipients)


def recipients_of(customer: Customer) -> list[str]:
    """The user, or the organization's owners; nobody for a closed account."""
    if customer.user is not None:
        return [customer.user.email] if customer.user.deleted_at is None else []
    assert customer.organization_id is not None
    return list(
        Membership.objects.filter(
            organization_id=customer.organization_id,
            role=Membership.Role.OWNER,
            user__deleted_at=None,
        ).values_list("user__email", flat=True)
    )
