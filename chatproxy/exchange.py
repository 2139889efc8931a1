"""One chat request from arrival to ledger entry: what is known of it, and what it comes to."""

import os
import random
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from chatproxy.callers import Caller
from chatproxy.catalogue import PlanTerms
from chatproxy.models import ChatRequest
from tesslate.lib.errors import ApiError
from tesslate.lib.tracing import Span

Outcome = ChatRequest.Outcome

# nginx's word for "the client closed the connection before there was a status".
CLIENT_LEFT = 499


@dataclass(slots=True)
class Usage:
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: Decimal | None = None
    is_estimated: bool = False


@dataclass(slots=True, eq=False)
class Exchange:
    """Filled in as the request goes on; ``record`` is called once, at its end."""

    client: str
    id: str
    public_id: str
    started_ms: int
    arrived: float = field(default_factory=time.monotonic)
    caller: Caller | None = None
    api_token_id: int | None = None
    plan: PlanTerms | None = None
    model: str = ""
    served_model: str = ""
    is_stream: bool = True
    idempotency_key: str = ""
    prompt_versions: tuple[int, ...] = ()
    call_id: str = ""
    response_id: str = ""
    attempts: int = 0
    status: int = 0
    error_code: str = ""
    outcome: Outcome | None = None
    decision: dict[str, Any] | None = None
    first_byte: float | None = None
    usage: Usage = field(default_factory=Usage)
    # Where tracing is on: of the request, and of its attempt at the gateway.
    span: Span | None = None
    attempt_span: Span | None = None

    @property
    def is_over(self) -> bool:
        return self.outcome is not None

    def tell_first_byte(self) -> None:
        if self.first_byte is None:
            self.first_byte = time.monotonic()

    def refuse(self, error: ApiError) -> None:
        """The caller gets ``error`` instead of an answer."""
        self.status = error.status_code
        self.error_code = error.code
        ours = error.status_code >= 500
        self.outcome = Outcome.FAILED if ours else Outcome.REFUSED
        if error.details:
            self.decision = {**(self.decision or {}), **error.details}

    def record(self) -> dict[str, Any] | None:
        """The ledger row, or None for a request that nobody made (no valid credential)."""
        caller = self.caller
        if caller is None:
            return None
        now = time.monotonic()
        ttfb = self.first_byte
        usage = self.usage
        return {
            "id": self.id,
            "started_at": self.started_ms,
            "user_id": caller.user_id,
            "organization_id": caller.organization_id,
            "virtual_key_id": caller.credential.key_id if caller.credential else None,
            "api_token_id": self.api_token_id,
            "plan_code": self.plan.code if self.plan else "",
            "model": self.model,
            "served_model": self.served_model,
            "client": self.client,
            "is_stream": self.is_stream,
            "idempotency_key": self.idempotency_key,
            "outcome": self.outcome or Outcome.FAILED,
            "status": self.status,
            "error_code": self.error_code,
            "decision": self.decision,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "cost": None if usage.cost is None else str(usage.cost),
            "is_estimated": usage.is_estimated,
            "ttfb_ms": None if ttfb is None else max(0, round((ttfb - self.arrived) * 1000)),
            "duration_ms": max(0, round((now - self.arrived) * 1000)),
            "gateway_call_id": self.call_id,
            "gateway_response_id": self.response_id,
            "prompt_versions": self.prompt_versions,
        }


# Ids need to be unique, not secret: a receipt is shown to its own user only.
_random = random.Random(os.urandom(32))  # noqa: S311
os.register_at_fork(after_in_child=lambda: _random.seed(os.urandom(32)))


def new_exchange(client: str) -> Exchange:
    """With an id that sorts by time and carries it (UUIDv7, RFC 9562)."""
    now_ms = time.time_ns() // 1_000_000
    number = (now_ms << 80) | _random.getrandbits(80)
    number = (number & ~(0xF << 76)) | (0x7 << 76)
    number = (number & ~(0x3 << 62)) | (0x2 << 62)
    text = f"{number:032x}"
    dashed = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
    return Exchange(client=client, id=dashed, public_id=f"req_{text}", started_ms=now_ms)


def time_of(request_id: uuid.UUID) -> int:
    """Milliseconds since the epoch, as put into the id by new_exchange."""
    return request_id.int >> 80


def began_at(request_id: uuid.UUID) -> datetime | None:
    """The moment in an id, to the millisecond; None if new_exchange cannot have made it."""
    if request_id.version != 7:
        return None
    try:
        return datetime.fromtimestamp(time_of(request_id) / 1000, UTC)
    except ValueError:  # after the year 9999
        return None


def told_usage(usage: dict[str, Any], *, header_cost: str = "") -> Usage:
    """What the gateway says of tokens and cost; cost is None where it says nothing usable."""
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        cost=_dollars(usage.get("cost")) if "cost" in usage else _dollars(header_cost),
    )


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**31 else 0


def _dollars(value: object) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        amount = round(Decimal(str(value)), 10)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount < 10**8 else None


def usage_event(exchange: Exchange) -> bytes:
    """The receipt at the end of a stream, for front ends that stay until then."""
    usage = exchange.usage
    body: dict[str, Any] = {
        "id": exchange.public_id,
        "object": "chat.usage",
        # Readers that look into every event's choices find none instead of failing.
        "choices": [],
        "model": exchange.model,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
        "cost": None if usage.cost is None else str(usage.cost),
        "estimated": usage.is_estimated,
        "outcome": exchange.outcome,
    }
    return b"event: usage\ndata: " + orjson.dumps(body) + b"\n\n"


def error_event(error: ApiError) -> bytes:
    """How a stream that broke ends; OpenAI's clients raise on it."""
    return b"event: error\ndata: " + orjson.dumps(error.body()) + b"\n\n"
