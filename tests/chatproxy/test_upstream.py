"""The pool of connections to the gateway, at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import uvloop

from chatproxy.upstream import Answer, BrokenOff, GatewayDown, Upstream

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"


class Peer:
    """A gateway that begins each answer, and then says no more."""

    def __init__(self) -> None:
        self.port = 0
        self.accepted = asyncio.Event()
        self.lost = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.set()
        writer.write(HEAD + b"half")
        with suppress(ConnectionError):
            while await reader.read(1024):
                pass
        self.lost.set()
        writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    async with server:
        yield peer


@pytest.fixture
def upstream(peer: Peer) -> Upstream:
    return Upstream(f"http://127.0.0.1:{peer.port}", connect_timeout=5)


async def test_closing_the_pool_ends_an_answer_that_is_still_being_read(peer, upstream):
    answer = await upstream.get(b"/", b"")
    assert await answer.next() == b"half"
    upstream.close()
    async with asyncio.timeout(5):
        with pytest.raises(BrokenOff):
            await answer.next()
        await peer.lost.wait()


async def test_closing_the_pool_ends_an_answer_that_nobody_waits_for_any_more(peer, upstream):
    answer = await upstream.get(b"/", b"")
    reading = asyncio.create_task(answer.read(10))
    async with asyncio.timeout(5):
        await peer.accepted.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    upstream.close()
    async with asyncio.timeout(5):
        await peer.lost.wait()


async def test_a_connection_made_after_the_pool_was_closed_does_not_stay(peer, upstream):
    upstream.close()
    async with asyncio.timeout(5):
        with pytest.raises(GatewayDown):
            await upstream.get(b"/", b"")
        await peer.lost.wait()


def test_a_connection_made_for_somebody_who_left_meanwhile_is_not_kept():
    async def leave_while_connecting() -> int:
        peer = Peer()
        server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            upstream = Upstream(f"http://127.0.0.1:{port}", connect_timeout=5)
            for turns in range(12):
                asking = asyncio.create_task(upstream.get(b"/", b""))
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                answers = await asyncio.gather(asking, return_exceptions=True)
                for answer in answers:
                    if isinstance(answer, Answer):
                        answer.close()
            for _ in range(500):
                if upstream.connections == 0:
                    break
                await asyncio.sleep(0.01)
            return upstream.connections

    # As the server runs it: asyncio's own loop tells of such connections, uvloop does not.
    assert uvloop.run(leave_while_connecting()) == 0
