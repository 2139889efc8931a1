"""Encryption at rest for secrets that the platform has to use again (virtual keys)."""

import hashlib
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class CannotDecrypt(Exception):
    """No configured key opens this ciphertext. Restore the old key to ENCRYPTION_KEYS."""


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key.encode()) for key in keys])


def encrypt(plaintext: str) -> str:
    """Encrypt under the first of ENCRYPTION_KEYS; the answer is printable ASCII."""
    return _fernet(tuple(settings.ENCRYPTION_KEYS)).encrypt(plaintext.encode()).decode()


def decrypt(ciphertext: str) -> str:
    """Decrypt what any of ENCRYPTION_KEYS encrypted. Raises CannotDecrypt."""
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        raise CannotDecrypt("No key in ENCRYPTION_KEYS opens this value.") from None


def reencrypt(ciphertext: str) -> str:
    """The same plaintext under the first of ENCRYPTION_KEYS. Raises CannotDecrypt."""
    try:
        return _fernet(tuple(settings.ENCRYPTION_KEYS)).rotate(ciphertext.encode()).decode()
    except InvalidToken:
        raise CannotDecrypt("No key in ENCRYPTION_KEYS opens this value.") from None


def sha256_hex(secret: str) -> str:
    """How both LiteLLM and we name a key without holding it."""
    return hashlib.sha256(secret.encode()).hexdigest()
