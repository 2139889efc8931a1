"""/v1/chat/completions: the hot path, without anything between it and the server.

The steps, in LiteLLM's order: authenticate; may this key call this model; is there budget; rate
limits; does the request make sense; answer; then settle tokens, spend and log, however it ended.
"""

import time
from typing import Any

import orjson

from sandbox.asgi import ClientGone, Headers, Receive, Scope, Send, answer, header, read_body
from sandbox.litellm import errors, providers, tokens
from sandbox.litellm.access import authenticate
from sandbox.litellm.catalogue import Model
from sandbox.litellm.delivery import Delivery, deliver
from sandbox.litellm.gateway import Gateway
from sandbox.litellm.ids import new_id
from sandbox.litellm.limits import Grant, reservation
from sandbox.litellm.records import hash_of
from sandbox.litellm.replies import compose
from sandbox.litellm.spend import Call
from sandbox.litellm.views import View

MOST_ANSWERS = 8
CREDENTIALS = (b"authorization", b"x-api-key", b"api-key", b"x-litellm-api-key", b"cookie")
ERROR_CLASSES = {400: "BadRequestError", 403: "ProxyException", 429: "ProxyRateLimitError"}


class Exchange:
    """One chat request from its admission to its row in the spend log."""

    def __init__(self, gateway: Gateway, view: View | None, scope: Scope) -> None:
        self.gateway = gateway
        self.view = view
        given = header(scope, b"x-litellm-call-id")
        self.call_id = given.decode("latin-1") if given else new_id()
        self.started = time.time()
        self.model: Model | None = None
        self.grant = Grant()
        self.notes: dict[str, Any] = scope["sandbox.entry"].notes

    def head(self) -> Headers:
        """The headers that every answer carries once the key is known.

        What is left of the limits is told only where the call was admitted.
        """
        head = [(b"x-litellm-call-id", self.call_id.encode("latin-1")), *self.grant.headers]
        if self.view is not None:
            head += limit_headers(self.view)
            head.append((b"x-litellm-key-spend", b"%r" % self.view.key.spend))
        return head

    def admit(self, body: dict[str, Any]) -> int | None:
        """Check and count. Gives the cap on the answer, if any. Raises Refusal."""
        name = body.get("model")
        if name is not None and not isinstance(name, str):
            raise errors.error(400, "'model' must be a string.", "bad_request_error", "model")
        cap = max_tokens_of(body)
        if self.view is not None:
            refusal = self.view.refuse_model(name) or self.view.refuse_budget()
            if refusal is not None:
                raise refusal
            messages = body.get("messages")
            characters = 0
            if isinstance(messages, list) and all(isinstance(m, dict) for m in messages):
                characters = tokens.characters(messages)
            reserved, forced = reservation(characters, cap, answers_of(body), self.view.tpm)
            self.grant = self.gateway.limiter.admit(self.view.holders, reserved, self.started)
            cap = forced if cap is None else cap
        self.model = self.gateway.catalogue.models.get(name or "")
        if self.model is None:
            raise errors.unknown_model(name)
        check_messages(body)
        return cap

    def settle(self, delivery: Delivery, failed: int | None) -> None:
        """The call is over: correct the reservation, add the spend, log it.

        What was generated is paid for, whether the provider broke off (`failed`) or the client
        left. A stream that the client left counts as a success all the same, with 499 noted.
        """
        call = self.call(delivery.answer_id)
        if failed is not None:
            call.request_id = self.call_id
            call.status, call.error_code = "failure", failed
            call.error_class = "APIConnectionError" if delivery.sent else "InternalServerError"
        elif delivery.cancelled_at is not None:
            call.error_code, call.error_class = 499, "ClientDisconnected"
            if not delivery.is_stream:
                call.request_id = self.call_id
                call.status, call.error_class = "failure", "HTTPException"
        if failed is None or delivery.sent:
            call.prompt_tokens, call.completion_tokens = delivery.prompt_tokens, delivery.sent
            call.input_cost, call.output_cost = delivery.costs()
        call.first = delivery.first
        self.gateway.limiter.settle(self.grant, call.prompt_tokens + call.completion_tokens)
        self._count(call)
        if self.view is not None:
            self._charge(self.view, call)

    def _charge(self, view: View, call: Call) -> None:
        key, store = view.key, self.gateway.store
        for holder in (key, view.user, view.team):
            if holder is not None:
                holder.spend += call.spend
        key.total_spend += call.spend
        key.last_active = call.ended
        if key.token in store.keys:
            store.save_spend(key)
        store.spend.add(call)

    def refuse(self, refusal: errors.Refusal, body: dict[str, Any]) -> None:
        """Log a refused call too: with zero spend."""
        self.gateway.limiter.settle(self.grant, 0)
        call = self.call(self.call_id)
        call.model = call.model_group = call.model or str(body.get("model") or "")
        call.status = "failure"
        call.error_code = refusal.status
        call.error_class = ERROR_CLASSES.get(refusal.status, "ProxyException")
        call.error_message = refusal.kind
        call.rate_type = refusal.rate_type
        self._count(call)
        if self.view is not None:
            self.gateway.store.spend.add(call)

    def call(self, request_id: str) -> Call:
        model = self.model
        key = self.view.key if self.view is not None else None
        return Call(
            request_id=request_id,
            call_id=self.call_id,
            api_key=key.token if key else hash_of(self.gateway.settings.master_key),
            key_alias=key.key_alias if key else None,
            user_id=key.user_id if key else None,
            team_id=key.team_id if key else None,
            model=model.target if model else "",
            model_id=model.id if model else "",
            model_group=model.name if model else "",
            provider=model.provider if model else "",
            started=self.started,
            ended=time.time(),
        )

    def _count(self, call: Call) -> None:
        counted = self.gateway.counted
        label = f'requested_model="{call.model_group}"'
        counted["litellm_proxy_total_requests_metric_total", label] += 1
        if call.status != "success":
            failed = f'{label},exception_status="{call.error_code}"'
            counted["litellm_proxy_failed_requests_metric_total", failed] += 1
            return
        for name, value in (
            ("litellm_input_tokens_metric_total", call.prompt_tokens),
            ("litellm_output_tokens_metric_total", call.completion_tokens),
            ("litellm_spend_metric_total", call.spend),
        ):
            counted[name, label] += value


