"""What the Identity Toolkit and the token service do, as functions of one JSON body."""

import time
from collections.abc import Mapping
from typing import Any

from sandbox.firebase.directory import Account, Directory, as_user_info, provider_info
from sandbox.firebase.errors import FirebaseError, token_refused
from sandbox.firebase.mailbox import CodeKind, Mailbox
from sandbox.firebase.signing import ID_TOKEN_SECONDS, InvalidIdToken, KeyRing, id_token_claims

Body = Mapping[str, Any]
Answer = dict[str, Any]

KIND = "identitytoolkit#"


class IdentityService:
    """Each public method answers one call, or raises FirebaseError."""

    def __init__(
        self,
        *,
        project_id: str,
        api_key: str,
        keys: KeyRing,
        directory: Directory,
        mailbox: Mailbox,
        action_url: str,
    ) -> None:
        self.project_id = project_id
        self.api_key = api_key
        self.keys = keys
        self.directory = directory
        self.mailbox = mailbox
        self.action_url = action_url

    def sign_up(self, body: Body) -> Answer:
        email, password = text(body, "email"), text(body, "password")
        if not email and not password:
            # Anonymous sign-up, which is off unless a project switches it on.
            raise FirebaseError("ADMIN_ONLY_OPERATION")
        account = self.directory.create(
            email=required(body, "email", "MISSING_EMAIL"),
            password=required(body, "password", "MISSING_PASSWORD"),
            display_name=text(body, "displayName"),
        )
        return {
            "kind": f"{KIND}SignupNewUserResponse",
            "localId": account.uid,
            "email": account.email,
            **({"displayName": account.display_name} if account.display_name else {}),
            **self.tokens(account),
        }

    def sign_in_with_password(self, body: Body) -> Answer:
        email = required(body, "email", "MISSING_EMAIL")
        if "@" not in email:
            raise FirebaseError("INVALID_EMAIL")
        password = required(body, "password", "MISSING_PASSWORD")
        account = self.directory.check_password(email, password)
        return {
            "kind": f"{KIND}VerifyPasswordResponse",
            "localId": account.uid,
            "email": account.email,
            "displayName": account.display_name or "",
            "registered": True,
            **self.tokens(account),
        }

    def lookup(self, body: Body) -> Answer:
        account = self._bearer(body)
        return {"kind": f"{KIND}GetAccountInfoResponse", "users": [as_user_info(account)]}

    def update(self, body: Body) -> Answer:
        code = text(body, "oobCode")
        if code:
            return self._verify_email(code)
        account = self._bearer(body)
        erased = body.get("deleteAttribute") or []
        password = text(body, "password")
        self.directory.update(
            account,
            email=text(body, "email"),
            password=password,
            display_name="" if "DISPLAY_NAME" in erased else text(body, "displayName"),
            photo_url="" if "PHOTO_URL" in erased else text(body, "photoUrl"),
        )
        return {
            "kind": f"{KIND}SetAccountInfoResponse",
            "localId": account.uid,
            "email": account.email,
            "displayName": account.display_name or "",
            "emailVerified": account.email_verified,
            "providerUserInfo": provider_info(account),
            **(self.tokens(account) if body.get("returnSecureToken") else {}),
        }

    def delete(self, body: Body) -> Answer:
        self.directory.delete(self._bearer(body))
        return {"kind": f"{KIND}DeleteAccountResponse"}

    def send_oob_code(self, body: Body) -> Answer:
        request = required(body, "requestType", "MISSING_REQ_TYPE")
        account: Account | None
        kind: CodeKind
        if request == "PASSWORD_RESET":
            kind = "PASSWORD_RESET"
            email = required(body, "email", "MISSING_EMAIL")
            # For an unknown address the answer is the same, and no mail goes out.
            account = self.directory.find_by_email(email)
        elif request == "VERIFY_EMAIL":
            kind = "VERIFY_EMAIL"
            account = self._bearer(body)
            email = account.email or ""
        else:
            raise FirebaseError("INVALID_REQ_TYPE")
        if account is not None:
            self.mailbox.send(account, kind, link_base=self.action_url, api_key=self.api_key)
        return {"kind": f"{KIND}GetOobConfirmationCodeResponse", "email": email}

    def reset_password(self, body: Body) -> Answer:
        """Without a new password: only look at the code, as the page does that asks for one."""
        code = required(body, "oobCode", "MISSING_OOB_CODE")
        password = text(body, "newPassword")
        mail, account = self.mailbox.open(code, "PASSWORD_RESET" if password else None)
        if password:
            # Whoever has the code reads the address's mail.
            self.directory.update(account, password=password, email_verified=True)
            self.mailbox.use(mail)
        return {
            "kind": f"{KIND}ResetPasswordResponse",
            "email": mail.to,
            "requestType": mail.kind,
        }

    def refresh(self, body: Body) -> Answer:
        if not text(body, "grant_type"):
            raise token_refused("MISSING_GRANT_TYPE")
        if body["grant_type"] != "refresh_token":
            raise token_refused("INVALID_GRANT_TYPE")
        value = text(body, "refresh_token")
        if not value:
            raise token_refused("MISSING_REFRESH_TOKEN")
        try:
            account, auth_time = self.directory.redeem_refresh_token(value)
        except FirebaseError as error:
            raise token_refused(error.message) from None
        id_token = self.id_token(account, auth_time=auth_time)
        return {
            "access_token": id_token,
            "expires_in": str(ID_TOKEN_SECONDS),
            "token_type": "Bearer",
            "refresh_token": value,
            "id_token": id_token,
            "user_id": account.uid,
            "project_id": self.project_id,
        }

    def tokens(self, account: Account) -> Answer:
        """Sign the account in."""
        now = int(time.time())
        self.directory.note_login(account)
        return {
            "idToken": self.id_token(account, auth_time=now),
            "refreshToken": self.directory.give_refresh_token(account, now),
            "expiresIn": str(ID_TOKEN_SECONDS),
        }

    def id_token(
        self, account: Account, *, auth_time: int, lifetime: int = ID_TOKEN_SECONDS
    ) -> str:
        return self.keys.sign(
            id_token_claims(
                project_id=self.project_id,
                uid=account.uid,
                email=account.email,
                email_verified=account.email_verified,
                name=account.display_name,
                provider=account.provider,
                auth_time=auth_time,
                lifetime=lifetime,
            )
        )

    def _verify_email(self, code: str) -> Answer:
        mail, account = self.mailbox.open(code, "VERIFY_EMAIL")
        self.directory.update(account, email_verified=True)
        self.mailbox.use(mail)
        return {
            "kind": f"{KIND}SetAccountInfoResponse",
            "localId": account.uid,
            "email": account.email,
            "emailVerified": True,
            "providerUserInfo": provider_info(account),
        }

    def _bearer(self, body: Body) -> Account:
        """Whose ID token came with the call."""
        token = required(body, "idToken", "MISSING_ID_TOKEN")
        try:
            claims = self.keys.verify(token, audience=self.project_id)
        except InvalidIdToken:
            raise FirebaseError("INVALID_ID_TOKEN") from None
        account = self.directory.find(claims["sub"])
        if account.disabled:
            raise FirebaseError("USER_DISABLED")
        if claims["auth_time"] < account.valid_since:
            raise FirebaseError("TOKEN_EXPIRED")
        return account


def text(body: Body, name: str) -> str | None:
    """A string from the body; Google's front refuses other types before the service sees them."""
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value
    raise FirebaseError(f"Invalid value at '{name}' (TYPE_STRING), {value}")


def required(body: Body, name: str, refusal: str) -> str:
    value = text(body, name)
    if not value:
        raise FirebaseError(refusal)
    return value
