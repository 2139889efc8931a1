"""The staff's pages over a full ledger: the front page (numbers fresh, and from the cache), the
list of requests, the list of customers, one customer, and the search for a part of an address.

Baseline: the same page of an admin over an empty database, measured first. BENCH_LEDGER
(1,000,000 requests) and BENCH_PEOPLE (100,000 customers with keys) change the size. Pages are
asked of Django itself: what a server adds is measured elsewhere.
"""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.lib.result import Result, compared
from sandbox.engines import Postgres, Valkey, running

LEDGER = int(os.environ.get("BENCH_LEDGER", "1000000"))
PEOPLE = int(os.environ.get("BENCH_PEOPLE", "100000"))
ROUNDS = 7

PAGES = {
    "home, fresh numbers": "/admin/",
    "home, 90 days": "/admin/?range=90",
    "requests": "/admin/chatproxy/chatrequest/",
    "refused requests": "/admin/chatproxy/chatrequest/?outcome__exact=refused",
    "customers": "/admin/accounts/user/",
    "keys": "/admin/llmkeys/virtualkey/",
    "customer": "/admin/customers/{customer}",
    "search": "/admin/search/?s=person77&extended=1",
}


def results() -> Iterator[Result]:
    with database():
        client, customer = visitors()
        paths = {name: path.format(customer=customer) for name, path in PAGES.items()}
        empty = {name: measured(client, path) for name, path in paths.items()}
        yield Result("ledger rows", LEDGER, "rows")
        yield Result("customers", PEOPLE, "rows")
        fill(customer)
        yield Result("first roll-up of all of it", round(timed(rolled_up), 2), "s")
        yield Result("roll-up of the last hours", round(timed(rolled_up), 3), "s")
        for name, path in paths.items():
            wall, cpu = measured(client, path)
            yield compared(f"{name}, median", wall, "ms", empty[name][0])
            yield compared(f"{name}, of it our own CPU", cpu, "ms", empty[name][1])
        wall, _ = measured(client, "/admin/", fresh=False)
        yield Result("home, numbers from the cache", round(wall, 1), "ms")


@contextlib.contextmanager
def database() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="tesslate-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root PostgreSQL runs under another account
        postgres = Postgres(folder / "postgres", durable=False)
        valkey = Valkey(folder / "valkey", durable=False)
        with running(postgres, valkey):
            postgres.ensure_database("tesslate")
            os.environ.update(
                {
                    "DEBUG": "true",
                    "DATA_DIR": name,
                    "DATABASE_URL": postgres.url("tesslate"),
                    "REDIS_URL": valkey.url(),
                    "DJANGO_SETTINGS_MODULE": "tesslate.settings",
                    "LOG_LEVEL": "ERROR",
                }
            )
            import django
            from django.conf import settings
            from django.core.management import call_command

            django.setup()
            # Locally Django keeps every query's text; production does not.
            settings.DEBUG = False
            call_command("migrate", verbosity=0)
            yield


def visitors() -> tuple[Any, int]:
    """A signed-in member of staff, and the customer they look at."""
    from django.test import Client

    from accounts.models import User
    from plans.entitlements import refresh_entitlements
    from plans.models import Plan
    from plans.seeding import seed_plans
    from tesslate.lib.cause import Cause

    seed_plans()
    assert Plan.objects.exists()
    staff = User.objects.create_superuser("staff@bench.example", "bench")
    customer = User.objects.create_user("customer@bench.example")
    refresh_entitlements([customer.pk], cause=Cause.system("bench"))
    client = Client(SERVER_NAME="localhost")
    client.force_login(staff)
    return client, customer.pk


def fill(customer: int) -> None:
    """90 days of traffic in one statement, and people with the entitlement and the key of one."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(PEOPLE_SQL, [PEOPLE])
        for table, unlike in (
            ("plans_currententitlement", {"user_id": "u.id"}),
            (
                "llmkeys_virtualkey",
                {
                    "user_id": "u.id",
                    "key_hash": "md5(u.id::text) || md5('k' || u.id)",
                    "alias": "'bench-' || u.id",
                },
            ),
        ):
            cursor.execute(copies_sql(cursor, table, unlike), [customer])
        cursor.execute(LEDGER_SQL, [customer, LEDGER])
        cursor.execute("VACUUM ANALYZE")


PEOPLE_SQL = """
    INSERT INTO accounts_user (password, is_superuser, email, display_name, is_staff, is_active,
        suspension_reason, date_joined)
    SELECT '!', false, 'person' || n || '@bench.example', 'Person ' || n, false, true, '', now()
    FROM generate_series(1, %s) AS n
"""
LEDGER_SQL = """
    INSERT INTO chatproxy_chatrequest (id, started_at, user_id, plan_code, model, served_model,
        client, is_stream, idempotency_key, outcome, status, error_code, prompt_tokens,
        completion_tokens, cost, is_estimated, ttfb_ms, duration_ms, gateway_call_id,
        gateway_response_id, prompt_versions)
    SELECT gen_random_uuid(), now() - interval '90 days' * random(),
        %s + (random() * 5000)::int, (ARRAY['free', 'plus', 'pro'])[1 + n %% 3],
        'model-' || n %% 8, '', 'chat', true, '',
        CASE WHEN n %% 20 = 0 THEN 'refused' WHEN n %% 33 = 0 THEN 'failed' ELSE 'completed' END,
        200, '', 300, 500, 0.001, false, 100 + (random() * 400)::int, 900, '', '', '[]'
    FROM generate_series(1, %s) AS n
"""


def copies_sql(cursor: Any, table: str, unlike: dict[str, str]) -> str:
    """Give everybody a copy of the customer's row, but for its id and what must differ."""
    cursor.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
    )
    names = [name for (name,) in cursor.fetchall() if name != "id"]
    values = ", ".join(unlike.get(name, f'r."{name}"') for name in names)
    columns = ", ".join(f'"{name}"' for name in names)
    return (
        f"INSERT INTO {table} ({columns}) SELECT {values} FROM {table} r, "  # noqa: S608
        "accounts_user u WHERE r.user_id = %s AND u.email LIKE 'person%%'"
    )


def rolled_up() -> None:
    from tesslate.staffroom.traffic import roll_up

    roll_up()


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(client: Any, path: str, *, fresh: bool = True) -> tuple[float, float]:
    """Milliseconds that a visit takes, and that this process computes for it: medians of some.

    With ``fresh`` nothing is in the cache. On a busy machine the second figure is the steadier.
    """
    from django.core.cache import cache

    wall, cpu = [], []
    for _ in range(ROUNDS):
        if fresh:
            cache.clear()
        began, began_cpu = time.perf_counter(), time.process_time()
        response = client.get(path)
        cpu.append((time.process_time() - began_cpu) * 1000)
        wall.append((time.perf_counter() - began) * 1000)
        assert response.status_code == 200, (path, response.status_code)
    return statistics.median(wall), statistics.median(cpu)
