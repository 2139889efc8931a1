"""Pytest plugin: the schema is made once a run, and not at all where a dump of it is at hand.

The first process that needs a database makes the template and the others wait, then all copy it.
Migrating takes seconds. What it makes is kept as SQL in `.tools/migrated`, under the digest of all
that can change it: the product's code and the versions of what it is built on.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.creation import DatabaseCreation
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

ROOT = Path(__file__).resolve().parent.parent
DUMPS = ROOT / ".tools" / "migrated"
PRODUCT = ("accounts", "plans", "llmkeys", "chatproxy", "tesslate")
# Any number that nobody else locks by.
LOCK = 20_230_607

_create_as_django_does = DatabaseCreation.create_test_db


def pytest_configure() -> None:
    DatabaseCreation.create_test_db = create_test_db  # type: ignore[method-assign, assignment]


def create_test_db(creation: DatabaseCreation, *args: Any, **options: Any) -> str:
    """A copy of the template in place of a database that is migrated from nothing."""
    if options.get("keepdb"):
        return _create_as_django_does(creation, *args, **options)
    name: str = creation._get_test_db_name()  # type: ignore[attr-defined]
    template = f"migrated_{digest()}"
    connection = creation.connection
    connection.close()
    with psycopg.connect(url_of("postgres"), autocommit=True) as admin:
        admin.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        there = admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", [template])
        if there.fetchone() is None:
            _make(admin, template, connection)
        admin.execute(_statement("DROP DATABASE IF EXISTS {}", name))
        admin.execute(_statement("CREATE DATABASE {} TEMPLATE {}", name, template))
    _point(connection, name)
    connection.ensure_connection()
    return name


def digest() -> str:
    """Of everything that decides what migrating makes."""
    files = [ROOT / "requirements-dev.txt", *(f for name in PRODUCT for f in _code(ROOT / name))]
    content = hashlib.sha256()
    for file in files:
        content.update(hashlib.sha256(file.read_bytes()).digest())
    return content.hexdigest()[:16]


def _code(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.rglob("*.py")))


def _make(admin: psycopg.Connection, template: str, connection: BaseDatabaseWrapper) -> None:
    """Under another name first: half a template is none."""
    draft = "migrated_draft"
    dump = DUMPS / f"{template}.sql"
    admin.execute(_statement("DROP DATABASE IF EXISTS {}", draft))
    admin.execute(_statement("CREATE DATABASE {} TEMPLATE template0", draft))
    if not _restore(dump, draft):
        _point(connection, draft)
        call_command("migrate", verbosity=0, interactive=False, run_syncdb=True)
        connection.close()
        _keep(dump, draft)
    admin.execute(_statement("ALTER DATABASE {} RENAME TO {}", draft, template))


def _restore(dump: Path, database: str) -> bool:
    if not dump.exists() or _programs() is None:
        return False
    _run("psql", "--quiet", "--no-psqlrc", "--single-transaction", "--set=ON_ERROR_STOP=1",
         f"--file={dump}", f"--dbname={database}")  # fmt: skip
    return True


def _keep(dump: Path, database: str) -> None:
    """In place of the dumps of older code."""
    if _programs() is None:
        return
    DUMPS.mkdir(parents=True, exist_ok=True)
    draft = DUMPS / f"draft-{os.getpid()}"
    _run("pg_dump", "--no-owner", f"--file={draft}", f"--dbname={database}")
    for old in DUMPS.glob("*.sql"):
        old.unlink(missing_ok=True)
    draft.rename(dump)


def _run(program: str, *options: str) -> None:
    folder, server = _programs(), conninfo_to_dict(os.environ["DATABASE_URL"])
    assert folder is not None
    # Not on the command line, where every user of the machine could read the password.
    address = {
        f"PG{name.upper()}": str(server[name]) for name in ("host", "port", "user", "password")
    }
    subprocess.run(
        [str(folder / program), *options],
        env=os.environ | address,
        check=True,
        stdout=subprocess.DEVNULL,
    )


def _programs() -> Path | None:
    """PostgreSQL's, where tests.engines started it; a server of somebody else's has its own."""
    folder = os.environ.get("TEST_POSTGRES_PROGRAMS")
    return Path(folder) if folder else None


def _point(connection: BaseDatabaseWrapper, name: str) -> None:
    connection.close()
    settings.DATABASES[connection.alias]["NAME"] = name
    connection.settings_dict["NAME"] = name


def url_of(database: str) -> str:
    """The address of another database on the tests' server."""
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{database}").geturl()


def _statement(text: LiteralString, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))
