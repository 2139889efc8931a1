import django.core.validators
from decimal import Decimal
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("plans", "0009_portal_configuration"),
    ]

    operations = [
        migrations.AddField(
            model_name="plan",
            name="temperature_ceiling",
            field=models.DecimalField(
                decimal_places=2,
                default=Decimal("2"),
                max_digits=3,
                validators=[
                    django.core.validators.MinValueValidator(0),
                    django.core.validators.MaxValueValidator(Decimal("2")),
                ],
            ),
        ),
        migrations.AddConstraint(
            model_name="plan",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("default_temperature__gte", 0),
                    ("default_temperature__lte", models.F("temperature_ceiling")),
                    ("temperature_ceiling__lte", Decimal("2")),
                ),
                name="plan_temperatures_are_in_range",
                violation_error_message="Temperatures go from 0 to 2, the default not above the ceiling.",
            ),
        ),
    ]
