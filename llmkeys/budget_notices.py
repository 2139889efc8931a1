"""Send what customers are to be told of their budgets: once, by mail and to their webhook."""

import logging
from datetime import datetime, timedelta
from smtplib import SMTPException

import orjson
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.utils import timezone

from accounts.models import Membership
from llmkeys.metrics import BUDGET_NOTICES
from llmkeys.models import BudgetNotice, SpendBudget
from tesslate.lib.crypto import CannotDecrypt, decrypt
from tesslate.lib.outgoing import NotDelivered, post_signed
from tesslate.lib.text import one_line

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 12
LEASE = timedelta(minutes=2)
LONGEST_WAIT = timedelta(hours=6)
FORESEEN = (NotDelivered, CannotDecrypt, SMTPException, OSError)


def send_next(*, at: datetime | None = None) -> bool:
    """Send one notice that waits; says whether there was one.

    One that cannot be sent, for whatever reason, waits for its next attempt and keeps nobody
    else's back.
    """
    now = at or timezone.now()
    notice = _claim(now)
    if notice is None:
        return False
    try:
        if notice.channel == BudgetNotice.Channel.EMAIL:
            _mail(notice)
        else:
            _call(notice)
    except Exception as error:
        text = str(error) if isinstance(error, NotDelivered) else type(error).__name__
        wait = min(timedelta(seconds=30) * 2**notice.attempts, LONGEST_WAIT)
        BudgetNotice.objects.filter(pk=notice.pk).update(
            next_attempt_at=now + wait, last_error=text[:300]
        )
        BUDGET_NOTICES.labels(notice.channel, "failed").inc()
        logger.warning(
            "budget notice %s was not delivered: %s",
            notice.pk,
            text,
            exc_info=not isinstance(error, FORESEEN),
        )
        return True
    BudgetNotice.objects.filter(pk=notice.pk).update(sent_at=now, last_error="")
    BUDGET_NOTICES.labels(notice.channel, "sent").inc()
    return True


def _claim(now: datetime) -> BudgetNotice | None:
    with transaction.atomic():
        notice = (
            BudgetNotice.objects.select_for_update(skip_locked=True, of=("self",))
            .filter(sent_at=None, attempts__lt=MAX_ATTEMPTS, next_attempt_at__lte=now)
            .select_related("budget__user", "budget__organization")
            .order_by("next_attempt_at")
            .first()
        )
        if notice is not None:
            notice.attempts += 1
            notice.next_attempt_at = now + LEASE
            notice.save(update_fields=["attempts", "next_attempt_at"])
    return notice


def _mail(notice: BudgetNotice) -> None:
    budget = notice.budget
    what = (
        "budget"
        if budget.organization is None
        else f"budget of {one_line(budget.organization.name)}"
    )
    stops = (
        " Use is stopped until the next period begins."
        if budget.is_hard and notice.percent >= 100
        else ""
    )
    send_mail(
        f"{notice.percent} % of your {what} is used",
        f"${notice.spent:,.2f} of the ${notice.amount:,.2f} that you set are used since "
        f"{notice.window_start:%Y-%m-%d}.{stops}\n\n{settings.PUBLIC_URL}/account\n",
        settings.DEFAULT_FROM_EMAIL,
        recipients_of(budget),
    )


def recipients_of(budget: SpendBudget) -> list[str]:
    """The user, or the organization's owners; nobody for a closed account."""
    if budget.user is not None:
        return [budget.user.email] if budget.user.deleted_at is None else []
    assert budget.organization_id is not None
    return list(
        Membership.objects.filter(
            organization_id=budget.organization_id,
            role=Membership.Role.OWNER,
            user__deleted_at=None,
        ).values_list("user__email", flat=True)
    )


def _call(notice: BudgetNotice) -> None:
    """The id is the same on every attempt, so that the receiver can tell a repetition."""
    budget = notice.budget
    if not budget.webhook_url:
        return
    event = {
        "id": f"budget_notice_{notice.pk}",
        "type": "budget.threshold_reached",
        "created": int(notice.created_at.timestamp()),
        "data": {
            "percent": notice.percent,
            "spent": str(notice.spent),
            "amount": str(notice.amount),
            "currency": "usd",
            "hard": budget.is_hard,
            "organization": budget.organization_id,
            "window_start": notice.window_start.isoformat(),
        },
    }
    post_signed(budget.webhook_url, orjson.dumps(event), secret=decrypt(budget.webhook_secret))
