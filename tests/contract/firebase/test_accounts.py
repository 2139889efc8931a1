"""Signing up, signing in, and what an account's owner may do with it."""

import re

import pytest

from tests.contract.firebase.conftest import PASSWORD, new_email, refusal

pytestmark = pytest.mark.contract


class TestSignUp:
    def test_gives_an_account_and_its_tokens(self, firebase):
        person = firebase.person()
        assert person["kind"] == "identitytoolkit#SignupNewUserResponse"
        assert re.fullmatch(r"[A-Za-z0-9]{28}", person["localId"])
        assert person["expiresIn"] == "3600"
        assert person["idToken"].count(".") == 2
        assert person["refreshToken"]

    def test_keeps_the_display_name(self, firebase):
        body = {"email": new_email(), "password": PASSWORD, "displayName": "Ada"}
        answer = firebase.call("signUp", returnSecureToken=True, **body).json()
        firebase.made.append(answer["idToken"])
        assert answer["displayName"] == "Ada"

    def test_an_address_can_be_taken_once_in_whatever_case(self, firebase):
        person = firebase.person()
        again = firebase.call("signUp", email=person["email"].upper(), password=PASSWORD)
        assert again.status_code == 400
        assert refusal(again) == "EMAIL_EXISTS"

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"password": "five5"}, "WEAK_PASSWORD : Password should be at least 6 characters"),
            ({"password": None}, "MISSING_PASSWORD"),
            ({"email": None}, "MISSING_EMAIL"),
            ({"email": "nobody"}, "INVALID_EMAIL"),
            ({"email": "two@at@example.com"}, "INVALID_EMAIL"),
        ],
    )
    def test_bad_input_is_named(self, firebase, change, expected):
        body = {"email": new_email(), "password": PASSWORD} | change
        answer = firebase.call("signUp", **{k: v for k, v in body.items() if v is not None})
        assert answer.status_code == 400
        assert refusal(answer) == expected


class TestSignIn:
    def test_gives_the_same_account_back(self, firebase):
        person = firebase.person()
        answer = firebase.call(
            "signInWithPassword",
            email=person["email"],
            password=PASSWORD,
            returnSecureToken=True,
        ).json()
        assert answer["kind"] == "identitytoolkit#VerifyPasswordResponse"
        assert answer["localId"] == person["localId"]
        assert answer["registered"] is True
        assert answer["expiresIn"] == "3600"

    def test_case_of_the_address_does_not_matter(self, firebase):
        person = firebase.person()
        body = {"email": person["email"].upper(), "password": PASSWORD}
        assert firebase.call("signInWithPassword", **body).status_code == 200

    def test_wrong_password_and_unknown_address_are_one_refusal(self, firebase):
        person = firebase.person()
        for email in (person["email"], new_email()):
            answer = firebase.call("signInWithPassword", email=email, password="wrong password")
            assert answer.status_code == 400
            assert refusal(answer) == "INVALID_LOGIN_CREDENTIALS"

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"email": "nobody", "password": PASSWORD}, "INVALID_EMAIL"),
            ({"password": PASSWORD}, "MISSING_EMAIL"),
            ({"email": "somebody@example.com"}, "MISSING_PASSWORD"),
        ],
    )
    def test_bad_input_is_named(self, firebase, body, expected):
        answer = firebase.call("signInWithPassword", **body)
        assert answer.status_code == 400
        assert refusal(answer) == expected


class TestLookup:
    def test_shows_the_account(self, firebase):
        person = firebase.person()
        (user,) = firebase.call("lookup", idToken=person["idToken"]).json()["users"]
        assert user["localId"] == person["localId"]
        assert user["email"] == person["email"]
        assert user["emailVerified"] is False
        assert user["providerUserInfo"][0]["providerId"] == "password"
        assert int(user["createdAt"]) > 1_600_000_000_000, "milliseconds, in a string"
        assert int(user["validSince"]) > 1_600_000_000, "seconds, in a string"

    def test_something_that_is_no_token(self, firebase):
        answer = firebase.call("lookup", idToken="nonsense")
        assert answer.status_code == 400
        assert refusal(answer) == "INVALID_ID_TOKEN"


class TestUpdate:
    def test_name_can_be_set_and_erased(self, firebase):
        person = firebase.person()
        token = person["idToken"]
        assert firebase.call("update", idToken=token, displayName="Ada").status_code == 200
        (user,) = firebase.call("lookup", idToken=token).json()["users"]
        assert user["displayName"] == "Ada"
        firebase.call("update", idToken=token, deleteAttribute=["DISPLAY_NAME"])
        (user,) = firebase.call("lookup", idToken=token).json()["users"]
        assert not user.get("displayName")

    def test_a_new_password_replaces_the_old_one(self, firebase):
        person = firebase.person()
        answer = firebase.call(
            "update", idToken=person["idToken"], password="battery staple", returnSecureToken=True
        ).json()
        firebase.made.append(answer["idToken"])
        old = firebase.call("signInWithPassword", email=person["email"], password=PASSWORD)
        new = firebase.call("signInWithPassword", email=person["email"], password="battery staple")
        assert refusal(old) == "INVALID_LOGIN_CREDENTIALS"
        assert new.status_code == 200

    def test_a_weak_new_password_changes_nothing(self, firebase):
        person = firebase.person()
        answer = firebase.call("update", idToken=person["idToken"], password="five5")
        assert refusal(answer).startswith("WEAK_PASSWORD")
        same = firebase.call("signInWithPassword", email=person["email"], password=PASSWORD)
        assert same.status_code == 200


class TestDelete:
    def test_ends_the_account(self, firebase):
        person = firebase.person()
        assert firebase.call("delete", idToken=person["idToken"]).status_code == 200
        again = firebase.call("signInWithPassword", email=person["email"], password=PASSWORD)
        assert refusal(again) == "INVALID_LOGIN_CREDENTIALS"
        assert refusal(firebase.call("lookup", idToken=person["idToken"])) == "USER_NOT_FOUND"


class TestFront:
    def test_without_a_key_nothing_is_answered(self, firebase):
        answer = firebase.call("signUp", key="", email=new_email(), password=PASSWORD)
        assert answer.status_code == 403
        assert answer.json()["error"]["status"] == "PERMISSION_DENIED"

    def test_a_wrong_key_is_told_apart(self, firebase):
        if firebase.kind == "emulator":
            pytest.skip("the emulator takes any key")
        answer = firebase.call("signUp", key="wrong", email=new_email(), password=PASSWORD)
        assert answer.status_code == 400
        assert "API key not valid" in refusal(answer)
        assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"

    def test_a_body_that_is_no_json(self, firebase):
        answer = firebase.http.post(
            f"{firebase.accounts_url}/v1/accounts:signUp",
            params={"key": firebase.api_key},
            content=b"{",
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 400

    def test_any_page_may_call(self, firebase):
        answer = firebase.http.options(
            f"{firebase.accounts_url}/v1/accounts:signUp",
            params={"key": firebase.api_key},
            headers={
                "Origin": "https://app.example.com",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "content-type,x-client-version",
            },
        )
        assert answer.is_success
        assert answer.headers["access-control-allow-origin"] in {"*", "https://app.example.com"}
        assert "x-client-version" in answer.headers["access-control-allow-headers"].lower()
