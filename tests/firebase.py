"""A Firebase project for tests: signs ID tokens with a key of its own and serves the certificate
over real HTTP, so that the product's verification path is production's."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

PROJECT = "demo-tests"


class SigningKey:
    def __init__(self, key_id: str) -> None:
        self.key_id = key_id
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "securetoken.test")])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .sign(self.private, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
            .decode()
        )


class FirebaseProject:
    """``token()`` signs; ``url`` serves certificates; the attributes decide how well."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys = [SigningKey("key-1")]
        self.reset()

    def reset(self) -> None:
        del self.keys[1:]
        self.max_age = 3600
        self.is_down = False
        # Sent instead of the certificates.
        self.body: bytes | None = None
        self.fetches = 0

    @property
    def key(self) -> SigningKey:
        return self.keys[-1]

    def add_key(self, key_id: str) -> SigningKey:
        self.keys.append(SigningKey(key_id))
        return self.key

    def claims(self, uid: str = "uid-1", **overrides: Any) -> dict[str, Any]:
        """Valid claims as Firebase writes them; an override of None leaves one out."""
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": f"https://securetoken.google.com/{PROJECT}",
            "aud": PROJECT,
            "sub": uid,
            "user_id": uid,
            "iat": now - 10,
            "auth_time": now - 10,
            "exp": now + 3590,
            "email": f"{uid}@example.com",
            "email_verified": True,
            "firebase": {"sign_in_provider": "password"},
            **overrides,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, uid: str = "uid-1", *, key_id: str | None = None, **overrides: Any) -> str:
        headers = {"kid": key_id or self.key.key_id}
        return jwt.encode(
            self.claims(uid, **overrides), self.key.private, algorithm="RS256", headers=headers
        )

    def certificates(self) -> bytes:
        if self.body is not None:
            return self.body
        return json.dumps({key.key_id: key.certificate for key in self.keys}).encode()


@contextmanager
def firebase_project() -> Iterator[FirebaseProject]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            project.fetches += 1
            body = project.certificates()
            self.send_response(500 if project.is_down else 200)
            self.send_header("Cache-Control", f"public, max-age={project.max_age}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        host, port = server.server_address[:2]
        project = FirebaseProject(f"http://{host!s}:{port}/certificates")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield project
        server.shutdown()
        thread.join()
