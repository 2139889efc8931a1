"""What `make run` consists of: its ports, its settings and its services."""

import http.client
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import redis

from sandbox.datafolder import ROOT, DataFolder
from sandbox.engines import HOST, Engine, Postgres, Valkey
from sandbox.firebase.administration import write_service_account
from sandbox.supervisor import Service, program

DATABASE = "tesslate"
FIREBASE_PROJECT = "demo-tesslate"
FIREBASE_CERTIFICATES = "/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"

# A Ctrl-C ends everything within ten seconds. First the web finishes its streams and beat ends,
# then the worker its tasks, then the stand-ins go, and the engines last.
WEB_DRAIN_SECONDS = 3
STOP_WITHIN = (4.0, 7.5, 8.5, 10.0)

# Queues and processes of each worker. Keys have one of their own: a storm of events must not keep
# the key waiting that a customer has just paid for.
WORKERS = {"worker": ("default,bulk", 2), "worker-keys": ("keys", 1)}


class BadOption(RuntimeError):
    """A variable given to `make run` makes no sense. The message is one line that names it."""


@dataclass(frozen=True)
class Options:
    port: int
    data_dir: str
    gateway: str | None
    gateway_master_key: str | None

    @classmethod
    def from_environment(cls) -> "Options":
        """Raises BadOption."""
        raw = os.environ.get("PORT") or "8000"
        if not raw.isdigit() or not 1 <= int(raw) <= 65535 - len(PORTS):
            raise BadOption(f"PORT: {raw!r} is no port number with {len(PORTS) - 1} more after it")
        gateway = (os.environ.get("GATEWAY") or "").rstrip("/") or None
        master_key = os.environ.get("GATEWAY_MASTER_KEY") or None
        if gateway is not None:
            parts = urlsplit(gateway)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise BadOption(f"GATEWAY: {gateway!r} is not an http(s) URL")
            if master_key is None:
                raise BadOption("GATEWAY_MASTER_KEY: is needed with GATEWAY")
        return cls(int(raw), os.environ.get("DATA_DIR") or ".local", gateway, master_key)


# The stand-in's models answer at a pace one can follow, unless the environment says otherwise.
TOKENS_PER_SECOND = "80"

# In the order of their ports: PORT, PORT+1, …
PORTS = ("web", "litellm", "stripe", "firebase", "postgres", "valkey")


def check_ports_free(options: Options) -> None:
    """Raises BadOption for the first port that another program holds."""
    for offset, name in enumerate(PORTS):
        port = options.port + offset
        if (name == "litellm" and options.gateway) or is_free(port):
            continue
        where = "PORT" if offset == 0 else f"PORT+{offset}, for {name}"
        raise BadOption(
            f"Port {port} ({where}) is in use by another program. "
            f"Choose another: make run PORT={options.port + 100}"
        )


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    # Where the system lets one address be bound beside "any address", somebody may still answer.
    with socket.socket() as client:
        client.settimeout(0.2)
        return client.connect_ex((HOST, port)) != 0


