"""Rows of the ledger, as the chat path would have written them."""

import uuid
from decimal import Decimal
from typing import Any

from django.utils import timezone

from accounts.models import User
from chatproxy.exchange import new_exchange
from chatproxy.models import ChatRequest


def chat_request(user: User, *, cost: str | None = "0.01", **columns: Any) -> ChatRequest:
    values: dict[str, Any] = {
        "id": uuid.UUID(new_exchange("chat").id),
        "started_at": timezone.now(),
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
