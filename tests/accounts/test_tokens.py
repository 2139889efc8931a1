"""Personal API tokens: made once, hashed, scoped, revocable."""

from datetime import timedelta

import pytest
from django.test import RequestFactory
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.test import APIClient
from rest_framework.views import APIView

from accounts import tokens
from accounts.authentication import (
    ApiTokenAuthentication,
    CookieAuthentication,
    FirebaseAuthentication,
    needs_scope,
)
from accounts.errors import AccountDeleted, AccountInactive, TokenExpired, TokenLacksScope
from accounts.models import ApiToken, AuditEntry, User
from accounts.services import delete_account
from accounts.tokens import create_token, find_token, revoke_token
from accounts.views import tokens as token_views
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import sha256_hex
from tesslate.lib.errors import InvalidToken

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]
CAUSE = Cause.system("test")


def make(user: User, **fields) -> tuple[ApiToken, str]:
    return create_token(
        **{
            "user": user,
            "name": "laptop",
            "scopes": ["chat"],
            "expires_at": None,
            "cause": CAUSE,
            **fields,
        }
    )


def test_value_is_kept_nowhere(user: User):
    token, value = make(user)

    assert value.startswith("tk-")
    assert len(value) >= 43
    stored = ApiToken.objects.values().get(pk=token.pk)
    assert stored["token_hash"] == sha256_hex(value)
    assert value not in str(stored)
    assert value.startswith(stored["prefix"])
    assert value not in str(AuditEntry.objects.values().get(action="token.created"))


def test_value_finds_the_token_and_its_user(user: User):
    token, value = make(user)

    assert find_token(value) == token
    assert find_token(value).user == user


@pytest.mark.parametrize("value", ["", "tk-", "tk-wrong", "sk-abc", "tk-" + "x" * 500, "tk-\x00"])
def test_unknown_value_is_refused(user: User, value):
    make(user)

    with pytest.raises(InvalidToken):
        find_token(value)


def test_revoked_token_is_refused(user: User):
    token, value = make(user)

    assert revoke_token(token_id=token.pk, cause=CAUSE) is True
    assert revoke_token(token_id=token.pk, cause=CAUSE) is False

    with pytest.raises(InvalidToken):
        find_token(value)
    assert AuditEntry.objects.filter(action="token.revoked", user=user).count() == 1


def test_expired_token_is_refused(user: User):
    _, value = make(user, expires_at=timezone.now() - timedelta(seconds=1))

    with pytest.raises(TokenExpired):
        find_token(value)


def test_token_of_a_switched_off_account_is_refused(user: User):
    _, value = make(user)
    User.objects.filter(pk=user.pk).update(is_active=False)

    with pytest.raises(AccountInactive):
        find_token(value)


def test_deleting_the_account_ends_its_tokens(user: User):
    token, value = make(user)
    delete_account(user_id=user.pk, cause=CAUSE)

    with pytest.raises((InvalidToken, AccountDeleted)):
        find_token(value)
    token.refresh_from_db()
    assert token.revoked_at is not None


def test_use_is_noted_once_a_minute(user: User, django_assert_num_queries):
    token, value = make(user)

    with django_assert_num_queries(2):
        find_token(value)
    with django_assert_num_queries(1):
        find_token(value)
    token.refresh_from_db()
    first = token.last_used_at
    assert first is not None

    ApiToken.objects.update(last_used_at=first - timedelta(minutes=2))
    find_token(value)
    token.refresh_from_db()
    assert token.last_used_at is not None
    assert token.last_used_at >= first


def authenticate(value: str, *classes: type) -> Request:
    django_request = RequestFactory().get("/", headers={"Authorization": f"Bearer {value}"})
    return Request(django_request, authenticators=[cls() for cls in classes])


def test_request_with_a_token_is_its_users(user: User):
    token, value = make(user)

    request = authenticate(
        value, ApiTokenAuthentication, FirebaseAuthentication, CookieAuthentication
    )

    assert request.user == user
    assert request.auth == token


def test_views_that_do_not_take_tokens_refuse_them(user: User, api: APIClient):
    _, value = make(user)

    response = api.get("/api/me", headers={"Authorization": f"Bearer {value}"})

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_token"


def test_scope_decides_what_a_token_may_do(user: User):
    _, value = make(user, scopes=["chat"])
    request = authenticate(value, ApiTokenAuthentication)

    assert needs_scope("chat")().has_permission(request, APIView()) is True
    with pytest.raises(TokenLacksScope):
        needs_scope("usage:read")().has_permission(request, APIView())


def test_person_who_signed_in_needs_no_scope(user: User):
    request = Request(RequestFactory().get("/"))
    request.user = user

    assert needs_scope("usage:read")().has_permission(request, APIView()) is True


