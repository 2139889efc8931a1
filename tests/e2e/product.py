"""A running copy of the whole product, for tests that look at it from outside."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.sandbox.processes import free_row

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 240


class Product:
    """What `make run` writes into endpoints.json."""

    def __init__(self, endpoints: dict[str, Any], folder: Path) -> None:
        self.folder = folder
        self.web: str = endpoints["web"]
        self.stripe: str = endpoints["stripe_api"]
        self.firebase: str = endpoints["firebase_api"]
        self.gateway: str = endpoints["gateway"]
        self._master_key: str = endpoints["litellm_master_key"]
        self.staff: dict[str, str] = endpoints["staff"]
        self.users: dict[str, dict[str, str]] = {user["plan"]: user for user in endpoints["users"]}

    def endpoints(self) -> dict[str, Any]:
        """As they are now: a program that was started again has another pid."""
        found: dict[str, Any] = json.loads((self.folder / "endpoints.json").read_text())
        return found

    def invitation_link(self, email: str) -> str:
        """Out of the mail, which a local copy writes into the log of its web process."""
        for _ in range(50):
            _, _, mail = (self.folder / "logs/web.log").read_text().rpartition(f"To: {email}")
            if found := re.search(r"https?://\S+#invitation=\S+", mail):
                return found[0]
            time.sleep(0.1)
        raise LookupError(f"No invitation to {email}")

    @contextmanager
    def gateway_fault(self, **fault: Any) -> Iterator[None]:
        """Let the gateway misbehave, as sandbox/faults.py describes it."""
        headers = {"Authorization": f"Bearer {self._master_key}"}
        faults = f"{self.gateway}/sandbox/faults"
        made = httpx.post(faults, json=fault, headers=headers).raise_for_status().json()
        try:
            yield
        finally:
            httpx.delete(f"{faults}/{made['id']}", headers=headers)


def running_copy() -> Product | None:
    """The copy in DATA_DIR, where one runs and E2E_RUNNING asks for it."""
    if not os.environ.get("E2E_RUNNING"):
        return None
    return product_in(ROOT / os.environ.get("E2E_RUNNING", ".local"))


def product_in(folder: Path) -> Product | None:
    """The copy that runs with this DATA_DIR, if one does."""
    path = folder / "endpoints.json"
    return Product(json.loads(path.read_text()), folder) if path.exists() else None


@contextmanager
def fresh_copy(folder: Path) -> Iterator[Product]:
    """Start a copy of our own with fresh data, and stop it afterwards."""
    data = folder / "data"
    environment = {
        name: value
        for name, value in os.environ.items()
        # pytest's own settings are for a product without neighbours.
        if name in {"PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "PYTHON"}
    }
    environment |= {"DATA_DIR": str(data), "PORT": str(free_row())}
    log = folder / "run.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.run"],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Product(_wait(process, data / "endpoints.json", log), data)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _wait(process: subprocess.Popen[bytes], endpoints: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if endpoints.exists():
            content: dict[str, Any] = json.loads(endpoints.read_text())
            return content
        if process.poll() is not None:
            break
        time.sleep(0.3)
    tail = log.read_text(errors="replace").splitlines()[-30:]
    raise RuntimeError("The product did not start:\n" + "\n".join(tail))
