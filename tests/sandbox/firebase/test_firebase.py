"""What only the stand-in has: memory, controls, faults, pages."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jwt
import pytest

from accounts.certificates import Certificates
from accounts.errors import TokenExpired
from accounts.firebase import Verifier
from sandbox import serving
from sandbox.firebase.app import CERTIFICATES_PATH, create_app
from tesslate.lib.errors import InvalidToken

KEY = "test-api-key"
PROJECT = "demo-tesslate"
PERSON = {"email": "ada@example.com", "password": "correct horse", "uid": "ada"}


class Client:
    def __init__(self, base: str) -> None:
        self.base = base
        self.http = httpx.Client(
            base_url=base, headers={"Authorization": f"Bearer {KEY}"}, timeout=10
        )

    def control(self, method: str, path: str, **body) -> httpx.Response:
        return self.http.request(method, f"/sandbox/{path}", json=body)

    def call(self, action: str, **body) -> httpx.Response:
        return self.http.post(f"/v1/accounts:{action}", params={"key": KEY}, json=body)

    def sign_in(self) -> httpx.Response:
        return self.call("signInWithPassword", email=PERSON["email"], password=PERSON["password"])

    def refresh(self, token: str) -> httpx.Response:
        return self.http.post(
            "/v1/token",
            params={"key": KEY},
            data={"grant_type": "refresh_token", "refresh_token": token},
        )

    def tokens(self, **options) -> dict[str, str]:
        tokens: dict[str, str] = self.control("POST", "users/ada/tokens", **options).json()
        return tokens


@contextmanager
def running(data: Path | None = None, **options) -> Iterator[Client]:
    app = create_app(project_id=PROJECT, api_key=KEY, data=data, **options)
    with serving.served(app) as base:
        client = Client(base)
        with client.http:
            yield client


def reason(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["message"])


@pytest.fixture(scope="module")
def server() -> Iterator[Client]:
    with running() as client:
        yield client


@pytest.fixture
def firebase(server: Client) -> Client:
    """A stand-in that knows one person."""
    server.control("POST", "reset")
    server.control("POST", "users", **PERSON)
    return server


def verifier(base: str) -> Verifier:
    """The product's own."""
    return Verifier(PROJECT, Certificates(base + CERTIFICATES_PATH))


class TestProduct:
    def test_verifies_its_tokens_as_it_verifies_googles(self, firebase):
        identity = verifier(firebase.base).verify(firebase.sign_in().json()["idToken"])
        assert (identity.uid, identity.email) == ("ada", "ada@example.com")

    def test_refuses_an_expired_one(self, firebase):
        token = firebase.tokens(lifetime=-60)["idToken"]
        with pytest.raises(TokenExpired):
            verifier(firebase.base).verify(token)

    def test_goes_on_after_the_signing_key_was_rotated(self, firebase):
        ours = verifier(firebase.base)
        before = firebase.tokens()["idToken"]
        ours.verify(before)
        firebase.control("POST", "keys/rotate")
        after = firebase.tokens()["idToken"]
        assert jwt.get_unverified_header(after)["kid"] != jwt.get_unverified_header(before)["kid"]
        fresh = verifier(firebase.base)
        assert fresh.verify(before).uid == fresh.verify(after).uid == "ada"

    def test_refuses_what_a_withdrawn_key_has_signed(self, firebase):
        before = firebase.tokens()["idToken"]
        firebase.control("POST", "keys/rotate", retire=True)
        with pytest.raises(InvalidToken):
            verifier(firebase.base).verify(before)


class TestRestart:
    def test_everything_is_still_there(self, tmp_path):
        with running(tmp_path) as first:
            first.control("POST", "users", **PERSON)
            tokens = first.sign_in().json()
            first.call("sendOobCode", requestType="PASSWORD_RESET", email=PERSON["email"])
        with running(tmp_path) as again:
            assert verifier(again.base).verify(tokens["idToken"]).uid == "ada"
            assert again.refresh(tokens["refreshToken"]).status_code == 200
            assert again.sign_in().status_code == 200
            (mail,) = again.control("GET", "mails").json()["mails"]
            done = again.call("resetPassword", oobCode=mail["code"], newPassword="new password")
            assert done.status_code == 200

    def test_passwords_are_kept_as_hashes(self, tmp_path):
        with running(tmp_path) as client:
            client.control("POST", "users", **PERSON)
        written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert b"ada@example.com" in written
        assert PERSON["password"].encode() not in written


