"""Password hashes: salted scrypt, cheap enough for a stand-in that signs up thousands."""

import base64
import hashlib
import hmac
import secrets

COST, BLOCK, PARALLEL = 2**11, 8, 1


def hashed(password: str) -> str:
    salt = secrets.token_bytes(16)
    return f"{_text(salt)}${_text(_derive(password, salt))}"


def matches(password: str, stored: str) -> bool:
    salt, _, expected = stored.partition("$")
    derived = _derive(password, base64.b64decode(salt))
    return hmac.compare_digest(derived, base64.b64decode(expected))


def _derive(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=PARALLEL)


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
