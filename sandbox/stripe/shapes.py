"""Blank objects with every field that Stripe's API answers with (see build_shapes.py)."""

import json
import marshal
from pathlib import Path
from typing import Any

Json = dict[str, Any]

_SHAPES: dict[str, Json] = json.loads(Path(__file__).with_name("shapes.json").read_text())
_PACKED = {kind: marshal.dumps(shape) for kind, shape in _SHAPES.items()}


def blank(kind: str) -> Json:
    made: Json = marshal.loads(_PACKED[kind])  # noqa: S302  our own bytes; 4 µs instead of 60
    return made


def listing(data: list[Any], url: str, *, has_more: bool = False) -> Json:
    return {"object": "list", "data": data, "has_more": has_more, "url": url}
