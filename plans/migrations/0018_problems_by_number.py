"""Problems name whom a customer object belongs to by number, not by address: they are kept."""

from django.db import migrations
from django.db.models import Q


def name_by_number(apps, schema_editor):
    problems = apps.get_model("plans", "BillingProblem").objects.filter(
        Q(kind="customer_claimed_twice", summary__startswith="It belongs to ")
        | Q(kind="duplicate_customer", summary__contains=" has cus_"),
        customer__user__isnull=False,
    )
    for problem in problems.select_related("customer"):
        payer = f"user_{problem.customer.user_id}"
        if problem.kind == "duplicate_customer":
            problem.summary = f"{payer} has {problem.summary.split(' has ', 1)[1]}"
        else:
            problem.summary = f"It belongs to {payer};{problem.summary.partition(';')[2]}"
        problem.save(update_fields=["summary"])


class Migration(migrations.Migration):

    dependencies = [
        ("plans", "0017_telling_of_throttles"),
    ]

    operations = [
        migrations.RunPython(name_by_number, migrations.RunPython.noop, elidable=True),
    ]
