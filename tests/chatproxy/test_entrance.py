"""Who gets in, and what every answer carries."""

import threading
import time
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken
from accounts.services import suspend_user
from accounts.tokens import create_token, revoke_token
from chatproxy.models import ChatRequest
from llmkeys.models import VirtualKey
from plans.models import CurrentEntitlement, Plan
from tesslate.lib.cause import Cause
from tesslate.lib.changes import PLANS, publish
from tests.chatproxy.conftest import HELLO, disable, eventually, text_of
from tests.chatproxy.gateway import USAGE

CAUSE = Cause.system("test")
BODY = {"messages": HELLO, "selectedModelId": "basic-chat"}


# Tokens


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer a b", "Bearer not.a.token", "Basic YTpi", "Bearer tk-nope"],
)
def test_P09_a_bad_or_missing_credential_is_401_and_not_recorded(server, gateway, header):
    response = server.chat(headers={"authorization": header} if header else {})
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert not server.rows().exists()


def test_P09_tokens_of_others_and_of_the_past_are_401(server, firebase):
    now = int(time.time())
    for token in (
        firebase.token("alice", exp=now - 60),
        firebase.token("alice", aud="another-project"),
        firebase.token("alice", iss="https://securetoken.google.com/another"),
    ):
        assert server.chat(headers={"authorization": f"Bearer {token}"}).status_code == 401


def test_P09_a_token_that_expires_mid_stream_does_not_end_it(server, gateway, firebase):
    # Five seconds of clock skew are forgiven, and are nearly over.
    token = firebase.token("alice", email="alice@example.com", exp=int(time.time()) - 3)

    async def slow(asked, wire):
        await wire.start()
        await wire.say("before ")
        await wire.wait_gone(3)
        await wire.say("after")
        await wire.finish(USAGE)

    gateway.script = slow
    headers = {"authorization": f"Bearer {token}"}
    assert text_of(server.chat(headers=headers).text) == "before after"
    assert server.chat(headers=headers).status_code == 401


def test_an_api_token_with_the_scope_chats_until_it_is_revoked(server, alice):
    row, value = create_token(
        user=alice, name="ci", scopes=[ApiToken.Scope.CHAT], expires_at=None, cause=CAUSE
    )
    headers = {"authorization": f"Bearer {value}"}
    assert server.chat(headers=headers).status_code == 200
    assert server.row().api_token_id == row.pk
    revoke_token(token_id=row.pk, cause=CAUSE)
    assert eventually(lambda: server.chat(headers=headers).status_code == 401)


def test_an_api_token_without_the_scope_does_not_chat(server, alice):
    _, value = create_token(
        user=alice, name="ci", scopes=[ApiToken.Scope.USAGE_READ], expires_at=None, cause=CAUSE
    )
    response = server.chat(headers={"authorization": f"Bearer {value}"})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "token_lacks_scope")


def test_an_api_token_ends_at_its_time(server, alice):
    _, value = create_token(
        user=alice,
        name="ci",
        scopes=[ApiToken.Scope.CHAT],
        expires_at=timezone.now() + timedelta(seconds=1),
        cause=CAUSE,
    )
    headers = {"authorization": f"Bearer {value}"}
    assert server.chat(headers=headers).status_code == 200
    time.sleep(1.1)
    assert server.chat(headers=headers).status_code == 401


@pytest.fixture
def session(alice):
    """Alice's browser: session and CSRF cookies."""
    client = Client()
    client.force_login(alice)
    return client.cookies[django_settings.SESSION_COOKIE_NAME].value


def test_a_session_cookie_needs_the_csrf_token_too(server, session):
    secret = "a" * 32
    cookies = {
        django_settings.SESSION_COOKIE_NAME: session,
        django_settings.CSRF_COOKIE_NAME: secret,
    }
    cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    refused = server.chat(headers=cookie)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "csrf_failed")
    allowed = server.chat(headers={**cookie, "x-csrftoken": secret, "origin": server.url})
    assert allowed.status_code == 200
    forged = server.chat(
        headers={**cookie, "x-csrftoken": secret, "origin": "https://evil.example"}
    )
    assert forged.status_code == 403


