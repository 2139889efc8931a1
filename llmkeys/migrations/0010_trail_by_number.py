"""Addresses and labels go out of the trail of keys: it names customers by number now, and so
outlives their accounts. In batches, so that workers which write events are held up by none."""

from django.db import migrations

BATCH = 10_000

_ONE_SIDE = """
    {0} = CASE WHEN jsonb_typeof({0} -> 'metadata') = 'object'
        THEN {0} #- '{{metadata,email}}' #- '{{metadata,label}}' ELSE {0} END
"""
_UPDATE = f"""
    UPDATE llmkeys_keyevent SET {_ONE_SIDE.format("sent")}, {_ONE_SIDE.format("received")}
    WHERE id >= %s AND id < %s AND (
        (sent -> 'metadata') ?| ARRAY['email', 'label']
        OR (received -> 'metadata') ?| ARRAY['email', 'label']
    )
"""


def name_by_number(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(min(id), 0), coalesce(max(id), -1) FROM llmkeys_keyevent")
        first, last = cursor.fetchone()
        for start in range(first, last + 1, BATCH):
            cursor.execute(_UPDATE, [start, start + BATCH])


def forget_closed_accounts(apps, schema_editor):
    for name in ("SpendBudget", "SpendLimit"):
        apps.get_model("llmkeys", name).objects.filter(user__deleted_at__isnull=False).delete()
    apps.get_model("llmkeys", "VirtualKey").objects.filter(
        user__deleted_at__isnull=False, lifecycle="retired"
    ).update(label="", blocked_reason="")


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("llmkeys", "0009_usage_retention"),
    ]

    operations = [
        migrations.RunPython(name_by_number, migrations.RunPython.noop, elidable=True),
        migrations.RunPython(forget_closed_accounts, migrations.RunPython.noop, elidable=True),
    ]