class TestUsers:
    def test_making_one_takes_what_signing_up_takes_and_more(self, firebase):
        made = firebase.control(
            "POST", "users", email="Bob@Example.com", password="long enough", displayName="Bob"
        )
        assert made.status_code == 201
        assert made.json()["email"] == "bob@example.com"
        (found,) = firebase.http.get("/sandbox/users?email=BOB@example.com").json()["users"]
        assert found["displayName"] == "Bob"

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({}, "DUPLICATE_LOCAL_ID"),
            ({"uid": "other"}, "EMAIL_EXISTS"),
            ({"uid": "other", "email": "o@example.com", "password": "five5"}, "WEAK_PASSWORD"),
        ],
    )
    def test_a_refused_one_leaves_nothing_behind(self, firebase, change, expected):
        answer = firebase.control("POST", "users", **PERSON | change)
        assert answer.status_code == 400
        assert reason(answer).startswith(expected)
        assert len(firebase.http.get("/sandbox/users").json()["users"]) == 1
        good = PERSON | {"uid": "other", "email": "o@example.com"}
        assert firebase.control("POST", "users", **good).status_code == 201

    def test_a_disabled_one_is_shut_out_and_comes_back(self, firebase):
        tokens = firebase.sign_in().json()
        firebase.control("PATCH", "users/ada", disabled=True)
        assert reason(firebase.sign_in()) == "USER_DISABLED"
        assert reason(firebase.refresh(tokens["refreshToken"])) == "USER_DISABLED"
        assert reason(firebase.call("lookup", idToken=tokens["idToken"])) == "USER_DISABLED"
        firebase.control("PATCH", "users/ada", disabled=False)
        assert firebase.sign_in().status_code == 200

    def test_revoking_ends_refresh_tokens_but_not_the_account(self, firebase):
        tokens = firebase.sign_in().json()
        firebase.control("POST", "users/ada/revoke")
        assert reason(firebase.refresh(tokens["refreshToken"])) == "TOKEN_EXPIRED"
        assert firebase.refresh(firebase.sign_in().json()["refreshToken"]).status_code == 200

    def test_revoking_ends_id_tokens_of_earlier_sign_ins(self, firebase):
        early = firebase.tokens(authTime=int(time.time()) - 10)["idToken"]
        assert firebase.call("lookup", idToken=early).status_code == 200
        firebase.control("POST", "users/ada/revoke")
        assert reason(firebase.call("lookup", idToken=early)) == "TOKEN_EXPIRED"

    def test_an_unknown_one_is_said_to_be_unknown(self, firebase):
        assert reason(firebase.control("PATCH", "users/nobody", disabled=True)) == "USER_NOT_FOUND"

    def test_the_controls_want_the_key(self, firebase):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = httpx.post(f"{firebase.base}/sandbox/users", json=PERSON, headers=headers)
            assert answer.status_code == 403


class TestFaults:
    def test_an_outage_can_be_switched_on_and_off(self, firebase):
        firebase.control("POST", "faults", route="POST /v1/accounts:*", kind="status", status=503)
        assert firebase.sign_in().status_code == 503
        assert firebase.sign_in().headers["access-control-allow-origin"] == "*"
        firebase.control("DELETE", "faults")
        assert firebase.sign_in().status_code == 200

    def test_reset_forgets_the_people_but_keeps_the_keys(self, firebase):
        token = firebase.tokens()["idToken"]
        firebase.control("POST", "reset")
        assert firebase.http.get("/sandbox/users").json() == {"users": []}
        assert verifier(firebase.base).verify(token).uid == "ada"


class TestPages:
    def link(self, firebase) -> str:
        (mail,) = firebase.control("GET", "mails").json()["mails"]
        return str(mail["link"])

    def test_front_page_shows_people_and_mails_and_escapes_them(self, firebase):
        firebase.control("PATCH", "users/ada", displayName="<script>alert(1)</script>")
        firebase.call("sendOobCode", requestType="PASSWORD_RESET", email=PERSON["email"])
        page = firebase.http.get("/").text
        assert "Reset your password" in page
        assert "&lt;script&gt;" in page
        assert "<script>" not in page

    def test_the_mailed_link_leads_to_a_page_that_resets_the_password(self, firebase):
        firebase.call("sendOobCode", requestType="PASSWORD_RESET", email=PERSON["email"])
        link = self.link(firebase)
        assert "ada@example.com" in firebase.http.get(link).text
        firebase.http.post(link, data={"newPassword": "battery staple"})
        assert reason(firebase.sign_in()) == "INVALID_LOGIN_CREDENTIALS"
        assert "INVALID_OOB_CODE" in firebase.http.get(link).text

    def test_the_mailed_link_verifies_an_address(self, firebase):
        token = firebase.tokens()["idToken"]
        firebase.call("sendOobCode", requestType="VERIFY_EMAIL", idToken=token)
        firebase.http.get(self.link(firebase))
        (user,) = firebase.http.get("/sandbox/users").json()["users"]
        assert user["emailVerified"] is True

    def test_the_product_may_have_the_page(self):
        with running(action_url="http://127.0.0.1:8000/reset-password") as client:
            client.control("POST", "users", **PERSON)
            client.call("sendOobCode", requestType="PASSWORD_RESET", email=PERSON["email"])
            pattern = r"http://127\.0\.0\.1:8000/reset-password\?mode=resetPassword&oobCode=\S+"
            assert re.match(pattern, self.link(client))


class TestOddRequests:
    @pytest.mark.parametrize("content", [b"{", b"[]", b"null", b"\xff", b'"text"'])
    def test_a_body_that_is_no_object_is_a_bad_request(self, firebase, content):
        answer = firebase.http.post(
            "/v1/accounts:signUp",
            params={"key": KEY},
            content=content,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 400
        assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"

    @pytest.mark.parametrize("email", [1, [], {}, True])
    def test_a_field_of_the_wrong_type_is_a_bad_request(self, firebase, email):
        answer = firebase.call("signUp", email=email, password="long enough")
        assert answer.status_code == 400

    def test_unknown_paths_are_not_found(self, firebase):
        for path in ("/v1/accounts:explode", "/v2/nothing", "/sandbox/nothing"):
            assert firebase.http.post(path, params={"key": KEY}, json={}).status_code == 404
        assert firebase.http.get("/v1/token", params={"key": KEY}).status_code == 404

    def test_both_ways_to_write_the_path_are_one(self, firebase):
        answer = firebase.http.post(
            "/identitytoolkit.googleapis.com/v1/accounts:signInWithPassword",
            headers={"X-Goog-Api-Key": KEY},
            json={"email": PERSON["email"], "password": PERSON["password"]},
        )
        assert answer.status_code == 200
