from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("plans", "0004_event_permissions")]

    operations = [
        migrations.AlterField(
            model_name="plan",
            name="abort_billing",
            field=models.CharField(
                choices=[
                    ("delivered", "What was delivered"),
                    ("generated", "What was generated"),
                    ("after_first_token", "Nothing before the first token"),
                ],
                default="delivered",
                max_length=20,
            ),
        ),
    ]
