"""The /sandbox/ routes: what a console or the Admin SDK would do."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sandbox.firebase.directory import as_user_info
from sandbox.firebase.errors import FirebaseError
from sandbox.firebase.service import IdentityService, text
from sandbox.firebase.signing import ID_TOKEN_SECONDS

Answer = tuple[int, dict[str, Any]]


class Control:
    def __init__(self, service: IdentityService) -> None:
        self.service = service
        self.directory = service.directory

    def handle(
        self, method: str, parts: list[str], query: Mapping[str, str], body: dict[str, Any]
    ) -> Answer | None:
        """Answer; None where there is no such route. `parts` is the path after /sandbox/."""
        match method, parts:
            case "POST", ["users"]:
                return self._create(body)
            case "GET", ["users"]:
                return 200, {"users": self._list(query.get("email"))}
            case "PATCH", ["users", uid]:
                return self._change(uid, body)
            case "DELETE", ["users", uid]:
                self.directory.delete(self.directory.find(uid))
                return 200, {}
            case "POST", ["users", uid, "revoke"]:
                self.directory.revoke(self.directory.find(uid))
                return 200, as_user_info(self.directory.find(uid))
            case "POST", ["users", uid, "tokens"]:
                return self._sign_in(uid, body)
            case "POST", ["keys", "rotate"]:
                self.service.keys.rotate(retire=bool(body.get("retire")))
                return 200, {"keys": [key.key_id for key in self.service.keys.keys]}
            case "GET", ["mails"]:
                return 200, {"mails": [asdict(m) for m in self.service.mailbox.newest_first()]}
        return None

    def _create(self, body: dict[str, Any]) -> Answer:
        account = self.directory.create(
            email=text(body, "email"),
            password=text(body, "password"),
            uid=text(body, "uid"),
            display_name=text(body, "displayName"),
            email_verified=bool(body.get("emailVerified")),
        )
        return 201, as_user_info(account)

    def _list(self, email: str | None) -> list[dict[str, Any]]:
        if email is None:
            return [as_user_info(account) for account in self.directory]
        account = self.directory.find_by_email(email)
        return [] if account is None else [as_user_info(account)]

    def _change(self, uid: str, body: dict[str, Any]) -> Answer:
        account = self.directory.find(uid)
        flags: dict[str, bool | None] = {}
        for name in ("emailVerified", "disabled"):
            value = body.get(name)
            if not isinstance(value, bool | None):
                raise FirebaseError(f"{name}: true or false is needed")
            flags[name] = value
        self.directory.update(
            account,
            email=text(body, "email"),
            password=text(body, "password"),
            display_name=text(body, "displayName"),
            email_verified=flags["emailVerified"],
            disabled=flags["disabled"],
        )
        return 200, as_user_info(account)

    def _sign_in(self, uid: str, body: dict[str, Any]) -> Answer:
        """Tokens without a password, also such as expired long ago."""
        account = self.directory.find(uid)
        auth_time = int(body.get("authTime") or time.time())
        token = self.service.id_token(
            account, auth_time=auth_time, lifetime=int(body.get("lifetime", ID_TOKEN_SECONDS))
        )
        refresh = self.directory.give_refresh_token(account, auth_time)
        return 200, {"localId": uid, "idToken": token, "refreshToken": refresh}
