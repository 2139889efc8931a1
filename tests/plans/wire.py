"""A Stripe account at the wire: what the official client gets back, object by object.

For shapes and faults that the stand-in does not make. Everything that has a life of its own is
tested against the stand-in.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import stripe

from plans.stripe_client import Stripe

Json = dict[str, Any]


class Wire(stripe.HTTPClient):
    """Answers from ``objects`` (id to object); keeps what was asked in ``asked``."""

    name = "wire"

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, Json] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        # Called before each answer: raises, or returns (status, body) to answer with.
        self.fault: Callable[[str, str], tuple[int, Json] | None] | None = None
        self.headers: list[Mapping[str, str]] = []

    def put(self, *objects: Json) -> None:
        for found in objects:
            self.objects[found["id"]] = found

    def remove(self, found_id: str) -> None:
        self.objects.pop(found_id, None)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        parts = urlsplit(url)
        params = dict(parse_qsl(parts.query or (post_data if isinstance(post_data, str) else "")))
        self.asked.append((method, parts.path, params))
        self.headers.append(headers or {})
        answer = self.fault(method, parts.path) if self.fault else None
        status, body = answer or self._answer(method, parts.path, params)
        return json.dumps(body), status, {"Request-Id": "req_1"}

    def close(self) -> None:
        pass

    def _answer(self, method: str, path: str, params: dict[str, str]) -> tuple[int, Json]:
        last = unquote(path.rsplit("/", 1)[-1])
        if method == "get" and last in self.objects:
            return 200, self.objects[last]
        kinds = {
            "subscriptions": "subscription",
            "invoices": "invoice",
            "events": "event",
            "subscription_items": "subscription_item",
            "products": "product",
            "prices": "price",
        }
        if method == "get" and last in kinds:
            return 200, self._list(kinds[last], params)
        return 404, {
            "error": {
                "code": "resource_missing",
                "type": "invalid_request_error",
                "message": f"No such object: {last}",
            }
        }

    def _list(self, kind: str, params: dict[str, str]) -> Json:
        found = [one for one in self.objects.values() if one.get("object") == kind]
        for name in ("customer", "subscription", "product"):
            if name in params:
                found = [one for one in found if _refers(one, name, params[name])]
        found.sort(key=lambda one: one.get("created", 0), reverse=True)
        if "starting_after" in params:
            ids = [one["id"] for one in found]
            found = found[ids.index(params["starting_after"]) + 1 :]
        limit = int(params.get("limit", 10))
        return {"object": "list", "data": found[:limit], "has_more": len(found) > limit}

    @property
    def writes(self) -> list[str]:
        return [path for method, path, _ in self.asked if method == "post"]


def _refers(found: Json, name: str, wanted: str) -> bool:
    if name == "subscription" and found["object"] == "invoice":
        details = (found.get("parent") or {}).get("subscription_details") or {}
        return bool(details.get("subscription") == wanted)
    return bool(found.get(name) == wanted)


def stripe_over(wire: Wire) -> Stripe:
    return Stripe(http_client=wire, retries=0)
