"""Events that waited for a person become due again once the person has acted.

Apart from plans.inbox, which imports the handlers, which import what acts.
"""

from collections.abc import Iterable

from django.utils import timezone

from plans.models import StripeEvent


def reopen(*, outcome: str, stripe_customer_ids: Iterable[str]) -> int:
    """Events of these customers that were set aside with ``outcome``; returns how many.

    With them, those that do not say whose they are: they are looked at again, and wait on if they
    must.
    """
    return StripeEvent.objects.filter(
        state=StripeEvent.State.QUARANTINED,
        outcome=outcome,
        stripe_customer_id__in={*stripe_customer_ids, ""},
    ).update(
        state=StripeEvent.State.PENDING,
        outcome="",
        attempts=0,
        failures=0,
        next_attempt_at=timezone.now(),
    )
