"""The gateway's refusals, as LiteLLM words them, and what callers are told."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from chatproxy.models import ChatRequest
from plans.models import Plan
from tests.chatproxy.gateway import refuses

KEY_HASH = "e877bd6afb00718608866ae57bbc4e62181a5183776b2343b1d87e3057744e11"
RATE_TEXT = (
    f"Rate limit exceeded for api_key: {KEY_HASH}. Limit type: {{}}. Current limit: 20, "
    "Remaining: 0. Limit resets at: 2026-11-23 08:59:37 UTC"
)
BUDGET_TEXT = (
    "Budget has been exceeded! Key=key (sk-...gTqg) Current cost: 0.000102, Max budget: 0.0001"
)


def refused(server, gateway, script):
    gateway.script = script
    response = server.chat()
    assert KEY_HASH not in response.text
    assert "sk-" not in response.text
    return response, response.json()["error"]


def test_P07_requests_per_minute(server, gateway):
    response, error = refused(
        server,
        gateway,
        refuses(
            429,
            "throttling_error",
            RATE_TEXT.format("requests"),
            **{"retry-after": "60", "rate_limit_type": "requests"},
        ),
    )
    assert response.status_code == 429
    assert response.headers["retry-after"] == "60"
    assert error["code"] == "rate_limit_requests"
    assert (error["rule"], error["limit"], error["used"]) == ("requests_per_minute", 20, 20)
    assert (error["plan"], error["upgrade_to"]) == ("free", "pro")
    assert datetime.fromisoformat(error["clears_at"]) > datetime.now(UTC)
    row = server.row()
    assert row.outcome == ChatRequest.Outcome.REFUSED
    assert row.decision["rule"] == "requests_per_minute"
    assert row.decision["gateway"]["type"] == "throttling_error"


def test_P15_the_limiters_own_clock_is_believed_over_its_retry_after(server, gateway):
    from datetime import timedelta

    clears = (datetime.now(UTC) + timedelta(seconds=17)).strftime("%Y-%m-%d %H:%M:%S UTC")
    response, _ = refused(
        server,
        gateway,
        refuses(
            429,
            "throttling_error",
            **{"retry-after": "60", "rate_limit_type": "requests", "reset_at": clears},
        ),
    )
    assert 15 <= int(response.headers["retry-after"]) <= 17


def test_P07_tokens_per_minute(server, gateway):
    _, error = refused(
        server,
        gateway,
        refuses(429, "throttling_error", RATE_TEXT.format("tokens"), rate_limit_type="tokens"),
    )
    assert (error["code"], error["rule"]) == ("rate_limit_tokens", "tokens_per_minute")


def test_P07_simultaneous_requests_counted_by_the_gateway(server, gateway):
    _, error = refused(
        server, gateway, refuses(429, "throttling_error", rate_limit_type="max_parallel_requests")
    )
    assert (error["code"], error["limit"]) == ("too_many_streams", 5)


def test_P07_a_busy_provider_is_not_the_callers_limit(server, gateway):
    response, error = refused(
        server,
        gateway,
        refuses(429, "throttling_error", "upstream", **{"llm_provider-retry-after": "7"}),
    )
    assert (response.status_code, error["code"]) == (503, "provider_busy")
    assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize("status", [422, 429, 400])
def test_P07_a_used_up_budget_is_402_whatever_status_the_gateway_uses(server, gateway, status):
    response, error = refused(server, gateway, refuses(status, "budget_exceeded", BUDGET_TEXT))
    assert (response.status_code, error["code"]) == (402, "budget_exceeded")
    assert (error["limit"], error["used"]) == (0.0001, 0.000102)
    assert error["clears_at"]
    assert "retry-after" not in response.headers


@pytest.mark.parametrize(
    ("status", "type", "text"),
    [
        (401, "token_not_found_in_db", f"Invalid key {KEY_HASH}"),
        (401, "auth_error", "Key is blocked"),
        (401, "expired_key", "Expired"),
        (404, "not_found_error", "Team doesn't exist"),
        (403, "key_model_access_denied", "The requested model is not available"),
        (403, "team_model_access_denied", "The requested model is not available"),
    ],
)
def test_P06_a_key_that_the_gateway_does_not_know_is_healed_once(
    server, gateway, alice, monkeypatch, status, type, text
):
    healed = []
    monkeypatch.setattr(
        "chatproxy.runtime.heal_key", lambda *, user_id, cause: healed.append(user_id)
    )
    response, error = refused(server, gateway, refuses(status, type, text))
    assert (response.status_code, error["code"]) == (409, "key_not_ready")
    assert response.headers["retry-after"] == "1"
    server.chat()
    server.chat()
    assert healed == [alice.pk]
    assert len(gateway.asked) == 3


def test_P06_a_provider_that_refuses_the_gateway_is_no_fault_of_the_key(
    server, gateway, monkeypatch
):
    monkeypatch.setattr("chatproxy.runtime.heal_key", None)
    response, error = refused(
        server,
        gateway,
        refuses(401, "authentication_error", "Incorrect API key provided: gsk_1234567890abcdef"),
    )
    assert (response.status_code, error["code"]) == (502, "provider_error")
    assert "gsk_" not in response.text


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        (
            refuses(400, "invalid_request_error", "litellm.ContextWindowExceededError: 10 tokens"),
            400,
            "context_length_exceeded",
        ),
        (
            refuses(400, "invalid_request_error", "litellm.ContentPolicyViolationError"),
            400,
            "content_policy_violation",
        ),
        (refuses(400, "invalid_request_error", "bad tool"), 400, "rejected_by_provider"),
        (refuses(408, "invalid_request_error", "litellm.Timeout"), 504, "provider_timeout"),
        (refuses(500, "internal_server_error", "boom"), 502, "provider_error"),
        (refuses(503, "x", "down"), 503, "gateway_unavailable"),
    ],
)
def test_every_other_refusal_has_its_code(server, gateway, script, status, code):
    response, error = refused(server, gateway, script)
    assert (response.status_code, error["code"]) == (status, code)
    row = server.row()
    assert (row.status, row.error_code) == (status, code)
    assert (row.prompt_tokens, row.completion_tokens) == (0, 0)
    assert row.cost in (None, Decimal(0))


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"detail":"x"}', b'{"detail":[{"msg":"x"}]}'])
def test_an_error_in_any_envelope_is_survived(server, gateway, body):
    async def odd(asked, wire):
        await wire.raw(b"HTTP/1.1 422 X\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    gateway.script = odd
    assert server.chat().json()["error"]["code"] == "rejected_by_provider"


def test_the_limit_told_is_the_one_in_force(server, gateway, alice):
    from plans.models import CurrentEntitlement

    CurrentEntitlement.objects.filter(user=alice).update(limit_percent=50)
    _, error = refused(
        server, gateway, refuses(429, "throttling_error", rate_limit_type="requests")
    )
    assert error["limit"] == 10


def test_more_streams_than_the_plan_allows_are_refused_without_asking_the_gateway(
    start_server, alice, gateway
):
    Plan.objects.update(max_parallel_requests=1)
    server = start_server()

    async def thinks(asked, wire):
        await wire.start()
        await wire.say("x")
        await wire.wait_gone(10)

    gateway.script = thinks
    with server.stream() as response:
        chunks = response.iter_raw()
        next(chunks)
        second = server.chat()
    error = second.json()["error"]
    assert (second.status_code, error["code"]) == (429, "too_many_streams")
    assert (error["limit"], error["used"]) == (1, 1)
    assert len(gateway.asked) == 1
