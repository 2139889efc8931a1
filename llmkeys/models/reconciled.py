"""What everything that is kept in step with the gateway has in common."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from tesslate.lib.cause import Cause


class Reconciled(models.Model):
    """Desired against observed state, one row for one object at the gateway.

    Whatever may change the object raises ``generation`` in its own transaction. A worker that has
    made the gateway agree writes the generation that it read into ``observed_generation``; the two
    being equal is what *in step* means. Everything else here is about who is working on it, and
    what went wrong.
    """

    generation = models.PositiveBigIntegerField(default=1)
    observed_generation = models.PositiveBigIntegerField(default=0)
    # What the last worker wanted, and what the gateway last said it holds (llmkeys.spec).
    desired = models.JSONField(null=True, blank=True)
    observed = models.JSONField(null=True, blank=True)
    # A call may have had an effect that nobody saw: the next worker reads before it writes.
    in_doubt = models.BooleanField(default=False)

    # A worker's claim. Once it has run out, another worker may take over.
    lease_token = models.CharField(max_length=32, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)

    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(default=timezone.now)
    last_error = models.CharField(max_length=500, blank=True)
    # Given up after too many attempts; staff see it and set it going again, as does any change.
    parked_at = models.DateTimeField(null=True, blank=True)

    # Since when the gateway is behind, for lag; kept while further changes pile up.
    dirty_since = models.DateTimeField(default=timezone.now, null=True, blank=True)
    synced_at = models.DateTimeField(null=True, blank=True)

    # What made the last change (tesslate.lib.cause.Cause, flattened).
    cause_kind = models.CharField(max_length=10, default="system")
    cause_reference = models.CharField(max_length=255, blank=True)
    cause_actor_id = models.BigIntegerField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def is_in_step(self) -> bool:
        return self.generation == self.observed_generation

    @property
    def cause(self) -> Cause:
        return Cause(self.cause_kind, self.cause_reference, self.cause_actor_id)


# The condition under which a row waits for a worker; partial indexes are made of it.
BEHIND = Q(generation__gt=F("observed_generation"), parked_at=None)
