"""What the Firebase contract is held against.

The stand-in, unless FIREBASE_CONTRACT_URL names something real: the base address of a Firebase
emulator (http://127.0.0.1:9099), or https://identitytoolkit.googleapis.com together with
FIREBASE_CONTRACT_API_KEY and FIREBASE_CONTRACT_PROJECT_ID. Accounts made on the way are deleted.
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from sandbox import serving
from sandbox.firebase.app import CERTIFICATES_PATH, create_app

GOOGLE = "https://identitytoolkit.googleapis.com"
PASSWORD = "correct horse"


@dataclass
class Target:
    kind: str  # "stand-in", "emulator", "google"
    accounts_url: str
    token_url: str
    certificates_url: str
    api_key: str
    project_id: str
    base: str
    http: httpx.Client
    made: list[str] = field(default_factory=list)

    def call(self, action: str, key: str | None = None, **body: Any) -> httpx.Response:
        return self.http.post(
            f"{self.accounts_url}/v1/accounts:{action}",
            params={"key": self.api_key if key is None else key},
            json=body,
        )

    def refresh(self, token: str, grant: str = "refresh_token") -> httpx.Response:
        return self.http.post(
            f"{self.token_url}/v1/token",
            params={"key": self.api_key},
            data={"grant_type": grant, "refresh_token": token},
        )

    def person(self) -> dict[str, Any]:
        """Sign up somebody new, with PASSWORD."""
        answer = self.call("signUp", email=new_email(), password=PASSWORD, returnSecureToken=True)
        assert answer.status_code == 200, answer.text
        person: dict[str, Any] = answer.json()
        self.made.append(person["idToken"])
        return person

    def codes(self, email: str) -> list[str]:
        """The codes mailed to this address, oldest first."""
        if self.kind == "stand-in":
            answer = self.http.get(
                f"{self.base}/sandbox/mails", headers={"Authorization": f"Bearer {self.api_key}"}
            )
            mails = answer.json()["mails"][::-1]
            return [mail["code"] for mail in mails if mail["to"] == email]
        if self.kind == "emulator":
            answer = self.http.get(f"{self.base}/emulator/v1/projects/{self.project_id}/oobCodes")
            return [c["oobCode"] for c in answer.json()["oobCodes"] if c["email"] == email]
        pytest.skip("Google's mails cannot be read from here")


def new_email() -> str:
    return f"contract-{secrets.token_hex(8)}@example.com"


def refusal(answer: httpx.Response) -> str:
    """Google's word for why not, from the error envelope."""
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    return str(error["message"])


@pytest.fixture(scope="session")
def where() -> Iterator[dict[str, str]]:
    """Kind, base address, API key and project of what is tested."""
    key = os.environ.get("FIREBASE_CONTRACT_API_KEY", "contract-api-key")
    project = os.environ.get("FIREBASE_CONTRACT_PROJECT_ID", "demo-tesslate")
    real = os.environ.get("FIREBASE_CONTRACT_URL", "").rstrip("/")
    if real:
        kind = "google" if real == GOOGLE else "emulator"
        yield {"kind": kind, "base": real, "api_key": key, "project_id": project}
        return
    with serving.served(create_app(project_id=project, api_key=key)) as base:
        yield {"kind": "stand-in", "base": base, "api_key": key, "project_id": project}


@pytest.fixture
def firebase(where) -> Iterator[Target]:
    base = where["base"]
    urls = (
        (GOOGLE, "https://securetoken.googleapis.com", "https://www.googleapis.com")
        if where["kind"] == "google"
        else (f"{base}/identitytoolkit.googleapis.com", f"{base}/securetoken.googleapis.com", base)
    )
    with httpx.Client(timeout=20) as http:
        target = Target(
            **where,
            accounts_url=urls[0],
            token_url=urls[1],
            certificates_url=urls[2] + CERTIFICATES_PATH,
            http=http,
        )
        if target.kind == "emulator":
            # Google's default for new projects: do not tell which addresses have accounts.
            http.patch(
                f"{base}/identitytoolkit.googleapis.com/v2/projects/{target.project_id}/config",
                params={"updateMask": "emailPrivacyConfig"},
                json={"emailPrivacyConfig": {"enableImprovedEmailPrivacy": True}},
                headers={"Authorization": "Bearer owner"},
            ).raise_for_status()
        yield target
        for token in target.made:
            target.call("delete", idToken=token)
