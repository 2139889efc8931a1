"""Rows of the ledger, as the chat path would have written them."""

import uuid
from decimal import Decimal
from typing import Any

from accounts.models import User
from chatproxy.exchange import began_at, new_exchange
from chatproxy.models import ChatRequest


def chat_request(user: User, *, cost: str | None = "0.01", **columns: Any) -> ChatRequest:
    request_id = uuid.UUID(new_exchange("chat").id)
    values: dict[str, Any] = {
        "id": request_id,
        "started_at": began_at(request_id),
        "user": user,
        "plan_code": "free",
        "model": "small",
        "client": ChatRequest.Client.CHAT,
        "outcome": ChatRequest.Outcome.COMPLETED,
        "status": 200,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "cost": None if cost is None else Decimal(cost),
        "ttfb_ms": 80,
        "duration_ms": 400,
    }
    return ChatRequest.objects.create(**(values | columns))
