import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("plans", "0011_throttles")]

    operations = [
        migrations.CreateModel(
            name="BillingReconciliation",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("cause", models.CharField(max_length=100)),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("finished_at", models.DateTimeField(blank=True, null=True)),
                ("error", models.TextField(blank=True)),
                ("seen", models.PositiveIntegerField(default=0)),
                ("agreed", models.PositiveIntegerField(default=0)),
                ("repaired", models.PositiveIntegerField(default=0)),
                ("orphans", models.PositiveIntegerField(default=0)),
                ("failed", models.PositiveIntegerField(default=0)),
                ("entitlements_changed", models.PositiveIntegerField(default=0)),
                ("lines", models.JSONField(default=list)),
            ],
            options={
                "verbose_name": "reconciliation with Stripe",
                "verbose_name_plural": "reconciliations with Stripe",
                "ordering": ["-started_at"],
            },
        ),
    ]
