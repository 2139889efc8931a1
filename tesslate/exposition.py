"""What this process counted, or all processes that share PROMETHEUS_MULTIPROC_DIR; and who may see.

prometheus_client chooses at import: with the variable set, every process writes its figures to
files of its own in that folder, and whoever is asked adds them up. The folder belongs to processes
that see each other's ids: one container, or one machine.
"""

import hmac
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path

from django.conf import settings
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

OWNER = re.compile(r"gauge_live\w*_(\d+)\.db")


def shared_folder() -> Path | None:
    """Where the processes' figures meet; None where there is just one process."""
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(path) if path else None


def process_figures() -> CollectorRegistry:
    """The registry to expose."""
    folder = shared_folder()
    if folder is None:
        return REGISTRY
    forget_dead(folder)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=str(folder))  # type: ignore[no-untyped-call]
    return registry


def forget_dead(folder: Path) -> None:
    """Drop what processes that are gone said of the present moment.

    What they counted stays: a counter that loses a part looks like a restart to Prometheus.
    """
    owners = {int(found[1]) for file in folder.iterdir() if (found := OWNER.fullmatch(file.name))}
    for pid in owners:
        if not _is_alive(pid):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def may_read(headers: Mapping[str, str], address: str) -> bool:
    """With METRICS_TOKEN set its bearer, otherwise whoever calls directly from a private network.

    A request that came through a proxy is from anywhere, even though the proxy is not.
    """
    if settings.METRICS_TOKEN:
        given = headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {settings.METRICS_TOKEN}".encode())
    if "X-Forwarded-For" in headers or "Forwarded" in headers:
        return False
    try:
        caller = ipaddress.ip_address(address)
    except ValueError:
        return False
    return caller.is_private or caller.is_loopback
