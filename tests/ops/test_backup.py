"""Both databases are written to disk and come back the same, with production's own programs."""

import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement, Plan
from sandbox.binaries import find_postgres, postgres_account
from tesslate.lib.crypto import decrypt, encrypt
from tests.factories import UserFactory
from tests.ops.tools import OPS

pytestmark = [pytest.mark.django_db(transaction=True)]

GATEWAY_TABLE = """
    CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, spend float8, models text[]);
    CREATE TABLE "LiteLLM_SpendLogs" (request_id text PRIMARY KEY, "startTime" timestamp);
    INSERT INTO "LiteLLM_VerificationToken" VALUES ('abc', 0.1, '{small,large}');
    INSERT INTO "LiteLLM_SpendLogs" SELECT n::text, now() FROM generate_series(1, 500) n;
"""
# Everything that a database holds, as one number a table.
DIGEST = "SELECT md5(coalesce(string_agg(r::text, '' ORDER BY r::text), '')) FROM {} r"


def only(there: psycopg.Connection, query: str) -> Any:
    row = there.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


class Server:
    """The tests' PostgreSQL, seen as an operator sees it."""

    def __init__(self) -> None:
        parts = conninfo_to_dict(os.environ["DATABASE_URL"])
        self.host, self.port = str(parts["host"]), str(parts["port"])
        self.user, self.password = str(parts["user"]), str(parts["password"])

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            dbname=database,
            autocommit=True,
        )

    def make(self, database: str) -> None:
        self.remove(database)
        with self.connect("postgres") as there:
            there.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))

    def remove(self, database: str) -> None:
        with self.connect("postgres") as there:
            there.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(database))
            )

    def contents(self, database: str) -> dict[str, str]:
        tables = (
            "SELECT c.oid::regclass::text FROM pg_class c WHERE relkind IN ('r', 'p')"
            " AND relnamespace = 'public'::regnamespace"
        )
        with self.connect(database) as there:
            names = [row[0] for row in there.execute(tables).fetchall()]
            return {name: only(there, DIGEST.format(name)) for name in names}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def gateway(server: Server) -> Iterator[str]:
    name = f"{connection.settings_dict['NAME']}_gateway"
    server.make(name)
    with server.connect(name) as there:
        there.execute(GATEWAY_TABLE)
    yield name
    server.remove(name)


@pytest.fixture
def empty(server: Server) -> Iterator[tuple[str, str]]:
    stem = connection.settings_dict["NAME"]
    names = (f"{stem}_empty1", f"{stem}_empty2")
    for name in names:
        server.make(name)
    yield names
    for name in names:
        server.remove(name)


