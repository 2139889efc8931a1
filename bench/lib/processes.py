"""Programs under measurement, each bound to a core, and what they cost."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sandbox.engines import free_port

CORES = sorted(os.sched_getaffinity(0))
# The process under test has a core to itself; load and upstream share the other.
TESTED_CORE = {CORES[0]}
OTHER_CORES = set(CORES[1:]) or TESTED_CORE
TICK = os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def program(
    command: list[str], *, port: int, cores: set[int], environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a program until the block ends; gives its pid once its port accepts connections."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
    )
    try:
        os.sched_setaffinity(process.pid, cores)
        wait_for_port(port, process)
        for thread in Path(f"/proc/{process.pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), cores)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args!r} does not listen on {port}")


def uvicorn(app: str, port: int) -> list[str]:
    options = "--loop uvloop --http httptools --no-access-log --log-level warning --backlog 8192"
    return [sys.executable, "-m", "uvicorn", app, "--port", str(port), *options.split()]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far.

    To the nanosecond where the kernel keeps scheduler statistics (of threads that still run; those
    of the programs here run as long as they do), else to the clock tick.
    """
    with contextlib.suppress(FileNotFoundError):
        threads = Path(f"/proc/{pid}/task").iterdir()
        spent = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
        return spent / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


__all__ = [
    "OTHER_CORES",
    "TESTED_CORE",
    "cpu_seconds",
    "free_port",
    "program",
    "resident_bytes",
    "threads",
    "uvicorn",
]
