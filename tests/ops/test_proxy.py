"""The TLS terminator, started for real: streams pass unbuffered, and what is private stays so."""

import re
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sandbox.engines import free_port
from tests.ops.tools import OPS, run, tool

CONFIG = (OPS / "nginx" / "nginx.conf").read_text()


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    (folder / "fullchain.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


class Web(BaseHTTPRequestHandler):
    """Sends a second event only once it is told that the first has arrived."""

    protocol_version = "HTTP/1.1"
    arrived = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        for name in ("X-Forwarded-For", "X-Forwarded-Proto", "Host"):
            self.send_header(f"Seen-{name}", self.headers.get(name, ""))
        self.end_headers()
        self._chunk(b"data: first\n\n")
        told = self.arrived.wait(10)
        self._chunk(b"data: second\n\n" if told else b"data: the first was held back\n\n")
        self._chunk(b"")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def proxy(tmp_path_factory) -> Iterator[dict[str, int]]:
    """nginx with the very configuration, but for addresses and folders."""
    nginx = tool("nginx")
    folder = tmp_path_factory.mktemp("nginx")
    certificate(folder / "certs")
    (folder / "mime.types").write_text("types {}")
    web = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02}).start()
    ports = {"http": free_port(), "https": free_port()}
    text = (
        CONFIG.replace("listen 8080", f"listen 127.0.0.1:{ports['http']}")
        .replace("listen 8443", f"listen 127.0.0.1:{ports['https']}")
        .replace("set $web web:8000", f"set $web 127.0.0.1:{web.server_port}")
        .replace("/tmp/", f"{folder}/")  # noqa: S108 - names that go away
        .replace("worker_processes auto", "worker_processes 1")
        .replace("worker_rlimit_nofile 65536;", "")
        .replace("worker_connections 16384", "worker_connections 64")
    )
    config = folder / "nginx.conf"
    config.write_text(text + "\ndaemon off;\n")
    run(nginx, "-t", "-q", "-p", folder, "-c", config)
    process = subprocess.Popen([nginx, "-p", str(folder), "-c", str(config)])
    try:
        wait_for(ports["http"])
        yield ports
    finally:
        process.terminate()
        process.wait(10)
        web.shutdown()
        web.server_close()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/proxy-health")
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


@pytest.fixture
def https(proxy) -> Iterator[httpx.Client]:
    trusting = ssl.create_default_context()
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    address = f"https://127.0.0.1:{proxy['https']}"
    with httpx.Client(base_url=address, verify=trusting, timeout=15) as client:
        yield client


def test_stream_reaches_its_reader_chunk_by_chunk(https):
    Web.arrived.clear()
    with https.stream("GET", "/api/proxy/chat") as response:
        chunks = response.iter_raw()
        assert next(chunks) == b"data: first\n\n"
        Web.arrived.set()
        assert b"".join(chunks) == b"data: second\n\n"


def test_caller_cannot_make_up_an_address(https):
    Web.arrived.set()
    response = https.get("/", headers={"X-Forwarded-For": "10.0.0.1", "Host": "app.example.com"})

    assert response.headers["Seen-X-Forwarded-For"] == "127.0.0.1"
    assert response.headers["Seen-X-Forwarded-Proto"] == "https"
    assert response.headers["Seen-Host"] == "app.example.com"


@pytest.mark.parametrize("path", ["/metrics", "/health/ready", "/health/live"])
def test_what_is_for_the_private_network_is_not_passed_on(https, path):
    assert https.get(path).status_code == 404


def test_plain_http_is_sent_to_https_and_keeps_its_method(proxy):
    address = f"http://127.0.0.1:{proxy['http']}/account?x=1"
    response = httpx.post(address, headers={"Host": "app.example.com"})

    assert response.status_code == 308
    assert response.headers["Location"] == "https://app.example.com/account?x=1"


def test_body_that_the_product_would_take_is_let_through(settings):
    found = re.search(r"client_max_body_size (\d+)m", CONFIG)
    assert found is not None
    limit = int(found[1]) * 1024 * 1024

    assert limit >= settings.CHAT_MAX_BODY_BYTES
    assert limit >= settings.STRIPE_WEBHOOK_MAX_BYTES
