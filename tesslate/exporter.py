"""Worker and beat serve no HTTP of their own; METRICS_LISTEN gives them a port for two things.

/metrics      what this process and its children counted, under the rule of the web's /metrics
/health/live  200 while the main loop comes round, 503 once it stands still: a restart would help

Nothing else is answered, and nobody outside the private network should reach the port.
"""

import json
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from celery.signals import beat_init, worker_process_shutdown, worker_ready
from django.conf import settings
from django.utils.datastructures import CaseInsensitiveMapping
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import mark_process_dead

from tesslate.exposition import may_read, process_figures, shared_folder
from tesslate.heartbeat import STALE_SECONDS, still_seconds

logger = logging.getLogger(__name__)


class Handler(BaseHTTPRequestHandler):
    # A caller that sends nothing does not hold its thread for ever.
    timeout = 10

    def do_GET(self) -> None:
        match self.path:
            case "/health/live":
                still = still_seconds()
                is_alive = still is not None and still < STALE_SECONDS
                body = {"status": "ok" if is_alive else "standing still"}
                self._answer(200 if is_alive else 503, "application/json", json.dumps(body))
            case "/metrics" if may_read(self._headers(), self.client_address[0]):
                text = generate_latest(process_figures()).decode()
                self._answer(200, CONTENT_TYPE_LATEST, text)
            case "/metrics":
                self._answer(403, "text/plain", "Not for you.\n")
            case _:
                self._answer(404, "text/plain", "There is no such thing.\n")

    def _headers(self) -> CaseInsensitiveMapping[str]:
        return CaseInsensitiveMapping(self.headers.items())

    def _answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def serve(host: str, port: int) -> ThreadingHTTPServer:
    """Answer from a thread until the process ends. Raises OSError where the port is taken."""
    server = ThreadingHTTPServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="exporter", daemon=True).start()
    return server


@worker_ready.connect
@beat_init.connect
def start(**kwargs: Any) -> None:
    """A process that cannot be watched still does its work."""
    if not settings.METRICS_LISTEN:
        return
    host, _, port = settings.METRICS_LISTEN.rpartition(":")
    try:
        serve(host, int(port))
    except OSError as error:
        logger.error("METRICS_LISTEN: %s cannot be used: %s", settings.METRICS_LISTEN, error)


@worker_process_shutdown.connect
def forget_child(pid: int, **kwargs: Any) -> None:
    """A worker's child ends: what it said of the present moment ends with it."""
    if (folder := shared_folder()) is not None:
        mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
