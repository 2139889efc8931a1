from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("plans", "0006_event_failures")]

    operations = [
        migrations.AlterField(
            model_name="billingproblem",
            name="kind",
            field=models.CharField(
                choices=[
                    ("orphan_subscription", "Subscription without an owner"),
                    ("customer_claimed_twice", "Stripe customer claimed by two"),
                    ("duplicate_customer", "Two Stripe customers for one payer"),
                    ("finalization_failed", "Invoice cannot be finalized"),
                    ("refund_failed", "Refund did not arrive"),
                    ("uncollectible", "Invoice given up as uncollectible"),
                    ("dispute", "Dispute"),
                    ("fraud_warning", "Fraud warning"),
                    ("catalogue_changed", "Price or product changed at Stripe"),
                ],
                max_length=40,
            ),
        ),
    ]
