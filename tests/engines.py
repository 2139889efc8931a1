"""Pytest plugin: a throw-away PostgreSQL and Valkey, and the environment the settings need.

Loaded with `-p tests.engines` (see pyproject.toml), before Django reads its settings. The servers
are started once, by the process that controls the run; xdist workers inherit its environment and
take a Valkey database each (pytest-django gives each its own PostgreSQL database).

TEST_DATABASE_URL and TEST_REDIS_URL, where given, name servers to use instead.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sandbox import engines
from sandbox.binaries import EngineError
from sandbox.engines import Engine
from sandbox.reaper import Reaper

ROOT = Path(__file__).resolve().parent.parent
STARTED = pytest.StashKey[list[tuple[Engine, subprocess.Popen[bytes]]]]()
BEGUN = pytest.StashKey[float]()
UP_SECONDS = pytest.StashKey[float]()

# A cluster with a few test databases takes some 150 MB; a container's /dev/shm is often 64 MB.
NEEDED_SHM_BYTES = 1 << 30

# Nothing listens there: a test that forgets its fake fails at once instead of reaching out.
NOWHERE = "http://127.0.0.1:1"

ENVIRONMENT = {
    "DEBUG": "true",
    "SECRET_KEY": "only-for-tests-" + "0" * 40,
    "PUBLIC_URL": "http://testserver",
    "ALLOWED_HOSTS": "testserver,localhost,127.0.0.1",
    "ENCRYPTION_KEYS": "dGVzdHMtb25seS1ub3QtYS1zZWNyZXQtMDAwMDAwMDA=",
    "LITELLM_URL": NOWHERE,
    "LITELLM_MASTER_KEYS": "sk-test-master-key",
    "STRIPE_SECRET_KEY": "sk_test_only",
    "STRIPE_WEBHOOK_SECRETS": "whsec_test_only",
    "STRIPE_API_URL": NOWHERE,
    "FIREBASE_PROJECT_ID": "demo-tests",
    "FIREBASE_API_KEY": "test-web-api-key",
    "FIREBASE_AUTH_URL": NOWHERE,
    "FIREBASE_TOKEN_URL": NOWHERE,
    "FIREBASE_CERTS_URL": NOWHERE,
}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Iterator[None]:
    """Runs around pytest-django's hook of the same name, which loads the settings."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    options = early_config.known_args_namespace
    if worker is not None:
        os.environ["REDIS_URL"] = redis_url_for_worker(os.environ["REDIS_URL"], worker)
    else:
        set_environment()
        if not (options.help or options.version):
            start_engines(early_config)
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Django was imported meanwhile; now the servers have to be there."""
    config = session.config
    for engine, process in config.stash.get(STARTED, []):
        try:
            engines.wait_until_ready(engine, process)
        except EngineError as error:
            pytest.exit(str(error), returncode=3)
    if BEGUN in config.stash:
        config.stash[UP_SECONDS] = time.monotonic() - config.stash[BEGUN]


def pytest_report_header(config: pytest.Config) -> str | None:
    names = " and ".join(engine.name for engine, _ in config.stash.get(STARTED, []))
    return f"engines: {names} up after {config.stash[UP_SECONDS]:.1f} s" if names else None


def set_environment() -> None:
    """Give every setting its value for tests, whatever the shell or a running copy says."""
    for name in re.findall(
        r"^(?:# )?([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), re.M
    ):
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT)


def start_engines(config: pytest.Config) -> None:
    """Start what no TEST_…_URL names, and see to its end however the run ends."""
    config.stash[BEGUN] = time.monotonic()
    config.stash[STARTED] = started = []
    folder = temporary_folder()
    reaper = Reaper()
    reaper.remove(folder)
    config.add_cleanup(reaper.close)
    leave_certificates_unread(folder)

    def launch(engine: Engine) -> None:
        try:
            process = engines.start(engine)
        except EngineError as error:
            pytest.exit(str(error), returncode=3)
        reaper.watch(process.pid, engine.stop_signal)
        config.add_cleanup(lambda: _stop(engine, process, reaper))
        started.append((engine, process))

    os.environ["DATA_DIR"] = str(folder)
    os.environ["ENV_FILE"] = os.devnull
    database_url = os.environ.get("TEST_DATABASE_URL")
    redis_url = os.environ.get("TEST_REDIS_URL")
    if redis_url is None:
        valkey = engines.Valkey(folder / "valkey", durable=False)
        launch(valkey)
        redis_url = valkey.url()
    if database_url is None:
        postgres = engines.Postgres(folder / "postgres", durable=False)
        launch(postgres)
        os.environ["TEST_POSTGRES_PROGRAMS"] = str(postgres.binaries.folder)
        database_url = postgres.url("tesslate")
    os.environ.update({"DATABASE_URL": database_url, "REDIS_URL": redis_url})


def leave_certificates_unread(folder: Path) -> None:
    """No test speaks TLS, yet each new HTTP client would parse all the world's authorities (20 ms).

    Only a real service that the contract is held against may need them.
    """
    if any(name.endswith("_CONTRACT_URL") for name in os.environ):
        return
    certificates = folder / "certificates"
    certificates.mkdir()
    os.environ.pop("SSL_CERT_FILE", None)
    os.environ["SSL_CERT_DIR"] = str(certificates)


def _stop(engine: Engine, process: subprocess.Popen[bytes], reaper: Reaper) -> None:
    engines.stop(process, engine.stop_signal)
    reaper.forget(process.pid)


def redis_url_for_worker(url: str, worker: str) -> str:
    """The database after the controller's own for gw0, the next for gw1, and so on."""
    parts = urlsplit(url)
    base = int(parts.path.strip("/") or 0)
    number = base + 1 + int(worker.removeprefix("gw"))
    return parts._replace(path=f"/{number}").geturl()


def temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="tesslate-tests-", dir=temporary_root()))
    folder.chmod(0o711)  # as root PostgreSQL runs under another account
    return folder


def temporary_root() -> str | None:
    """Memory where there is enough of it, else the system's own choice."""
    memory = "/dev/shm"  # noqa: S108 - only ever for mkdtemp, which makes a private folder in it
    if os.path.isdir(memory) and shutil.disk_usage(memory).free >= NEEDED_SHM_BYTES:
        return memory
    return None
