"""The accounts, and the refresh tokens given out on their behalf."""

import hashlib
import re
import secrets
import string
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sandbox.firebase import passwords
from sandbox.firebase.errors import FirebaseError
from sandbox.state import Journal

UID_ALPHABET = string.ascii_letters + string.digits
UID_LENGTH = 28
LONGEST_UID = 128
LONGEST_EMAIL = 256
SHORTEST_PASSWORD = 6
LONGEST_PASSWORD = 4096
EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


@dataclass
class Account:
    """One user. Times are whole seconds since the epoch."""

    uid: str
    created_at: int
    email: str | None = None
    password_hash: str | None = None
    display_name: str | None = None
    photo_url: str | None = None
    email_verified: bool = False
    disabled: bool = False
    password_updated_at: int = 0
    last_login_at: int = 0
    # Tokens from sign-ins before this moment count no more.
    valid_since: int = 0

    @property
    def provider(self) -> str:
        return "password" if self.password_hash else "custom"


@dataclass
class RefreshToken:
    uid: str
    auth_time: int
    # Finer than auth_time, so that a revocation within the same second ends it too.
    issued_at: float


class Directory:
    """Everything the stand-in knows about users. Raises FirebaseError with Google's words."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._load()

    def _load(self) -> None:
        load = self._journal.load
        self._accounts = {uid: Account(**value) for uid, value in load("account")}
        self._by_email = {a.email: a for a in self._accounts.values() if a.email}
        self._refresh = {digest: RefreshToken(**value) for digest, value in load("refresh")}
        self._revoked = {uid: value["at"] for uid, value in load("revoked")}

    def clear(self) -> None:
        for kind in ("account", "refresh", "revoked"):
            for row_id, _ in list(self._journal.load(kind)):
                self._journal.delete(kind, row_id)
        self._journal.commit()
        self._load()

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def find(self, uid: str) -> Account:
        try:
            return self._accounts[uid]
        except KeyError:
            raise FirebaseError("USER_NOT_FOUND") from None

    def find_by_email(self, email: str) -> Account | None:
        return self._by_email.get(normal_email(email))

    def create(
        self,
        *,
        email: str | None = None,
        password: str | None = None,
        uid: str | None = None,
        display_name: str | None = None,
        email_verified: bool = False,
    ) -> Account:
        if uid is not None and not 1 <= len(uid) <= LONGEST_UID:
            raise FirebaseError("INVALID_LOCAL_ID")
        if uid in self._accounts:
            raise FirebaseError("DUPLICATE_LOCAL_ID")
        account = Account(uid or new_uid(), int(time.time()), display_name=display_name)
        self._set_credentials(account, email, password)
        account.email_verified = email_verified
        self._keep(account)
        return account

    def update(
        self,
        account: Account,
        *,
        email: str | None = None,
        password: str | None = None,
        display_name: str | None = None,
        photo_url: str | None = None,
        email_verified: bool | None = None,
        disabled: bool | None = None,
    ) -> None:
        if email is not None and normal_email(email) == account.email:
            email = None
        self._set_credentials(account, email, password)
        if email is not None:
            account.email_verified = False
        if password is not None:
            self.revoke(account)
        if display_name is not None:
            account.display_name = display_name or None
        if photo_url is not None:
            account.photo_url = photo_url or None
        if email_verified is not None:
            account.email_verified = email_verified
        if disabled is not None:
            account.disabled = disabled
        self._keep(account)

    def delete(self, account: Account) -> None:
        del self._accounts[account.uid]
        if account.email:
            del self._by_email[account.email]
        self._journal.delete("account", account.uid)
        self._journal.commit()

    def check_password(self, email: str, password: str) -> Account:
        """One refusal for an unknown address and a wrong password: Google tells neither."""
        account = self.find_by_email(email)
        if account is None or account.password_hash is None:
            raise FirebaseError("INVALID_LOGIN_CREDENTIALS")
        if not passwords.matches(password, account.password_hash):
            raise FirebaseError("INVALID_LOGIN_CREDENTIALS")
        if account.disabled:
            raise FirebaseError("USER_DISABLED")
        return account

    def note_login(self, account: Account) -> None:
        account.last_login_at = int(time.time())
        self._keep(account)

    def revoke(self, account: Account) -> None:
        """End the refresh tokens given so far."""
        account.valid_since = int(time.time())
        at = time.time()
        self._revoked[account.uid] = at
        self._journal.put("revoked", account.uid, lambda: {"at": at})
        self._keep(account)

    def give_refresh_token(self, account: Account, auth_time: int) -> str:
        value = secrets.token_urlsafe(48)
        token = RefreshToken(account.uid, auth_time, time.time())
        self._refresh[_digest(value)] = token
        self._journal.put("refresh", _digest(value), lambda: asdict(token))
        self._journal.commit_soon()
        return value

    def redeem_refresh_token(self, value: str) -> tuple[Account, int]:
        """The account and the moment of its sign-in."""
        token = self._refresh.get(_digest(value))
        if token is None:
            raise FirebaseError("INVALID_REFRESH_TOKEN")
        account = self._accounts.get(token.uid)
        if account is None:
            raise FirebaseError("USER_NOT_FOUND")
        if account.disabled:
            raise FirebaseError("USER_DISABLED")
        if token.issued_at <= self._revoked.get(account.uid, 0):
            raise FirebaseError("TOKEN_EXPIRED")
        return account, token.auth_time

    def _set_credentials(self, account: Account, email: str | None, password: str | None) -> None:
        """Check both before either is changed."""
        if email is not None:
            email = normal_email(email)
            if len(email) > LONGEST_EMAIL or not EMAIL.fullmatch(email):
                raise FirebaseError("INVALID_EMAIL")
        if password is not None:
            check_new_password(password)
        if email is not None:
            if email in self._by_email:
                raise FirebaseError("EMAIL_EXISTS")
            if account.email:
                del self._by_email[account.email]
            account.email = email
            self._by_email[email] = account
        if password is not None:
            account.password_hash = passwords.hashed(password)
            account.password_updated_at = int(time.time())

    def _keep(self, account: Account) -> None:
        self._accounts[account.uid] = account
        self._journal.put("account", account.uid, lambda: asdict(account))
        self._journal.commit()


def check_new_password(password: str) -> None:
    if len(password) < SHORTEST_PASSWORD:
        raise FirebaseError("WEAK_PASSWORD : Password should be at least 6 characters")
    if len(password) > LONGEST_PASSWORD:
        raise FirebaseError("PASSWORD_DOES_NOT_MEET_REQUIREMENTS : Password is too long")


def normal_email(email: str) -> str:
    return email.strip().lower()


def new_uid() -> str:
    return "".join(secrets.choice(UID_ALPHABET) for _ in range(UID_LENGTH))


def as_user_info(account: Account) -> dict[str, Any]:
    """As accounts:lookup shows an account: times as strings, absent values left out."""
    shown: dict[str, Any] = {
        "localId": account.uid,
        "email": account.email,
        "displayName": account.display_name,
        "photoUrl": account.photo_url,
        "emailVerified": account.email_verified,
        "providerUserInfo": provider_info(account),
        "validSince": str(account.valid_since or account.created_at),
        "disabled": account.disabled or None,
        "lastLoginAt": str(account.last_login_at * 1000) if account.last_login_at else None,
        "createdAt": str(account.created_at * 1000),
    }
    if account.password_hash:
        shown["passwordUpdatedAt"] = account.password_updated_at * 1000
    return {name: value for name, value in shown.items() if value is not None}


def provider_info(account: Account) -> list[dict[str, str]]:
    if account.email is None or account.password_hash is None:
        return []
    info = {
        "providerId": "password",
        "federatedId": account.email,
        "email": account.email,
        "rawId": account.email,
    }
    if account.display_name:
        info["displayName"] = account.display_name
    return [info]


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
