"""The official client without a network: an HTTP client for `stripe` that calls the API directly.

    client = in_process_client(engine)
    client.v1.subscriptions.retrieve("sub_…")

Requests go through the same door as over HTTP: form encoding, keys, versions, idempotency, errors.
`trouble`, if given, is asked before each request and may raise `stripe.APIConnectionError`, or give
a status to answer instead (429, 500, …).
"""

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import stripe
from stripe import HTTPClient

from sandbox.stripe.api import Api, Request, envelope
from sandbox.stripe.engine import StripeEngine

SECRET_KEY = "sk_test_in_process"
Trouble = Callable[[str, str], int | None]


class Headers(dict[str, str]):
    """As the client's own transports give them: names in any case."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__({name.lower(): value for name, value in given.items()})

    def __getitem__(self, name: str) -> str:
        return super().__getitem__(name.lower())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get(self, name: str, default: Any = None) -> Any:
        return super().get(name.lower(), default)


class InProcessHTTPClient(HTTPClient):
    name = "in-process"

    def __init__(self, api: Api, trouble: Trouble | None = None) -> None:
        super().__init__()
        self.api = api
        self.trouble = trouble

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
        if self.trouble:
            status = self.trouble(method.upper(), parts.path)
            if status is not None:
                return envelope(status).decode(), status, Headers({"Request-Id": "req_trouble"})
        body = post_data.encode() if isinstance(post_data, str) else post_data or b""
        reply = self.api.handle(
            Request(
                method=method.upper(),
                path=parts.path,
                query=parts.query,
                headers={name.lower(): value for name, value in (headers or {}).items()},
                body=body,
            )
        )
        return reply.body.decode(), reply.status, Headers(reply.headers)

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        body, status, given = self.request(method, url, headers, post_data)
        return body.encode(), status, given

    def close(self) -> None:
        pass

    async def close_async(self) -> None:
        pass


def in_process_client(
    engine: StripeEngine, *, trouble: Trouble | None = None, **options: Any
) -> stripe.StripeClient:
    """An official client whose requests `engine` answers, with no socket in between."""
    transport = InProcessHTTPClient(Api(engine.world, SECRET_KEY), trouble)
    return stripe.StripeClient(SECRET_KEY, http_client=transport, **options)