class Stack:
    """The services of one copy, with everything they need to find each other."""

    def __init__(self, options: Options, folder: DataFolder) -> None:
        self.options = options
        self.folder = folder
        self.secrets = folder.secrets()
        self.ports = {name: options.port + offset for offset, name in enumerate(PORTS)}
        self.postgres = Postgres(folder.path / "postgres", port=self.ports["postgres"])
        self.valkey = Valkey(folder.path / "valkey", port=self.ports["valkey"])

    def url(self, name: str) -> str:
        if name == "litellm" and self.options.gateway is not None:
            return self.options.gateway
        return f"http://{HOST}:{self.ports[name]}"

    @property
    def master_key(self) -> str:
        return self.options.gateway_master_key or self.secrets["LITELLM_MASTER_KEY"]

    def settings(self) -> dict[str, str]:
        """The product's settings (see .env.example). Valid once the engines are prepared."""
        return {
            "DEBUG": "true",
            "SECRET_KEY": self.secrets["SECRET_KEY"],
            "PUBLIC_URL": self.url("web"),
            "ALLOWED_HOSTS": "127.0.0.1,localhost,[::1]",
            "COOKIE_SUFFIX": "" if self.options.port == 8000 else f"_{self.options.port}",
            "DATABASE_URL": self.postgres.url(DATABASE),
            "REDIS_URL": self.valkey.url(),
            "ENCRYPTION_KEYS": self.secrets["ENCRYPTION_KEYS"],
            "LITELLM_URL": self.url("litellm"),
            "LITELLM_MASTER_KEYS": self.master_key,
            "STRIPE_SECRET_KEY": self.secrets["STRIPE_SECRET_KEY"],
            "STRIPE_WEBHOOK_SECRETS": self.secrets["STRIPE_WEBHOOK_SECRET"],
            "STRIPE_API_URL": self.url("stripe"),
            "FIREBASE_PROJECT_ID": FIREBASE_PROJECT,
            "FIREBASE_API_KEY": self.secrets["FIREBASE_API_KEY"],
            "FIREBASE_AUTH_URL": self.url("firebase"),
            "FIREBASE_TOKEN_URL": self.url("firebase"),
            "FIREBASE_CERTS_URL": self.url("firebase") + FIREBASE_CERTIFICATES,
            "FIREBASE_SERVICE_ACCOUNT_FILE": str(self._service_account()),
            "CHAT_DRAIN_SECONDS": str(WEB_DRAIN_SECONDS),
            "DATA_DIR": str(self.folder.path),
        }

    def _service_account(self) -> Path:
        path = self.folder.path / "firebase-service-account.json"
        write_service_account(path, project_id=FIREBASE_PROJECT, url=self.url("firebase"))
        return path

    def endpoints(self, demo: dict[str, object], pids: dict[str, int]) -> dict[str, object]:
        """What tools need to find and use this copy; `make demo` and the tests read it."""
        return {
            "web": self.url("web"),
            "gateway": self.url("litellm"),
            "stripe_api": self.url("stripe"),
            "firebase_api": self.url("firebase"),
            "litellm_master_key": self.master_key,
            "stripe_secret_key": self.secrets["STRIPE_SECRET_KEY"],
            "stripe_webhook_secret": self.secrets["STRIPE_WEBHOOK_SECRET"],
            "firebase_api_key": self.secrets["FIREBASE_API_KEY"],
            "firebase_project_id": FIREBASE_PROJECT,
            "staff": demo["staff"],
            "users": demo["users"],
            "pids": pids,
        }

    def engines(self) -> list[Service]:
        """Raises EngineError."""
        return [self._engine(engine) for engine in (self.postgres, self.valkey)]

    def stand_ins(self) -> list[Service]:
        own: dict[str, dict[str, str]] = {
            "litellm": {"MASTER_KEY": self.master_key, "CONFIG": str(ROOT / "litellm.config.yaml")},
            "stripe": {
                "SECRET_KEY": self.secrets["STRIPE_SECRET_KEY"],
                "WEBHOOK_SECRET": self.secrets["STRIPE_WEBHOOK_SECRET"],
                "WEBHOOK_URL": self.url("web") + "/webhooks/stripe",
            },
            "firebase": {
                "PROJECT_ID": FIREBASE_PROJECT,
                "API_KEY": self.secrets["FIREBASE_API_KEY"],
                "ACTION_URL": self.url("web") + "/reset-password",
            },
        }
        if self.options.gateway is not None:
            del own["litellm"]
        return [self._stand_in(name, variables) for name, variables in own.items()]

    def web(self) -> Service:
        command = [
            *["-m", "uvicorn", "tesslate.asgi:application", "--host", HOST],
            *["--port", str(self.ports["web"]), "--loop", "uvloop", "--http", "httptools"],
            *["--no-access-log", "--timeout-graceful-shutdown", str(WEB_DRAIN_SECONDS)],
        ]
        ready = answers(self.url("web"), "/health/live")
        return self._python("web", command, ready, phase=0)

    def workers(self) -> list[Service]:
        return [self._worker(name, *shape) for name, shape in WORKERS.items()]

    def _worker(self, name: str, queues: str, processes: int) -> Service:
        # As root on one's own machine is fine; Celery's warning is meant for servers.
        command = [
            *["-W", "ignore:You're running the worker with superuser privileges"],
            *["-m", "celery", "--quiet", "-A", "tesslate", "worker", "--queues", queues],
            *["--hostname", f"{name}@%h", "--concurrency", str(processes)],
            *["--without-mingle", "--without-gossip"],
        ]
        return self._python(name, command, self._all_take_tasks, phase=1)

    def beat(self) -> Service:
        folder = self.folder.path / "beat"
        folder.mkdir(exist_ok=True)
        command = [
            *["-m", "celery", "--quiet", "-A", "tesslate", "beat"],
            *["--schedule", str(folder / "schedule"), "--pidfile", ""],
        ]
        # "Everything is up" shall be what the doctor finds as well.
        return self._python("beat", command, finds_well(self.url("web"), "worker", "beat"), phase=0)

    def step(self, name: str, *arguments: str) -> Service:
        """A command that runs to its end."""
        return self._python(name, list(arguments))

    def _engine(self, engine: Engine) -> Service:
        engine.prepare()
        return Service(
            name=engine.name,
            spawn=engine.spawn,
            is_ready=engine.is_ready,
            stop_signal=engine.stop_signal,
            stop_phase=3,
            stop_within=STOP_WITHIN[3],
        )

    def _stand_in(self, name: str, variables: dict[str, str]) -> Service:
        prefix = f"SANDBOX_{name.upper()}_"
        data = self.folder.path / name
        data.mkdir(mode=0o700, exist_ok=True)
        environment = {prefix + key: value for key, value in variables.items()}
        environment |= {f"{prefix}PORT": str(self.ports[name]), f"{prefix}DATA": str(data)}
        return program(
            name,
            [sys.executable, "-m", f"sandbox.{name}"],
            environment=base_environment() | environment,
            folder=ROOT,
            is_ready=answers(self.url(name)),
            stop_phase=2,
            stop_within=STOP_WITHIN[2],
        )

    def _python(
        self,
        name: str,
        arguments: list[str],
        is_ready: Callable[[], bool] = lambda: True,
        *,
        phase: int = 0,
    ) -> Service:
        return program(
            name,
            [sys.executable, *arguments],
            environment=base_environment() | self.settings() | self._shared_figures(),
            folder=ROOT,
            is_ready=is_ready,
            stop_phase=phase,
            stop_within=STOP_WITHIN[phase],
        )

    def _shared_figures(self) -> dict[str, str]:
        """Web, workers and beat leave their figures for each other: /metrics tells of all."""
        return {"PROMETHEUS_MULTIPROC_DIR": str(self.folder.path / "figures")}

    def forget_figures(self) -> None:
        """Those of an earlier run are of processes that are gone."""
        shutil.rmtree(self.folder.path / "figures", ignore_errors=True)

    def _all_take_tasks(self) -> bool:
        """Each worker waits for tasks in one blocking pop."""
        try:
            with redis.Redis.from_url(self.valkey.url(), socket_timeout=2) as client:
                waiting = [entry for entry in client.client_list() if entry["cmd"] == "brpop"]
        except redis.RedisError:
            return False
        return len(waiting) >= len(WORKERS)