@pytest.fixture
def backup(server: Server, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    programs = find_postgres(postgres_account()).folder
    if not (programs / "pg_dump").exists():
        pytest.skip("this PostgreSQL comes without pg_dump")

    def run(
        *arguments: str, ours: str, theirs: str, first: Path = programs
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{first}:{programs}:{os.environ['PATH']}",
            "BACKUP_FOLDER": str(tmp_path / "backups"),
        }
        for prefix, database in (("TESSLATE", ours), ("LITELLM", theirs)):
            environment |= {
                f"{prefix}_HOST": server.host,
                f"{prefix}_PORT": server.port,
                f"{prefix}_USER": server.user,
                f"{prefix}_PASSWORD": server.password,
                f"{prefix}_DATABASE": database,
            }
        return subprocess.run(
            ["sh", OPS / "backup" / "backup.sh", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def ours(free_plan: Plan) -> str:
    """The product's database with a customer, a key and requests of two months in it."""
    user = UserFactory.create(email="zoë@example.com")
    now = timezone.now()
    CurrentEntitlement.objects.create(
        user=user,
        plan=free_plan,
        source="default",
        period_start=now,
        period_end=now,
        decided_at=now,
        reasons=[{"why": "because"}],
    )
    VirtualKey.objects.create(
        user=user, alias="a", key_hash="h", last_four="0000", secret=encrypt("sk-the-value")
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO chatproxy_chatrequest (id, started_at, user_id, plan_code, model,"
            " served_model, client, is_stream, idempotency_key, outcome, status, error_code,"
            " prompt_tokens, completion_tokens, cost, is_estimated, duration_ms, gateway_call_id,"
            " gateway_response_id, prompt_versions)"
            " SELECT gen_random_uuid(), m, %s, 'free', 'small', '', 'chat', true, '', 'completed',"
            " 200, '', 1, 2, 0.0000000001, false, 3, '', '', '[]'"
            " FROM unnest(%s::timestamptz[]) m",
            [user.pk, [now, now - timedelta(seconds=1)]],
        )
    return str(connection.settings_dict["NAME"])


def test_both_databases_come_back_as_they_were(server, backup, ours, gateway, empty):
    before = server.contents(ours), server.contents(gateway)

    dumped = backup("dump", ours=ours, theirs=gateway)
    restored = backup("restore", "latest", ours=empty[0], theirs=empty[1])

    assert dumped.returncode == 0, dumped.stderr
    assert restored.returncode == 0, restored.stderr
    assert (server.contents(empty[0]), server.contents(empty[1])) == before
    assert len(before[0]) > 40
    with server.connect(empty[0]) as there:
        secret = only(there, "SELECT secret FROM llmkeys_virtualkey")
        # What identity columns hand out next, and what the database refuses, came back too.
        with pytest.raises(psycopg.errors.UniqueViolation):
            there.execute("INSERT INTO plans_plan SELECT * FROM plans_plan")
        assert only(there, "SELECT last_value FROM accounts_user_id_seq") >= 1
    assert decrypt(secret) == "sk-the-value"
    assert settings.DATABASES["default"]["PASSWORD"] not in dumped.stdout + restored.stdout


def test_restore_keeps_its_hands_off_a_database_in_use(server, backup, ours, gateway, empty):
    backup("dump", ours=ours, theirs=gateway)
    with server.connect(gateway) as there:
        there.execute('DELETE FROM "LiteLLM_SpendLogs"')
    before = server.contents(gateway)

    refused = backup("restore", "latest", ours=empty[0], theirs=gateway)

    assert refused.returncode == 1
    assert "not empty" in refused.stderr
    assert server.contents(gateway) == before
    assert server.contents(empty[0]) == {}

    replaced = backup("restore", "latest", "--replace", ours=empty[0], theirs=gateway)
    assert replaced.returncode == 0, replaced.stderr
    assert server.contents(gateway) != before


def test_damaged_backup_is_not_restored(server, backup, ours, gateway, empty, tmp_path):
    backup("dump", ours=ours, theirs=gateway)
    dump = next((tmp_path / "backups").glob("*/litellm.dump"))
    content = bytearray(dump.read_bytes())
    content[-1] ^= 0xFF
    dump.write_bytes(content)

    refused = backup("restore", "latest", ours=empty[0], theirs=empty[1])

    assert refused.returncode == 1
    assert "damaged" in refused.stderr
    assert server.contents(empty[0]) == {}


def test_restore_that_breaks_off_leaves_what_was_there(backup, server, ours, gateway, tmp_path):
    backup("dump", ours=ours, theirs=gateway)
    before = server.contents(gateway)
    broken = tmp_path / "bin" / "pg_restore"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'CREATE TABLE half (id int);'\nexit 1\n")
    broken.chmod(0o755)

    failed = backup(
        "restore", "latest", "--replace", ours=gateway, theirs=gateway, first=broken.parent
    )

    assert failed.returncode == 1
    assert server.contents(gateway) == before


def test_backup_of_which_one_half_failed_is_none(backup, ours, empty):
    failed = backup("dump", ours=ours, theirs="no_such_database")
    listed = backup("list", ours=ours, theirs=empty[0])

    assert failed.returncode != 0
    assert listed.stdout == ""
    assert backup("restore", "latest", ours=empty[0], theirs=empty[1]).returncode == 1


def test_backups_are_for_their_owner_alone(backup, ours, gateway, tmp_path):
    backup("dump", ours=ours, theirs=gateway)

    for path in (tmp_path / "backups").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
