"""PostgreSQL and Valkey, production's engines, without Docker and without installing anything.

An engine lives in one folder and listens on 127.0.0.1 only, behind a password of its own: on a
shared machine an open superuser port would hand our account to every other user. Typical use:

    postgres = Postgres(folder / "postgres", port=5433)
    with running(postgres):
        postgres.ensure_database("tesslate")
        connect(postgres.url("tesslate"))

The supervisor drives the same objects step by step: prepare(), spawn(), is_ready(), stop().
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

import psycopg
import redis
from psycopg import sql

from sandbox.binaries import SHARED, EngineError, find_postgres, find_valkey, postgres_account
from sandbox.datafolder import write_private

HOST = "127.0.0.1"
SUPERUSER = "tesslate"
VALKEY_DATABASES = 64


class Engine(Protocol):
    name: str
    folder: Path
    port: int
    stop_signal: signal.Signals

    def prepare(self) -> None:
        """Make the data folder where there is none. Repeating it changes nothing."""

    def spawn(self, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the server in a session of its own, all it prints going to `output`."""

    def is_ready(self) -> bool:
        """Does it accept a connection with our password?"""


class Postgres:
    """One PostgreSQL cluster. `durable=False` is fast but may not survive a power cut."""

    name = "postgres"
    # SIGINT is PostgreSQL's fast shutdown: it ends the connections instead of waiting for them.
    stop_signal = signal.SIGINT

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.durable = durable
        self.account = postgres_account()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def password(self) -> str:
        return _password(self.folder)

    def url(self, database: str) -> str:
        return f"postgresql://{SUPERUSER}:{self.password}@{HOST}:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the cluster. Raises EngineError."""
        _own_folder(self.folder)
        if self.account is not None and not _can_enter(self.account.spawn_options(), self.folder):
            self._move_data_within_reach()
        version = self.data / "PG_VERSION"
        major = int(version.read_text()) if version.exists() else None
        self.binaries = find_postgres(self.account, major)
        if major is None:
            self._make_cluster()

    def spawn(self, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        settings = {
            "port": self.port,
            "listen_addresses": HOST,
            "unix_socket_directories": "",
            "max_connections": 200,
            "timezone": "UTC",
            "log_line_prefix": "",
            "log_checkpoints": "off",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [self.binaries.program("postgres"), "-D", str(self.data)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            command,
            cwd=self.data,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **self._as_account(),
        )

    def is_ready(self) -> bool:
        if not self._says_ready():  # asking earlier would fill its log with refusals
            return False
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            return True
        return False

    def ensure_database(self, name: str) -> None:
        """Create the database unless it is there."""
        create = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if there.fetchone() is None:
                with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                    connection.execute(create)

    def _says_ready(self) -> bool:
        """PostgreSQL writes its state as the eighth line of this file, for pg_ctl to read."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _make_cluster(self) -> None:
        """Run initdb beside the final place, then rename: half a cluster never looks like one."""
        draft = self.folder / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = draft / "password"
        password_file.write_text(self.password)
        if self.account is not None:
            for path in (draft, password_file):
                os.chown(path, self.account.uid, self.account.gid)
        command = [
            *[self.binaries.program("initdb"), "-D", str(draft / "data"), "-U", SUPERUSER],
            *["--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8"],
            *["--no-instructions", "--locale=C"],
        ]
        if self.binaries.major >= 17:
            # Upper and lower case beyond ASCII, the same on every system: searches depend on it.
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self.durable:
            command.append("--no-sync")
            if self.binaries.major >= 16:
                # The password is random and long: stretching it only slows each connection down.
                command += ["-c", "scram_iterations=1"]
        done = subprocess.run(  # type: ignore[call-overload]
            command, cwd=draft, capture_output=True, text=True, check=False, **self._as_account()
        )
        if done.returncode != 0:
            raise EngineError(f"initdb failed:\n{done.stdout}{done.stderr}")
        (draft / "data").rename(self.data)
        shutil.rmtree(draft)

    def _move_data_within_reach(self) -> None:
        """As root below a private folder: keep the cluster where the other account can enter it.

        The link at the old place is what `make clean` follows.
        """
        home = self.folder / "within-reach"
        if not home.is_symlink():
            SHARED.mkdir(mode=0o755, parents=True, exist_ok=True)
            place = SHARED / f"cluster-{secrets.token_hex(6)}"
            place.mkdir(mode=0o711)
            home.symlink_to(place)
        self.folder = home.resolve()
        _own_folder(self.folder)

    def _as_account(self) -> dict[str, object]:
        return self.account.spawn_options() if self.account is not None else {}


class Valkey:
    """One Valkey server. With `durable` it keeps an append-only file, otherwise memory only."""

    name = "valkey"
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.durable = durable

    @property
    def password(self) -> str:
        return _password(self.folder)

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/{database}"

    def prepare(self) -> None:
        """Write the configuration. Raises EngineError."""
        _own_folder(self.folder)
        self.program = find_valkey()
        settings = {
            "bind": HOST,
            "port": self.port,
            "dir": f'"{self.folder}"',
            "databases": VALKEY_DATABASES,
            "requirepass": self.password,
            "save": '""',
            "loglevel": "warning",
            "appendonly": "yes" if self.durable else "no",
        }
        # In a file and not on the command line, where every user of the machine could read it.
        write_private(
            self.folder / "valkey.conf",
            "".join(f"{key} {value}\n" for key, value in settings.items()),
        )

    def spawn(self, output: int | IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self.program, str(self.folder / "valkey.conf")],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def is_ready(self) -> bool:
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            with redis.Redis.from_url(self.url(), socket_timeout=2) as client:
                client.ping()
            return True
        return False


def start(engine: Engine) -> subprocess.Popen[bytes]:
    """Prepare and start an engine; what it prints is appended to `<name>.log` in its folder.

    It is not ready yet: see wait_until_ready. Raises EngineError.
    """
    engine.prepare()
    with log_of(engine).open("ab") as log:
        return engine.spawn(log)


def wait_until_ready(
    engine: Engine, process: subprocess.Popen[bytes], *, timeout: float = 60
) -> None:
    """Return once the engine accepts connections.

    Raises EngineError, with the last lines it wrote, when it ends or stays silent.
    """
    deadline = time.monotonic() + timeout
    while not engine.is_ready():
        if process.poll() is not None:
            tail = log_of(engine).read_text(errors="replace").splitlines()[-15:]
            raise EngineError("\n".join([f"{engine.name} did not start:", *tail]))
        if time.monotonic() > deadline:
            raise EngineError(f"{engine.name} is not ready after {timeout:.0f} s")
        time.sleep(0.02)


def stop(process: subprocess.Popen[bytes], how: signal.Signals, *, timeout: float = 10) -> None:
    """Ask the process to stop, and end its whole session when it does not in time."""
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextlib.contextmanager
def running(*engines: Engine) -> Iterator[None]:
    """Start the engines together, wait until all are ready, stop them on the way out.

    Raises EngineError; engines already started are stopped first.
    """
    with contextlib.ExitStack() as stack:
        started = []
        for engine in engines:
            process = start(engine)
            stack.callback(stop, process, engine.stop_signal)
            started.append((engine, process))
        for engine, process in started:
            wait_until_ready(engine, process)
        yield


def log_of(engine: Engine) -> Path:
    return engine.folder / f"{engine.name}.log"


def free_port() -> int:
    """A port nobody listens on at this moment, of those that no system gives to whoever connects:
    whatever is to listen there takes seconds to start, and thousands of connections begin in them.
    """
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def _own_folder(folder: Path) -> None:
    """Make an engine's folder: ours to list, for the engine's account to pass through."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)


def _password(folder: Path) -> str:
    """The engine's password, made once and kept in its folder for us alone."""
    path = folder / "password"
    if not path.exists():
        write_private(path, secrets.token_hex(16))
    return path.read_text()


def _can_enter(options: dict[str, object], folder: Path) -> bool:
    """Ask the system itself, as the other account: modes alone do not tell."""
    done = subprocess.run(  # type: ignore[call-overload]
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)],
        cwd="/",
        capture_output=True,
        check=False,
        **options,
    )
    return bool(done.returncode == 0)