def test_a_made_up_session_is_401(server):
    name = django_settings.SESSION_COOKIE_NAME
    csrf = django_settings.CSRF_COOKIE_NAME
    headers = {"cookie": f"{name}=nonsense; {csrf}={'a' * 32}", "x-csrftoken": "a" * 32}
    assert server.chat(headers=headers).status_code == 401


# Bodies


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"{", "invalid_json", None),
        (b"", "invalid_json", None),
        (b'{"messages": [], "selectedModelId": "basic-chat"}', "invalid_request", "messages"),
        (b'{"messages": [{"role":"user","content":"x"}]}', "invalid_request", "selectedModelId"),
        (
            b'{"messages": [{"role":"user","content":"x"}], "selectedModelId": "nope"}',
            "model_not_found",
            "selectedModelId",
        ),
    ],
)
def test_bad_input_is_400_in_the_one_shape(server, gateway, body, code, param):
    response = server.chat(body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["param"]) == (code, param)
    assert set(error) >= {"type", "code", "message", "param"}
    assert gateway.asked == []
    assert server.row().outcome == ChatRequest.Outcome.REFUSED


def test_P13_a_body_over_the_limit_is_413(start_server, alice, settings):
    settings.CHAT_MAX_BODY_BYTES = 10_000
    server = start_server()
    big = {"messages": [{"role": "user", "content": "x" * 20_000}], "selectedModelId": "basic-chat"}
    assert server.chat(big).status_code == 413

    def chunks():
        for _ in range(40):
            yield b"x" * 1000

    response = server.client.post("/api/proxy/chat", content=chunks(), headers=server.headers())
    assert response.status_code == 413


def test_P13_a_megabyte_of_prompt_passes(server, gateway):
    text = "long " * 200_000
    body = {"messages": [{"role": "user", "content": text}], "selectedModelId": "basic-chat"}
    assert text_of(server.chat(body).text) == "one two three"
    assert gateway.last.body["messages"][-1]["content"] == text


def test_a_client_that_leaves_while_sending_its_body_is_recorded(server):
    import socket

    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as client:
        client.sendall(
            f"POST /api/proxy/chat HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
            f'{server.token}\r\nContent-Length: 1000\r\n\r\n{{"mess'.encode()
        )
        time.sleep(0.3)
    row = server.row()
    assert (row.outcome, row.status) == (ChatRequest.Outcome.ABANDONED, 499)


# Accounts and keys


def test_a_user_whose_key_is_on_its_way_is_told_to_come_back(server, alice, gateway):
    VirtualKey.objects.update(observed=None)
    response = server.chat()
    assert (response.status_code, response.json()["error"]["code"]) == (409, "key_not_ready")
    assert response.headers["retry-after"] == "1"
    VirtualKey.objects.update(observed={})
    assert eventually(lambda: server.chat().status_code == 200)


def test_a_suspended_account_is_refused_at_its_next_request(server, alice):
    assert server.chat().status_code == 200
    suspend_user(user_id=alice.pk, reason="abuse", cause=CAUSE)
    assert eventually(lambda: server.chat().status_code == 403, seconds=2)


def test_a_plan_change_is_seen_at_the_next_request(server, alice, plans):
    body = {"messages": HELLO, "selectedModelId": "advanced-chat"}
    assert server.chat(body).status_code == 403
    CurrentEntitlement.objects.filter(user=alice).update(plan=plans["pro"])
    publish([alice.pk])
    assert eventually(lambda: server.chat(body).status_code == 200, seconds=2)


def test_a_withdrawn_model_is_refused_once_plans_have_changed(server):
    assert server.chat().status_code == 200
    disable("basic-chat")
    publish(kinds=[PLANS])

    def is_refused() -> bool:
        reply = server.chat()
        return reply.status_code != 200 and bool(reply.json()["error"]["code"] == "model_disabled")

    assert eventually(is_refused, seconds=2)


def test_P10_a_downgrade_or_rotation_mid_stream_lets_it_finish(server, gateway, alice, plans):
    started, go_on = threading.Event(), threading.Event()

    async def slow(asked, wire):
        await wire.start()
        await wire.say("before ")
        started.set()
        while not go_on.is_set():
            await wire.wait_gone(0.01)
        await wire.say("after")
        await wire.finish(USAGE)

    gateway.script = slow
    texts = []
    thread = threading.Thread(target=lambda: texts.append(text_of(server.chat().text)))
    thread.start()
    assert started.wait(5)
    VirtualKey.objects.update(lifecycle=VirtualKey.Lifecycle.RETIRED)
    Plan.objects.update(max_parallel_requests=1)
    publish([alice.pk], kinds=[PLANS])
    time.sleep(0.1)
    go_on.set()
    thread.join(5)
    assert texts == ["before after"]


