"""One tokenizer for everything: what is streamed is what the usage says.

No model's own, but of the same grain: a word with the space before it is a token, long words are
several, punctuation marks are one each.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import orjson

TOKEN = re.compile(r" ?\w{1,8}|[^\w\s]|\s+")

# Around each message and before the answer, as chat formats have them.
PER_MESSAGE = 3
PER_REQUEST = 3
IMAGE = 765
IMAGE_LOW = 85


def split(text: str) -> list[str]:
    """The text's tokens; joined they are the text."""
    return TOKEN.findall(text)


@lru_cache(maxsize=4096)
def count(text: str) -> int:
    return len(TOKEN.findall(text))


def count_prompt(messages: list[dict[str, Any]], tools: object = None) -> int:
    total = PER_REQUEST
    for message in messages:
        total += PER_MESSAGE + _count_content(message.get("content"))
        if calls := message.get("tool_calls"):
            total += count(orjson.dumps(calls).decode())
    if tools:
        total += count(orjson.dumps(tools).decode())
    return total


def text_of(content: object) -> str:
    """The words of a message's content, be it text or a list of parts."""
    if isinstance(content, str):
        return content
    return "\n".join(
        part["text"]
        for part in _parts(content)
        if part.get("type") == "text" and isinstance(part.get("text"), str)
    )


def characters(messages: list[dict[str, Any]]) -> int:
    return sum(len(text_of(message.get("content"))) for message in messages)


def _count_content(content: object) -> int:
    total = count(text) if (text := text_of(content)) else 0
    if isinstance(content, str):
        return total
    for part in _parts(content):
        if part.get("type") == "image_url":
            image = part.get("image_url")
            low = isinstance(image, dict) and image.get("detail") == "low"
            total += IMAGE_LOW if low else IMAGE
    return total


def _parts(content: object) -> Iterable[dict[str, Any]]:
    if isinstance(content, list):
        return [part for part in content if isinstance(part, dict)]
    return []
