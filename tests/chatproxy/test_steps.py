"""Coroutines that are begun where there is no task."""

import asyncio

from chatproxy.steps import Departure, begin, rest


class Log(list[str]):
    async def write(self, gate: asyncio.Event, word: str) -> None:
        await gate.wait()
        self.append(word)


async def test_what_need_not_wait_is_over_at_once():
    log, gate = Log(), asyncio.Event()
    gate.set()
    assert begin(log.write(gate, "done").__await__()) is None
    assert log == ["done"]


async def test_what_has_to_wait_is_finished_by_the_task_that_awaits_the_rest():
    log, gate = Log(), asyncio.Event()
    writing = log.write(gate, "done").__await__()
    waiting = begin(writing)
    asyncio.get_running_loop().call_later(0.01, gate.set)
    assert log == []
    await rest(writing, waiting)
    assert log == ["done"]


async def test_a_task_that_is_cancelled_meanwhile_ends_it():
    log, gate = Log(), asyncio.Event()
    writing = log.write(gate, "done").__await__()
    task = asyncio.create_task(asyncio.wait_for(rest(writing, begin(writing)), 5))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    gate.set()
    await asyncio.sleep(0)
    assert task.cancelled()
    assert log == []


class Server:
    """An ASGI server's ``receive``, as far as a departure is concerned."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self.departures = 0
        self.departure = Departure(self.messages.get, self.count)

    def count(self) -> None:
        self.departures += 1

    async def tell(self, kind: str) -> None:
        self.messages.put_nowait({"type": kind})
        for _ in range(3):
            await asyncio.sleep(0)


async def test_a_departure_is_told_once_whatever_comes_before():
    server = Server()
    await server.tell("http.request")
    assert server.departures == 0
    await server.tell("http.disconnect")
    await server.tell("http.disconnect")
    assert server.departures == 1


async def test_a_departure_just_after_the_end_is_nobodys_business(caplog):
    server = Server()
    server.messages.put_nowait({"type": "http.disconnect"})  # on its way
    server.departure.close()
    await server.tell("http.disconnect")
    assert server.departures == 0
    assert not caplog.records
