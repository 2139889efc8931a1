"""Conversations, for plans that keep them."""

import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from accounts.models import User
from chatproxy.models import ChatContent
from tesslate.lib.crypto import CannotDecrypt, decrypt, encrypt


def store_content(
    *,
    request_id: str,
    started_ms: int,
    user_id: int,
    messages: Sequence[Any],
    answer: bytes,
    is_stream: bool,
) -> None:
    """Keep one exchange, encrypted. ``answer`` is what went to the client."""
    text = text_of_stream(answer) if is_stream else text_of_whole(answer)
    content = orjson.dumps({"messages": messages, "answer": text}).decode()
    ChatContent.objects.get_or_create(
        request_id=uuid.UUID(request_id),
        defaults={
            "user_id": user_id,
            "created_at": datetime.fromtimestamp(started_ms / 1000, UTC),
            "encrypted": encrypt(content),
        },
    )


def conversations_of(user: User) -> Iterator[dict[str, Any]]:
    """What is kept of the user's conversations, newest first; ``messages`` and ``answer`` are None
    where no key of ours opens it any more."""
    for row in ChatContent.objects.filter(user=user).order_by("-created_at").iterator(100):
        try:
            content = orjson.loads(decrypt(row.encrypted))
        except CannotDecrypt:
            content = {"messages": None, "answer": None}
        yield {"request": str(row), "at": row.created_at, **content}


def text_of_stream(frames: bytes) -> str:
    """The first choice's text out of frames that we passed on ourselves."""
    parts = []
    for frame in frames.split(b"\n\n"):
        if frame.startswith(b"data: {"):
            choices = orjson.loads(frame[6:]).get("choices") or [{}]
            parts.append((choices[0].get("delta") or {}).get("content") or "")
    return "".join(parts)


def text_of_whole(body: bytes) -> str:
    choices = orjson.loads(body).get("choices") or [{}] if body else [{}]
    return str((choices[0].get("message") or {}).get("content") or "")