class TestApi:
    @pytest.fixture(autouse=True)
    def signed_in(self, api: APIClient, user: User):
        api.force_authenticate(user)

    def test_made_token_is_shown_once(self, api: APIClient, user: User):
        response = api.post(
            "/api/tokens", {"name": "laptop", "scopes": ["chat"], "expires_in_days": 30}, "json"
        )

        assert response.status_code == 201
        made = response.json()
        assert find_token(made["token"]).user == user
        assert made["expires_at"] is not None
        listed = api.get("/api/tokens").json()["tokens"]
        assert [token["id"] for token in listed] == [made["id"]]
        assert made["token"] not in str(listed)
        assert set(listed[0]) == {
            "id",
            "name",
            "prefix",
            "scopes",
            "created_at",
            "expires_at",
            "last_used_at",
        }

    def test_token_may_last_until_revoked(self, api: APIClient):
        made = api.post("/api/tokens", {"name": "ci", "scopes": ["usage:read"]}, "json").json()

        assert made["expires_at"] is None

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"name": "", "scopes": ["chat"]},
            {"name": "x" * 101, "scopes": ["chat"]},
            {"name": "x\x00", "scopes": ["chat"]},
            {"name": "x", "scopes": []},
            {"name": "x", "scopes": ["admin"]},
            {"name": "x", "scopes": "chat"},
            {"name": "x", "scopes": ["chat"], "expires_in_days": 0},
            {"name": "x", "scopes": ["chat"], "expires_in_days": 10_000},
            {"name": "x", "scopes": ["chat"], "expires_in_days": "soon"},
            [],
        ],
    )
    def test_bad_input_makes_no_token(self, api: APIClient, body):
        response = api.post("/api/tokens", body, "json")

        assert response.status_code == 400
        assert response.json()["error"]["code"] == "invalid_request"
        assert not ApiToken.objects.exists()

    def test_number_of_tokens_is_limited(self, api: APIClient, monkeypatch):
        monkeypatch.setattr(tokens, "MOST_TOKENS", 1)
        body = {"name": "x", "scopes": ["chat"]}

        assert api.post("/api/tokens", body, "json").status_code == 201
        response = api.post("/api/tokens", body, "json")

        assert response.status_code == 409
        assert response.json()["error"]["code"] == "too_many_tokens"
        assert ApiToken.objects.count() == 1

    def test_token_is_renamed(self, api: APIClient, user: User):
        token, value = make(user)

        response = api.patch(f"/api/tokens/{token.pk}", {"name": "new", "scopes": []}, "json")

        assert response.json()["name"] == "new"
        assert find_token(value).scopes == ["chat"]
        entry = AuditEntry.objects.get(action="token.renamed", user=user)
        assert (entry.before, entry.after) == ({"name": "laptop"}, {"name": "new"})

    def test_renaming_brings_no_token_back_that_is_revoked_meanwhile(
        self, api: APIClient, user: User, monkeypatch
    ):
        token, value = make(user)
        rename = tokens.rename_token

        def revoked_meanwhile(**kwargs) -> bool:
            revoke_token(token_id=token.pk, cause=CAUSE)
            return rename(**kwargs)

        monkeypatch.setattr(token_views, "rename_token", revoked_meanwhile)

        assert api.patch(f"/api/tokens/{token.pk}", {"name": "new"}, "json").status_code == 404

        with pytest.raises(InvalidToken):
            find_token(value)
        assert not AuditEntry.objects.filter(action="token.renamed").exists()

    def test_token_is_revoked(self, api: APIClient, user: User):
        token, value = make(user)

        assert api.delete(f"/api/tokens/{token.pk}").status_code == 204

        assert api.get(f"/api/tokens/{token.pk}").status_code == 404
        assert api.get("/api/tokens").json()["tokens"] == []
        with pytest.raises(InvalidToken):
            find_token(value)

    @pytest.mark.parametrize("method", ["get", "patch", "delete"])
    def test_stranger_finds_no_token(self, api: APIClient, user: User, stranger: User, method):
        token, value = make(user)
        api.force_authenticate(stranger)

        response = getattr(api, method)(f"/api/tokens/{token.pk}", {"name": "mine"}, "json")

        assert response.status_code == 404
        assert find_token(value).name == "laptop"
        assert api.get("/api/tokens").json()["tokens"] == []

    @pytest.mark.parametrize("number", [0, 10**30])
    def test_number_that_is_no_tokens_is_404(self, api: APIClient, number):
        assert api.get(f"/api/tokens/{number}").status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("get", "/api/tokens"), ("post", "/api/tokens"), ("delete", "/api/tokens/1")],
)
def test_nobody_is_refused(api: APIClient, method, path):
    assert getattr(api, method)(path).status_code == 401
