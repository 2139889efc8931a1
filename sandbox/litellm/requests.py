"""What a management route is given and what it may answer."""

from dataclasses import dataclass, field
from typing import Any

from sandbox.asgi import Headers
from sandbox.litellm.gateway import Gateway
from sandbox.litellm.views import View


@dataclass(slots=True)
class Request:
    gateway: Gateway
    # None: the master key.
    view: View | None
    path: str
    query: dict[str, str]
    body: bytes
    # What the path's pattern left open, such as the key in /key/{key}/reset_spend.
    name: str = ""


@dataclass(slots=True)
class Answer:
    """An answer that is not simply 200 with JSON."""

    status: int = 200
    value: Any = None
    raw: bytes | None = None
    headers: Headers = field(default_factory=list)
