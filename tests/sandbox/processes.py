"""Looking at processes from outside, for tests of what starts and ends them."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.engines import free_port
from sandbox.stack import PORTS, is_free

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")


def is_running(pid: int) -> bool:
    """A process that has ended and was not collected by its parent yet counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def free_row() -> int:
    """The first of as many free ports in a row as a copy takes."""
    for _ in range(50):
        first = free_port()
        if all(is_free(first + offset) for offset in range(len(PORTS))):
            return first
    raise RuntimeError("no row of free ports")
