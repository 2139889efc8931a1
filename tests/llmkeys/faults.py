"""Things that go wrong between us and the gateway, for StandIn.before and StandIn.after."""

import httpx

from tests.llmkeys.standin import Fault


def refused(request: httpx.Request) -> httpx.Response | None:
    raise httpx.ConnectError("refused", request=request)


def silent(request: httpx.Request) -> httpx.Response | None:
    raise httpx.ReadTimeout("silent", request=request)


def torn(request: httpx.Request) -> httpx.Response | None:
    return httpx.Response(200, content=b'{"key": "torn', request=request)


def answering(status: int, body: object = None, **headers: str) -> Fault:
    shape = {"error": {"message": "no", "type": "internal_server_error", "param": None}}

    def fault(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(status, json=shape if body is None else body, headers=headers)

    return fault


def on(path: str, fault: Fault, *, times: int = 1) -> Fault:
    """Only on calls to this path, and only so often."""
    left = [times]

    def chosen(request: httpx.Request) -> httpx.Response | None:
        if path not in request.url.path or left[0] == 0:
            return None
        left[0] -= 1
        return fault(request)

    return chosen
