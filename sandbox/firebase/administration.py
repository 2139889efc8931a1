"""What an administrator of the project may do: a service account's token, and deleting a user.

As at Google, the account proves itself with a signed assertion and gets an access token
(https://developers.google.com/identity/protocols/oauth2/service-account). The stand-in gives one
to any assertion of the right kind: it looks at what is claimed, not at who signed it.
"""

import json
import secrets
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.firebase.directory import Directory
from sandbox.firebase.errors import FirebaseError, GatewayRefusal

TOKEN_PATH = "/token"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
SCOPE = "https://www.googleapis.com/auth/identitytoolkit"
TOKEN_SECONDS = 3600


def write_service_account(path: Path, *, project_id: str, url: str) -> None:
    """The file as Google's console gives it out, with a key of its own, for the stand-in at
    ``url``. One that is there stays, but for where it leads."""
    found = json.loads(path.read_text()) if path.exists() else {}
    account = {
        "type": "service_account",
        "project_id": project_id,
        "private_key_id": "stand-in",
        "private_key": found.get("private_key") or _private_key(),
        "client_email": f"eraser@{project_id}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": url + TOKEN_PATH,
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(account, indent=2))


def _private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


class Administration:
    """Tokens are forgotten when the stand-in ends; clients then get a 401 and ask for another."""

    def __init__(self, project_id: str, directory: Directory) -> None:
        self.delete_path = f"/v1/projects/{project_id}/accounts:delete"
        self._directory = directory
        self._tokens: set[str] = set()

    def token(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body.get("grant_type") != GRANT:
            return 400, {"error": "unsupported_grant_type"}
        try:
            claims = jwt.decode(str(body.get("assertion", "")), options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}
        if SCOPE not in str(claims.get("scope", "")).split():
            return 400, {"error": "invalid_scope"}
        token = f"ya29.{secrets.token_urlsafe(32)}"
        self._tokens.add(token)
        return 200, {"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"}

    def delete(self, authorization: str, body: dict[str, Any]) -> dict[str, Any]:
        if authorization.removeprefix("Bearer ") not in self._tokens:
            raise GatewayRefusal(
                401,
                "UNAUTHENTICATED",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, "
                "login cookie or other valid authentication credential.",
            )
        uid = body.get("localId")
        if not isinstance(uid, str) or not uid:
            raise FirebaseError("MISSING_LOCAL_ID")
        self._directory.delete(self._directory.find(uid))
        return {"kind": "identitytoolkit#DeleteAccountResponse"}
