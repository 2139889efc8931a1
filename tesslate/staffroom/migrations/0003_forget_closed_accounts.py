"""Notes about accounts that were closed before closing took them along."""

from django.db import migrations


def erase_notes(apps, schema_editor):
    notes = apps.get_model("staffroom", "CustomerNote").objects
    notes.filter(user__deleted_at__isnull=False).delete()


class Migration(migrations.Migration):

    dependencies = [
        ("staffroom", "0002_saved_views_and_jobs"),
    ]

    operations = [
        migrations.RunPython(erase_notes, migrations.RunPython.noop, elidable=True),
    ]
