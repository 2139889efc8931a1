"""Signing keys, ID tokens, and the certificates that verify them."""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import NameOID

from sandbox.state import Journal

SUBJECT = "securetoken.system.gserviceaccount.com"
ID_TOKEN_SECONDS = 3600
# What Google sends on the certificates; it rotates daily and publishes ahead of use.
CERTIFICATES_CACHE = "public, max-age=%d, must-revalidate, no-transform"
CERTIFICATES_SECONDS = 19800


class InvalidIdToken(Exception):
    """No ID token that this stand-in signed and that is still good."""


@dataclass(frozen=True)
class SigningKey:
    key_id: str
    private: RSAPrivateKey
    private_pem: str
    certificate_pem: str

    @classmethod
    def make(cls) -> "SigningKey":
        private = generate_private_key(public_exponent=65537, key_size=2048)
        private_pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        certificate = _self_signed(private)
        # As Google's key ids look: forty hexadecimal digits.
        key_id = hashlib.sha1(
            certificate.public_bytes(serialization.Encoding.DER), usedforsecurity=False
        ).hexdigest()
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        return cls(key_id, private, private_pem, pem)

    @classmethod
    def from_json(cls, key_id: str, value: dict[str, str]) -> "SigningKey":
        private = serialization.load_pem_private_key(value["private"].encode(), password=None)
        if not isinstance(private, RSAPrivateKey):
            raise TypeError("the stored signing key is no RSA key")
        return cls(key_id, private, value["private"], value["certificate"])


class KeyRing:
    """The keys in use, oldest first: the last one signs, all are published."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        rows = sorted(journal.load("key"), key=lambda row: row[1]["order"])
        self.keys = [SigningKey.from_json(key_id, value) for key_id, value in rows]
        self._order = rows[-1][1]["order"] if rows else 0
        if not self.keys:
            self.rotate()

    def rotate(self, *, retire: bool = False) -> None:
        """Sign with a new key. `retire` withdraws the others: their tokens verify no more."""
        if retire:
            for old in self.keys:
                self._journal.delete("key", old.key_id)
            self.keys = []
        key = SigningKey.make()
        self.keys.append(key)
        self._order += 1
        row = {
            "private": key.private_pem,
            "certificate": key.certificate_pem,
            "order": self._order,
        }
        self._journal.put("key", key.key_id, lambda: row)
        self._journal.commit()

    def certificates(self) -> dict[str, str]:
        return {key.key_id: key.certificate_pem for key in self.keys}

    def sign(self, claims: dict[str, Any]) -> str:
        key = self.keys[-1]
        return jwt.encode(claims, key.private, algorithm="RS256", headers={"kid": key.key_id})

    def verify(self, token: str, *, audience: str) -> dict[str, Any]:
        """The token's claims. Raises InvalidIdToken."""
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = next(key for key in self.keys if key.key_id == key_id)
            return jwt.decode(
                token, key.private.public_key(), algorithms=["RS256"], audience=audience
            )
        except (jwt.InvalidTokenError, StopIteration) as error:
            raise InvalidIdToken from error


def id_token_claims(
    *,
    project_id: str,
    uid: str,
    email: str | None,
    email_verified: bool,
    name: str | None,
    provider: str,
    auth_time: int,
    lifetime: int = ID_TOKEN_SECONDS,
) -> dict[str, Any]:
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": f"https://securetoken.google.com/{project_id}",
        "aud": project_id,
        "auth_time": auth_time,
        "user_id": uid,
        "sub": uid,
        "iat": now,
        "exp": now + lifetime,
    }
    identities = {}
    if name:
        claims["name"] = name
    if email:
        claims |= {"email": email, "email_verified": email_verified}
        identities["email"] = [email]
    claims["firebase"] = {"identities": identities, "sign_in_provider": provider}
    return claims


def _self_signed(private: RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SUBJECT)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        # Google's last two weeks; ours must outlive a data folder that is rarely started.
        .not_valid_after(now + timedelta(days=3650))
        .sign(private, hashes.SHA256())
    )
