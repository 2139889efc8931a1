"""The one signal by which this app tells those above that what people may have changed."""

from django.dispatch import Signal

# Sent inside the transaction that changed CurrentEntitlement rows, or the plan that they name, so
# that what a receiver writes stands or falls with it. Arguments: user_ids (list of int), cause
# (tesslate.lib.cause.Cause). Receivers only write rows; wake-ups go out on commit.
entitlements_changed = Signal()

# Sent inside the transaction that saved a plan or its set of models. Arguments: plan, cause.
plan_changed = Signal()