# Prompts


def test_prompts_go_first_and_their_versions_are_recorded(server, gateway):
    from chatproxy.models import SystemPrompt
    from chatproxy.publishing import publish_version, write_version

    assert server.chat().status_code == 200
    prompt = SystemPrompt.objects.create(name="Manners", category="base")
    version = write_version(prompt=prompt, text="Help {{ user_name }}.", author=None, cause=CAUSE)
    publish_version(version=version, cause=CAUSE)
    assert eventually(
        lambda: server.chat() and gateway.last.body["messages"][0]["role"] == "system", seconds=2
    )
    assert gateway.last.body["messages"][0]["content"] == "Help Alice."
    assert server.rows().last().prompt_versions == [version.pk]


def test_P11_a_fault_in_prompts_lets_the_chat_go_on_without(server, gateway, monkeypatch):
    monkeypatch.setattr("chatproxy.prompts.PromptSet.render", lambda *a, **k: 1 / 0)
    assert server.chat().status_code == 200
    assert gateway.last.body["messages"] == HELLO


def test_P12_whatever_the_caller_says_of_itself_does_not_reach_the_gateway(server, gateway):
    forged = {
        "user": "somebody",
        "metadata": {"user_api_key": "x"},
        "tags": ["a"],
        "api_key": "sk-theirs",
        "api_base": "http://evil",
        "mock_response": "hi",
        "litellm_metadata": {},
    }
    assert server.chat({**BODY, **forged}).status_code == 200
    assert not set(forged) & set(gateway.last.body)


# Other origins, methods, paths


def test_other_origins_are_let_in_by_setting(start_server, alice, settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://www.example.com"]
    server = start_server()
    asked = {
        "origin": "https://www.example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type",
    }
    preflight = server.client.options("/api/proxy/chat", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "https://www.example.com"
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert "traceparent" in preflight.headers["access-control-allow-headers"]
    answer = server.chat(headers=server.headers(origin="https://www.example.com"))
    assert answer.headers["access-control-allow-origin"] == "https://www.example.com"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert "x-request-id" in answer.headers["access-control-expose-headers"]
    stranger = server.chat(headers=server.headers(origin="https://evil.example"))
    assert "access-control-allow-origin" not in stranger.headers
    assert stranger.headers["vary"] == "origin"


def test_other_methods_hosts_and_paths(server):
    assert server.client.get("/api/proxy/chat").status_code == 405
    assert server.client.get("/api/proxy/chat").headers["allow"] == "POST, OPTIONS"
    assert server.chat(headers=server.headers(host="evil.example")).status_code == 400
    assert server.client.post("/api/proxy/nothing", headers=server.headers()).status_code == 404
    assert server.client.get("/health/live").status_code == 200


def test_plain_http_is_refused_where_https_is_required(start_server, alice, settings):
    settings.SECURE_SSL_REDIRECT = True
    server = start_server()
    assert server.chat().json()["error"]["code"] == "https_required"
    assert server.chat(headers=server.headers(**{"x-forwarded-proto": "https"})).status_code == 200


def test_the_models_of_the_plan_are_listed(server, firebase, subscribe):
    listed = server.client.get("/api/proxy/v1/models", headers=server.headers()).json()
    assert [model["id"] for model in listed["data"]] == ["basic-chat"]
    subscribe("bob", plan="pro")
    bob = {"authorization": f"Bearer {firebase.token('bob', email='bob@example.com')}"}
    listed = server.client.get("/api/proxy/v1/models", headers=bob).json()
    assert [model["id"] for model in listed["data"]] == ["advanced-chat", "basic-chat"]
    one = server.client.get("/api/proxy/v1/models/basic-chat", headers=bob)
    assert one.json()["id"] == "basic-chat"
    other = server.client.get("/api/proxy/v1/models/nope", headers=bob)
    assert other.status_code == 404
