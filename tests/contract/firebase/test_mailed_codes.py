"""Codes that go out by mail."""

import pytest

from tests.contract.firebase.conftest import PASSWORD, new_email, refusal

pytestmark = pytest.mark.contract


def ask_for_reset(firebase, email: str):
    return firebase.call("sendOobCode", requestType="PASSWORD_RESET", email=email)


class TestPasswordReset:
    def test_the_code_sets_a_new_password_and_proves_the_address(self, firebase):
        person = firebase.person()
        asked = ask_for_reset(firebase, person["email"])
        assert asked.status_code == 200
        assert asked.json()["email"] == person["email"]
        (code,) = firebase.codes(person["email"])

        seen = firebase.call("resetPassword", oobCode=code).json()
        assert seen["email"] == person["email"]
        assert seen["requestType"] == "PASSWORD_RESET"
        done = firebase.call("resetPassword", oobCode=code, newPassword="battery staple")
        assert done.status_code == 200

        body = {"email": person["email"], "password": "battery staple"}
        signed_in = firebase.call("signInWithPassword", returnSecureToken=True, **body).json()
        firebase.made.append(signed_in["idToken"])
        (user,) = firebase.call("lookup", idToken=signed_in["idToken"]).json()["users"]
        assert user["emailVerified"] is True

    def test_the_code_works_once(self, firebase):
        person = firebase.person()
        ask_for_reset(firebase, person["email"])
        (code,) = firebase.codes(person["email"])
        firebase.call("resetPassword", oobCode=code, newPassword="battery staple")
        again = firebase.call("resetPassword", oobCode=code, newPassword="something else")
        assert again.status_code == 400
        assert refusal(again) == "INVALID_OOB_CODE"
        body = {"email": person["email"], "password": "battery staple"}
        firebase.made.append(firebase.call("signInWithPassword", **body).json()["idToken"])

    def test_a_weak_password_leaves_the_code_good(self, firebase):
        person = firebase.person()
        ask_for_reset(firebase, person["email"])
        (code,) = firebase.codes(person["email"])
        weak = firebase.call("resetPassword", oobCode=code, newPassword="five5")
        assert refusal(weak).startswith("WEAK_PASSWORD")
        assert firebase.call("resetPassword", oobCode=code).status_code == 200

    def test_an_unknown_address_gets_the_same_answer(self, firebase):
        email = new_email()
        answer = ask_for_reset(firebase, email)
        assert answer.status_code == 200
        assert answer.json()["email"] == email

    def test_a_made_up_code_is_refused(self, firebase):
        answer = firebase.call("resetPassword", oobCode="made-up", newPassword=PASSWORD)
        assert answer.status_code == 400
        assert refusal(answer) == "INVALID_OOB_CODE"

    @pytest.mark.parametrize(
        ("action", "body", "expected"),
        [
            ("sendOobCode", {"email": "somebody@example.com"}, "MISSING_REQ_TYPE"),
            ("sendOobCode", {"requestType": "PASSWORD_RESET"}, "MISSING_EMAIL"),
            ("resetPassword", {"newPassword": PASSWORD}, "MISSING_OOB_CODE"),
        ],
    )
    def test_what_is_missing_is_named(self, firebase, action, body, expected):
        answer = firebase.call(action, **body)
        assert answer.status_code == 400
        assert refusal(answer) == expected


class TestVerifyingAnAddress:
    def test_the_code_marks_it_verified(self, firebase):
        person = firebase.person()
        firebase.call("sendOobCode", requestType="VERIFY_EMAIL", idToken=person["idToken"])
        (code,) = firebase.codes(person["email"])
        done = firebase.call("update", oobCode=code)
        assert done.status_code == 200
        assert done.json()["emailVerified"] is True
        (user,) = firebase.call("lookup", idToken=person["idToken"]).json()["users"]
        assert user["emailVerified"] is True

    def test_the_code_does_not_reset_a_password(self, firebase):
        person = firebase.person()
        firebase.call("sendOobCode", requestType="VERIFY_EMAIL", idToken=person["idToken"])
        (code,) = firebase.codes(person["email"])
        answer = firebase.call("resetPassword", oobCode=code, newPassword="battery staple")
        assert answer.status_code == 400
