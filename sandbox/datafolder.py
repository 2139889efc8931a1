"""The folder that `make run` keeps everything in: data, logs, secrets, and who is running.

Needs only the standard library, so that `make clean` works before any package is installed:
`python3 -m sandbox.datafolder clean FOLDER`.
"""

import base64
import fcntl
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent

# Also the sign that the folder is ours, and may be removed as a whole.
MARKER = ".gitignore"
MARKER_TEXT = "# Made by `make run`; `make clean` removes this folder.\n*\n"

STALE_GRACE_SECONDS = 6.0


class FolderError(RuntimeError):
    """The folder cannot be used. The message is one line for a person."""


class DataFolder:
    def __init__(self, path: str) -> None:
        # Relative to the project, as the settings do, wherever the command is given.
        self.path = (ROOT / path).resolve()
        self.logs = self.path / "logs"
        self.endpoints = self.path / "endpoints.json"
        self._lock: IO[str] | None = None

    def open(self) -> None:
        """Make the folder and claim it for this process.

        Raises FolderError when it is not ours or another `make run` holds it.
        """
        try:
            if self.path.is_dir() and any(self.path.iterdir()) and not self._is_ours():
                raise FolderError(f"{self.path} holds something else: name another in DATA_DIR")
            self.path.mkdir(mode=0o711, parents=True, exist_ok=True)
            self.path.chmod(0o711)  # as root PostgreSQL passes through under another account
            (self.path / MARKER).write_text(MARKER_TEXT)
            self.logs.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise FolderError(f"DATA_DIR cannot be used: {error}") from None
        self._claim()

    def close(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def remove(self) -> None:
        """Remove the folder and what it put elsewhere.

        Raises FolderError when it is in use or not ours.
        """
        if not self.path.exists():
            return
        if not self._is_ours():
            raise FolderError(f"{self.path} was not made by `make run`: not removing it")
        self._claim()
        self.end_stale()
        for link in self.path.glob("*/within-reach"):
            shutil.rmtree(link.resolve(), ignore_errors=True)
        shutil.rmtree(self.path)
        self.close()

    def secrets(self) -> dict[str, str]:
        """The secrets of this copy, made once and kept."""
        made = {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "ENCRYPTION_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "LITELLM_MASTER_KEY": f"sk-{secrets.token_hex(24)}",
            "STRIPE_SECRET_KEY": f"sk_test_{secrets.token_hex(24)}",
            "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(24)}",
            "FIREBASE_API_KEY": f"local-{secrets.token_hex(16)}",
        }
        path = self.path / "secrets.json"
        if path.exists():
            made |= json.loads(path.read_text())
        write_private(path, json.dumps(made, indent=2))
        return made

    def write_environment(self, environment: Mapping[str, str]) -> None:
        """For manage.py in another terminal: tesslate.settings reads this file."""
        lines = "".join(f"{name}={value}\n" for name, value in environment.items())
        write_private(self.path / "env", lines)

    def write_endpoints(self, endpoints: Mapping[str, object]) -> None:
        write_private(self.endpoints, json.dumps(endpoints, indent=2))

    def remove_endpoints(self) -> None:
        self.endpoints.unlink(missing_ok=True)

    def note_processes(self, processes: Mapping[str, tuple[int, signal.Signals]]) -> None:
        """Remember what runs, so that the next start can end what a sudden death left."""
        noted = [
            {"pid": pid, "begun": begun(pid), "signal": int(how)} for pid, how in processes.values()
        ]
        write_private(self.path / "processes.json", json.dumps(noted))

    def end_stale(self) -> int:
        """End processes that an earlier `make run` left behind; say how many there were."""
        path = self.path / "processes.json"
        if not path.exists():
            return 0
        noted = json.loads(path.read_text())
        stale = [entry for entry in noted if _is_same(entry)]
        for entry in stale:
            _send(entry["pid"], entry["signal"])
        deadline = time.monotonic() + STALE_GRACE_SECONDS
        while time.monotonic() < deadline and any(map(_is_same, stale)):
            time.sleep(0.05)
        for entry in filter(_is_same, stale):
            _send(-entry["pid"], signal.SIGKILL)
        path.unlink()
        return len(stale)

    def _is_ours(self) -> bool:
        marker = self.path / MARKER
        return marker.is_file() and marker.read_text() == MARKER_TEXT

    def _claim(self) -> None:
        lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            lock.close()
            raise FolderError(
                f"Another `make run` (process {holder}) uses {self.path}. Stop it, or run a second "
                "copy: make run PORT=9000 DATA_DIR=.local-2"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step; only this user may read it."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def begun(pid: int) -> str | None:
    """When the process began, as the system writes it; None when it has ended.

    Tells the process from a later one that was given the same number.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return None
        done = subprocess.run(
            ["/bin/ps", "-o", "lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() or None
    return None if fields[0] == "Z" else fields[19]


def _is_same(entry: dict[str, object]) -> bool:
    return entry["begun"] is not None and begun(int(str(entry["pid"]))) == entry["begun"]


def _send(pid: int, how: int) -> None:
    try:
        os.kill(pid, how)
    except (ProcessLookupError, PermissionError):
        return


def main() -> None:
    if len(sys.argv) != 3 or sys.argv[1] != "clean":
        raise SystemExit("usage: python3 -m sandbox.datafolder clean FOLDER")
    try:
        DataFolder(sys.argv[2]).remove()
    except FolderError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
