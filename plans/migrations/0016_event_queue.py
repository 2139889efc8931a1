"""Webhooks come in while this runs, so the indexes are made beside them."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("plans", "0015_overage_due"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="stripeevent",
            index=models.Index(
                condition=models.Q(("state", "pending")),
                fields=["next_attempt_at", "id"],
                name="stripe_event_queue",
            ),
        ),
        AddIndexConcurrently(
            model_name="stripeevent",
            index=models.Index(
                condition=models.Q(("state", "pending")),
                fields=["stripe_customer_id"],
                name="stripe_event_waiting",
            ),
        ),
        RemoveIndexConcurrently(
            model_name="stripeevent",
            name="stripe_event_due",
        ),
    ]
