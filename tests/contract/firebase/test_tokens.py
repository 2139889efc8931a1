"""ID tokens, the certificates that verify them, and refreshing."""

import time
from typing import Any

import firebase_admin
import google.auth.credentials
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from firebase_admin import auth

from tests.contract.firebase.conftest import PASSWORD, refusal

pytestmark = pytest.mark.contract


@pytest.fixture
def certificates(firebase) -> dict[str, str]:
    if firebase.kind == "emulator":
        pytest.skip("the emulator signs nothing")
    published: dict[str, str] = firebase.http.get(firebase.certificates_url).json()
    return published


def claims_of(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


class TestIdToken:
    def test_says_who_for_whom_since_when_and_until_when(self, firebase):
        person = firebase.person()
        claims = claims_of(person["idToken"])
        assert claims["iss"] == f"https://securetoken.google.com/{firebase.project_id}"
        assert claims["aud"] == firebase.project_id
        assert claims["sub"] == claims["user_id"] == person["localId"]
        assert claims["exp"] - claims["iat"] == 3600
        assert abs(claims["iat"] - time.time()) < 60
        assert abs(claims["auth_time"] - time.time()) < 60
        assert claims["email"] == person["email"]
        assert claims["email_verified"] is False
        assert claims["firebase"]["sign_in_provider"] == "password"
        assert claims["firebase"]["identities"] == {"email": [person["email"]]}

    def test_carries_the_name_once_there_is_one(self, firebase):
        person = firebase.person()
        assert "name" not in claims_of(person["idToken"])
        firebase.call("update", idToken=person["idToken"], displayName="Ada")
        again = firebase.refresh(person["refreshToken"]).json()
        assert claims_of(again["id_token"])["name"] == "Ada"

    def test_is_signed_with_a_published_key(self, firebase, certificates):
        token = firebase.person()["idToken"]
        header = jwt.get_unverified_header(token)
        assert header["alg"] == "RS256"
        pem = certificates[header["kid"]]
        public = x509.load_pem_x509_certificate(pem.encode()).public_key()
        assert isinstance(public, RSAPublicKey)
        claims = jwt.decode(token, public, algorithms=["RS256"], audience=firebase.project_id)
        assert claims["sub"]

    def test_certificates_say_how_long_they_may_be_kept(self, firebase, certificates):
        answer = firebase.http.get(firebase.certificates_url)
        assert "max-age=" in answer.headers["cache-control"]
        assert answer.headers["content-type"].startswith("application/json")
        assert all(len(key_id) == 40 for key_id in certificates)

    def test_the_official_library_accepts_it(self, firebase, certificates, monkeypatch):
        monkeypatch.setattr(
            "firebase_admin._token_gen.ID_TOKEN_CERT_URI", firebase.certificates_url
        )
        app = firebase_admin.initialize_app(
            Anonymous(), {"projectId": firebase.project_id}, name="contract"
        )
        try:
            person = firebase.person()
            assert auth.verify_id_token(person["idToken"], app)["uid"] == person["localId"]
        finally:
            firebase_admin.delete_app(app)


class Anonymous(firebase_admin.credentials.Base):  # type: ignore[misc]
    """Verification needs no credential, only an object in its place."""

    def get_credential(self):
        return google.auth.credentials.AnonymousCredentials()


class TestRefresh:
    def test_gives_a_new_id_token_of_the_same_sign_in(self, firebase):
        person = firebase.person()
        answer = firebase.refresh(person["refreshToken"])
        assert answer.status_code == 200
        body = answer.json()
        assert body["user_id"] == person["localId"]
        assert body["token_type"] == "Bearer"
        assert body["expires_in"] == "3600"
        assert body["access_token"] == body["id_token"]
        before, after = claims_of(person["idToken"]), claims_of(body["id_token"])
        assert after["sub"] == before["sub"]
        assert after["auth_time"] == before["auth_time"]
        assert firebase.refresh(body["refresh_token"]).status_code == 200

    def test_a_made_up_token_is_refused(self, firebase):
        answer = firebase.refresh("made-up")
        assert answer.status_code == 400
        assert refusal(answer) == "INVALID_REFRESH_TOKEN"

    def test_another_grant_is_refused(self, firebase):
        answer = firebase.refresh(firebase.person()["refreshToken"], grant="password")
        assert answer.status_code == 400
        assert refusal(answer) == "INVALID_GRANT_TYPE"

    def test_of_a_deleted_account_ends(self, firebase):
        person = firebase.person()
        firebase.call("delete", idToken=person["idToken"])
        answer = firebase.refresh(person["refreshToken"])
        assert answer.status_code == 400
        assert refusal(answer) in {"USER_NOT_FOUND", "INVALID_REFRESH_TOKEN"}

    def test_ends_with_a_new_password(self, firebase):
        person = firebase.person()
        time.sleep(1.1)  # revocation counts in whole seconds
        changed = firebase.call(
            "update", idToken=person["idToken"], password="battery staple", returnSecureToken=True
        ).json()
        firebase.made.append(changed["idToken"])
        if firebase.kind != "emulator":  # which lets old refresh tokens live on
            assert refusal(firebase.refresh(person["refreshToken"])) == "TOKEN_EXPIRED"
        assert refusal(firebase.call("lookup", idToken=person["idToken"])) == "TOKEN_EXPIRED"
        assert firebase.refresh(changed["refreshToken"]).status_code == 200

    def test_signing_in_again_does_not_end_it(self, firebase):
        person = firebase.person()
        firebase.call("signInWithPassword", email=person["email"], password=PASSWORD)
        assert firebase.refresh(person["refreshToken"]).status_code == 200
