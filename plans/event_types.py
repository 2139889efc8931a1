"""Events that only say "look at this subscription again". One look serves all that came before."""

SUBSCRIPTION_CHANGES = frozenset(
    f"customer.subscription.{what}"
    for what in (
        "created",
        "updated",
        "deleted",
        "paused",
        "resumed",
        "pending_update_applied",
        "pending_update_expired",
    )
)

INVOICE_CHANGES = frozenset(
    f"invoice.{what}"
    for what in (
        "created",
        "updated",
        "paid",
        "payment_succeeded",
        "payment_failed",
        "payment_attempt_required",
        "overdue",
        "overpaid",
        "voided",
        "deleted",
        "will_be_due",
    )
)