async def chat(gateway: Gateway, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        view = authenticate(gateway, scope)
        raw = await read_body(receive)
    except errors.Refusal as refusal:
        await answer(send, refusal.status, refusal.body, refusal.headers)
        return
    except ClientGone:
        return
    exchange = Exchange(gateway, view, scope)
    body: dict[str, Any] = {}
    try:
        body = parse(raw)
        remember(gateway, exchange, scope, body)
        cap = exchange.admit(body)
    except errors.Refusal as refusal:
        exchange.refuse(refusal, body)
        await answer(send, refusal.status, refusal.body, exchange.head() + refusal.headers)
        return
    assert exchange.model is not None
    prompt_tokens = tokens.count_prompt(body["messages"], body.get("tools"))
    choices = compose({**body, "n": answers_of(body)}, cap)
    is_stream = body.get("stream") is True
    delivery = Delivery(exchange.model, prompt_tokens, choices, exchange.started, is_stream)
    gateway.in_flight += 1
    failed: int | None = None
    try:
        failed = await respond(exchange, delivery, body, scope, receive, send)
    finally:
        gateway.in_flight -= 1
        exchange.settle(delivery, failed)
        note(exchange, delivery)


async def respond(
    exchange: Exchange,
    delivery: Delivery,
    body: dict[str, Any],
    scope: Scope,
    receive: Receive,
    send: Send,
) -> int | None:
    """Answer; the status of the provider's failure where one was switched on."""
    gateway = exchange.gateway

    async def answer_it(_: Scope, receive: Receive, send: Send) -> None:
        await deliver(delivery, exchange.head, body, gateway.tokens_per_second, receive, send)

    if gateway.faults.faults:
        caller = scope["sandbox.entry"].caller
        fault = gateway.faults.strike("POST", providers.route_of(delivery.model.name), caller)
        if fault is not None:
            head = exchange.head()
            return await providers.play(fault, answer_it, scope, receive, send, head)
    await answer_it(scope, receive, send)
    return None


def parse(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        text = f"Invalid JSON payload: {error.msg}: line {error.lineno} column {error.colno}"
        refusal = errors.error(400, text, "invalid_request_error", "request_body")
        raise refusal from None
    if not isinstance(body, dict):
        raise errors.error(400, "Invalid JSON payload", "invalid_request_error", "request_body")
    return body


def check_messages(body: dict[str, Any]) -> None:
    """What LiteLLM or the provider behind it would not take. Raises Refusal."""
    messages = body.get("messages")
    if messages is None:
        text = "/chat/completions: Missing required parameter: 'messages'."
        raise errors.error(400, text, "invalid_request_error", "messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        text = "Invalid request format: messages must be a list of objects"
        raise errors.error(400, text, "invalid_request_error", None)
    if not messages:
        text = "litellm.BadRequestError: OpenAIException - messages: must not be empty"
        raise errors.error(400, text, "invalid_request_error", None)


def max_tokens_of(body: dict[str, Any]) -> int | None:
    value = body.get("max_completion_tokens")
    if value is None:
        value = body.get("max_tokens")
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    return None


def answers_of(body: dict[str, Any]) -> int:
    value = body.get("n")
    return min(value, MOST_ANSWERS) if isinstance(value, int) and value > 0 else 1


def limit_headers(view: View) -> Headers:
    """The limits in force, the key's own or those of its budget row."""
    head: Headers = []
    if view.tpm is not None:
        head.append((b"x-litellm-key-tpm-limit", b"%d" % view.tpm))
    if view.rpm is not None:
        head.append((b"x-litellm-key-rpm-limit", b"%d" % view.rpm))
    if view.max_budget is not None:
        head.append((b"x-litellm-key-max-budget", b"%r" % view.max_budget))
    return head


def remember(gateway: Gateway, exchange: Exchange, scope: Scope, body: dict[str, Any]) -> None:
    """Keep the request as it came, for GET /sandbox/chats; of credentials only the hash."""
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name not in CREDENTIALS
    }
    caller = exchange.view.key.token if exchange.view else "master"
    gateway.chats.append(
        {"call_id": exchange.call_id, "caller": caller, "headers": headers, "body": body}
    )


def note(exchange: Exchange, delivery: Delivery) -> None:
    exchange.notes.update(
        call_id=exchange.call_id,
        model=delivery.model.name,
        prompt_tokens=delivery.prompt_tokens,
        completion_tokens=delivery.sent,
        cancelled_at=delivery.cancelled_at,
    )
