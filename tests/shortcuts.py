"""Pytest plugin: leaves out costly work that no test is about. Loaded as tests/engines.py is.

What a test can observe stays as Django and pytest-django have it: passwords are checked, an emptied
database is empty, clients that are given certificates verify with them.
"""

import gc
import os
from functools import cache
from importlib import import_module
from typing import Any

import pytest
from django.conf import settings
from django.contrib import auth
from django.db import connections, transaction
from django.http import HttpRequest
from django.test import Client, TransactionTestCase
from django.utils.crypto import get_random_string

# What Django's post_migrate signal fills. Flushing would empty these and send the signal anew,
# which writes several hundred permissions: 150 ms for each test that commits.
MADE_BY_MIGRATING = {
    "django_migrations",
    "django_content_type",
    "auth_permission",
    "auth_group",
    "auth_group_permissions",
}

# Truncating costs two new files for each table and index, deleting a scan: a few rows are deleted.
# As superuser (which our own cluster gives us) without asking every foreign key's trigger.
EMPTY = """
DO $$
DECLARE
    name text;
BEGIN
    IF current_setting('is_superuser') = 'on' THEN
        SET LOCAL session_replication_role = replica;
    END IF;
    FOREACH name IN ARRAY string_to_array('%s', ',') LOOP
        IF (SELECT sum(pg_relation_size(relid)) FROM pg_partition_tree(name::regclass)) > 131072
            THEN EXECUTE format('TRUNCATE %%I CASCADE', name);
            ELSE EXECUTE format('DELETE FROM %%I', name);
        END IF;
    END LOOP;
END
$$
"""


# Everything imported stays until the end: looking through it for garbage again and again is a
# tenth of a worker's time before its first test.
gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: some tests wait."""
    cores = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return len(cores) + 1


def pytest_collection_finish() -> None:
    gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    # Hashing as production does takes a quarter of a second, and most tests sign somebody in.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    TransactionTestCase._fixture_teardown = _empty_tables  # type: ignore[attr-defined]
    # A new connection knows no table yet, which made emptying them five times as long.
    TransactionTestCase._should_reload_connections = _never  # type: ignore[attr-defined]
    Client._login = _sign_in  # type: ignore[attr-defined]


def _never(case: TransactionTestCase) -> bool:
    return False


_sign_in_as_django_does = Client._login  # type: ignore[attr-defined]


def _sign_in(client: Client, user: Any, backend: str | None = None) -> None:
    """What `force_login` leaves behind, in one statement instead of a dozen.

    Receivers of `user_logged_in` hear nothing: what they do, tests see who sign in as people do.
    """
    if backend is None or settings.SESSION_COOKIE_NAME in client.cookies:
        _sign_in_as_django_does(client, user, backend)
        return
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore()
    request.session._session_key = get_random_string(32)
    request.session[auth.SESSION_KEY] = user._meta.pk.value_to_string(user)
    request.session[auth.BACKEND_SESSION_KEY] = backend
    request.session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
    request.session.save(must_create=True)
    client._set_login_cookies(request)  # type: ignore[attr-defined]


def _empty_tables(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):  # type: ignore[attr-defined]
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute(_statement(alias))


@cache
def _statement(alias: str) -> str:
    tables = connections[alias].introspection.django_table_names(
        only_existing=True, include_views=False
    )
    return EMPTY % ",".join(sorted(set(tables) - MADE_BY_MIGRATING))
