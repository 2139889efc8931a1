"""Nothing of a request waits for the garbage collector: with its generations set for thousands of
streams, a full round comes hours later, and memory grows until then."""

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.chatproxy import gateway as scripted
from tests.chatproxy.conftest import eventually
from tests.chatproxy.gateway import Asked, Wire, chunk


async def hangs_up(asked: Asked, wire: Wire) -> None:
    await wire.start()
    await wire.frame(chunk(delta={"content": "so"}))
    wire.hang_up()


ANSWERS = {
    "completed": scripted.answers_plainly,
    "refused": scripted.refuses(400, "invalid_request_error"),
    "limited": scripted.refuses(429, "throttling_error", rate_limit_type="requests"),
    "failed": scripted.refuses(500, "internal_server_error"),
    "broken": hangs_up,
}
BODIES = {
    "unknown model": {"messages": [{"role": "user", "content": "hi"}], "selectedModelId": "x"},
    "no messages": {"messages": []},
    "nonsense": b"{{",
}


@pytest.fixture
def collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()
    gc.collect()


def left() -> Counter[str]:
    """What of ours, and of the server's for us, only the collector would have found."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    gc.collect()
    gc.set_debug(0)
    ours = ("chatproxy.", "uvicorn.", "tesslate.lib.errors")
    return Counter(
        type(thing).__qualname__ for thing in gc.garbage if type(thing).__module__.startswith(ours)
    )


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_answer_leaves_nothing_behind(server, gateway, collector, answer):
    gateway.script = ANSWERS[answer]
    for _ in range(2):
        server.chat()
    server.flush()
    assert left() == {}


@pytest.mark.parametrize("body", BODIES)
def test_a_refusal_leaves_nothing_behind(server, collector, body):
    for _ in range(2):
        assert server.chat(BODIES[body]).status_code == 400
    server.flush()
    assert left() == {}


def test_a_client_that_leaves_leaves_nothing_behind(server, gateway, collector):
    async def goes_on(asked: Asked, wire: Wire) -> None:
        await wire.start()
        await wire.frame(chunk(delta={"content": "so"}))
        await wire.wait_gone(5)

    gateway.script = goes_on
    with server.stream() as response:
        next(response.iter_bytes())
    assert server.row().outcome == "abandoned"
    assert eventually(lambda: not server.runtime.live)
    assert left() == {}
