"""The database that tests get is the one that migrating makes."""

import pytest
from django.core.management import call_command
from django.db import connection

from tests import migrated


@pytest.mark.django_db
def test_no_migration_is_missing():
    call_command("migrate", check_unapplied=True, verbosity=0)


@pytest.mark.django_db
def test_what_migrations_write_is_there():
    from django.contrib.auth.models import Group, Permission

    assert Group.objects.filter(name="support").exists()
    assert Permission.objects.filter(codename="view_plan").exists()


@pytest.mark.django_db
def test_numbers_given_out_by_migrating_are_not_given_out_again():
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(id) < nextval('auth_permission_id_seq') FROM auth_permission")
        assert cursor.fetchone() == (True,)


def test_other_code_has_another_dump(monkeypatch, tmp_path):
    before = migrated.digest()
    (tmp_path / "models.py").write_text("x = 1")
    monkeypatch.setattr(migrated, "PRODUCT", (*migrated.PRODUCT, str(tmp_path)))
    assert migrated.digest() != before
