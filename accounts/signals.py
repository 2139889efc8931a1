"""The one signal by which this app tells those above that people changed."""

from django.dispatch import Signal

# Sent inside the transaction that made the change, so that what a receiver writes stands or falls
# with it. Arguments: user_ids (list of int: created, suspended, reinstated, deactivated, deleted,
# or their memberships changed), cause (tesslate.lib.cause.Cause). Receivers only write rows.
accounts_changed = Signal()
