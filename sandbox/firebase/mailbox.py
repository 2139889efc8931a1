"""Codes sent by mail: to choose a new password, to prove that an address is one's own."""

import secrets
import time
from dataclasses import asdict, dataclass
from typing import Literal

from sandbox.firebase.directory import Account, Directory
from sandbox.firebase.errors import FirebaseError
from sandbox.state import Journal

CODE_SECONDS = 3600
MAILS_KEPT = 200

CodeKind = Literal["PASSWORD_RESET", "VERIFY_EMAIL"]
MODES: dict[CodeKind, str] = {"PASSWORD_RESET": "resetPassword", "VERIFY_EMAIL": "verifyEmail"}
SUBJECTS: dict[CodeKind, str] = {
    "PASSWORD_RESET": "Reset your password",
    "VERIFY_EMAIL": "Verify your e-mail address",
}


@dataclass
class Mail:
    """A mail with its code. The code works once, for an hour, and only for the same address."""

    at: float
    kind: CodeKind
    uid: str
    to: str
    subject: str
    link: str
    code: str
    used: bool = False


class Mailbox:
    def __init__(self, journal: Journal, directory: Directory) -> None:
        self._journal = journal
        self._directory = directory
        loaded = (Mail(**value) for _, value in journal.load("mail"))
        self._mails = {mail.code: mail for mail in sorted(loaded, key=lambda mail: mail.at)}

    def clear(self) -> None:
        for code in self._mails:
            self._journal.delete("mail", code)
        self._journal.commit()
        self._mails = {}

    def send(self, account: Account, kind: CodeKind, *, link_base: str, api_key: str) -> Mail:
        if account.email is None:
            raise FirebaseError("MISSING_EMAIL")
        code = secrets.token_urlsafe(32)
        link = f"{link_base}?mode={MODES[kind]}&oobCode={code}&apiKey={api_key}&lang=en"
        mail = Mail(time.time(), kind, account.uid, account.email, SUBJECTS[kind], link, code)
        self._mails[code] = mail
        while len(self._mails) > MAILS_KEPT:
            oldest = next(iter(self._mails))
            del self._mails[oldest]
            self._journal.delete("mail", oldest)
        self._keep(mail)
        return mail

    def newest_first(self) -> list[Mail]:
        return list(self._mails.values())[::-1]

    def open(self, code: str, kind: CodeKind | None = None) -> tuple[Mail, Account]:
        """Raises FirebaseError: INVALID_OOB_CODE, EXPIRED_OOB_CODE, USER_DISABLED."""
        mail = self._mails.get(code)
        if mail is None or mail.used or (kind is not None and mail.kind != kind):
            raise FirebaseError("INVALID_OOB_CODE")
        if mail.at + CODE_SECONDS < time.time():
            raise FirebaseError("EXPIRED_OOB_CODE")
        account = self._directory.find(mail.uid)
        if account.email != mail.to:
            raise FirebaseError("INVALID_OOB_CODE")
        if account.disabled:
            raise FirebaseError("USER_DISABLED")
        return mail, account

    def use(self, mail: Mail) -> None:
        mail.used = True
        self._keep(mail)

    def _keep(self, mail: Mail) -> None:
        self._journal.put("mail", mail.code, lambda: asdict(mail))
        self._journal.commit()
