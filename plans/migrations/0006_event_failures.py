from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("plans", "0005_abort_billing_default")]

    operations = [
        migrations.AddField(
            model_name="stripeevent",
            name="failures",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
    ]