def base_environment() -> dict[str, str]:
    pace = {"SANDBOX_TOKENS_PER_SECOND": TOKENS_PER_SECOND}
    return {**pace, **os.environ, "PYTHONUNBUFFERED": "1"}


def answers(base_url: str, path: str = "/") -> Callable[[], bool]:
    """A check that somebody speaks HTTP there, whatever the answer."""
    return lambda: _answer(base_url, path) is not None


def finds_well(base_url: str, *neighbours: str) -> Callable[[], bool]:
    """A check that the web process there finds all of these well."""

    def check() -> bool:
        try:
            found = json.loads(_answer(base_url, "/health") or b"")["checks"]
        except ValueError:
            return False
        return all(found[name]["state"] == "ok" for name in neighbours)

    return check


def _answer(base_url: str, path: str) -> bytes | None:
    """The body of whatever is answered; None where nobody speaks HTTP."""
    parts = urlsplit(base_url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(str(parts.hostname), parts.port, timeout=5)
    try:
        connection.request("GET", parts.path + path)
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def log_folder(folder: DataFolder) -> Path:
    """A fresh folder for this run's logs; the previous run's stay beside it."""
    previous = folder.logs.with_name("logs.previous")
    if previous.exists():
        for old in previous.iterdir():
            old.unlink()
        previous.rmdir()
    if folder.logs.exists():
        folder.logs.rename(previous)
    folder.logs.mkdir(mode=0o700)
    return folder.logs
