"""Whether this process still takes new work."""

import threading

_draining = threading.Event()


def begin_drain() -> None:
    """The process was told to stop: readiness says no from now on, running work goes on."""
    _draining.set()


def is_draining() -> bool:
    return _draining.is_set()


def end_drain() -> None:
    """For servers that start again within one process."""
    _draining.clear()
