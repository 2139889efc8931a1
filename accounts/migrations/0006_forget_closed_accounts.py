"""What accounts left behind that were closed before closing took it along."""

from django.db import migrations
from django.db.models import CharField, F
from django.db.models.functions import Cast

PERSONAL = ["user.added", "user.changed", "token.created", "token.revoked", "key.created"]


def forget(apps, schema_editor):
    User = apps.get_model("accounts", "User")
    closed = User.objects.filter(deleted_at__isnull=False)
    apps.get_model("accounts", "BrowserSession").objects.filter(user__in=closed).delete()
    apps.get_model("accounts", "ApiToken").objects.filter(user__in=closed).update(name="")
    entries = apps.get_model("accounts", "AuditEntry").objects.filter(
        user__in=closed, action__in=PERSONAL
    )
    addresses = {}
    for user_id, before, after in entries.values_list("user_id", "before", "after"):
        for side in (before, after):
            if isinstance(side, dict) and side.get("email"):
                addresses[str(side["email"]).lower()] = f"deleted-{user_id}@deleted.invalid"
    # Somebody else may have the address by now.
    kept = User.objects.filter(email__in=addresses).values_list("email", flat=True)
    for address in kept:
        del addresses[address]
    invitations = apps.get_model("accounts", "Invitation").objects.filter(accepted_by=None)
    for address, replacement in addresses.items():
        invitations.filter(email=address, revoked_at=None).update(revoked_at=F("expires_at"))
        invitations.filter(email=address).update(email=replacement)
    entries.update(before=None, after=None)


def forget_in_admin_log(apps, schema_editor):
    closed = apps.get_model("accounts", "User").objects.filter(deleted_at__isnull=False)
    ids = closed.annotate(text=Cast("pk", CharField())).values("text")
    apps.get_model("admin", "LogEntry").objects.filter(
        content_type__app_label="accounts", content_type__model="user", object_id__in=ids
    ).update(object_repr="[erased]")


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0005_identity_erased"),
        ("admin", "0003_logentry_add_action_flag_choices"),
    ]

    operations = [
        migrations.RunPython(forget, migrations.RunPython.noop, elidable=True),
        migrations.RunPython(forget_in_admin_log, migrations.RunPython.noop, elidable=True),
    ]
