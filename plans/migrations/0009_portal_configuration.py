from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("plans", "0008_revenue")]

    operations = [
        migrations.CreateModel(
            name="PortalConfiguration",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "payer",
                    models.CharField(
                        choices=[("user", "People"), ("organization", "Organizations")],
                        max_length=20,
                        unique=True,
                    ),
                ),
                ("stripe_configuration_id", models.CharField(max_length=255)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
        ),
    ]
