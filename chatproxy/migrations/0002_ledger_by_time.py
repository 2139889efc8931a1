from django.db import migrations, models

# Staff read the ledger newest first; a BRIN index finds a range but gives no order. Rows arrive
# in order of time, so this one only ever grows at its end.
INDEX = """
DROP INDEX chatrequest_by_time;
CREATE INDEX chatrequest_by_time ON chatproxy_chatrequest (started_at DESC);
"""
BACK = """
DROP INDEX chatrequest_by_time;
CREATE INDEX chatrequest_by_time ON chatproxy_chatrequest USING brin (started_at);
"""


def make_first_partitions(apps, schema_editor):
    from chatproxy.partitions import make_partitions

    make_partitions()


class Migration(migrations.Migration):
    dependencies = [("chatproxy", "0001_prompts_and_ledger")]

    operations = [
        migrations.RunSQL(
            INDEX,
            BACK,
            state_operations=[
                migrations.AddIndex(
                    model_name="chatrequest",
                    index=models.Index(fields=["-started_at"], name="chatrequest_by_time"),
                ),
            ],
        ),
        migrations.RunPython(make_first_partitions, migrations.RunPython.noop),
    ]
