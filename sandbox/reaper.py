"""Ends what a process leaves behind when it dies without a chance to clean up.

The owner starts one reaper and tells it, through a pipe, which sessions it has started and which
files and folders are to go. When the pipe closes, for whatever reason, kill -9 included, the reaper
removes the files, ends the sessions and removes the folders. It runs in a session of its own and
needs nothing but Python.

Lines on standard input: `watch PID SIGNAL`, `forget PID`, `remove PATH`.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TextIO

GRACE_SECONDS = 5.0


class Reaper:
    """The owner's side. Works from any thread; never raises when the reaper is gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            text=True,
        )

    def watch(self, pid: int, how: signal.Signals) -> None:
        """End the session led by `pid` with the signal `how`, then after a while with SIGKILL."""
        self._tell(f"watch {pid} {int(how)}")

    def forget(self, pid: int) -> None:
        """The process has ended; its number may soon be another's."""
        self._tell(f"forget {pid}")

    def remove(self, path: Path) -> None:
        self._tell(f"remove {path}")

    def close(self) -> None:
        """Let it do now what is left to do, and wait for that."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        pipe = self._process.stdin
        if pipe is not None and not pipe.closed and self._process.poll() is None:
            pipe.write(line + "\n")
            pipe.flush()


def listen(lines: TextIO) -> tuple[dict[int, signal.Signals], list[Path]]:
    """Read until the owner is gone; return the sessions and paths it left."""
    watched: dict[int, signal.Signals] = {}
    paths: list[Path] = []
    for line in lines:
        verb, _, rest = line.rstrip("\n").partition(" ")
        if verb == "watch":
            pid, _, how = rest.partition(" ")
            watched[int(pid)] = signal.Signals(int(how))
        elif verb == "forget":
            watched.pop(int(rest), None)
        elif verb == "remove":
            paths.append(Path(rest))
    return watched, paths


def end_sessions(watched: dict[int, signal.Signals], grace: float = GRACE_SECONDS) -> None:
    """Signal every leader, then kill what is left of its process group."""
    for pid, how in watched.items():
        _signal(pid, how, group=False)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(_is_alive(pid) for pid in watched):
        time.sleep(0.05)
    for pid in watched:
        _signal(pid, signal.SIGKILL, group=True)


def _signal(pid: int, how: signal.Signals, *, group: bool) -> None:
    try:
        os.killpg(pid, how) if group else os.kill(pid, how)
    except (ProcessLookupError, PermissionError):
        return


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def main() -> None:
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    watched, paths = listen(sys.stdin)
    for path in paths:
        if path.is_file():
            path.unlink(missing_ok=True)
    end_sessions(watched)
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


if __name__ == "__main__":
    main()
