"""Sending what the queue holds: signed, concurrently, again until it is taken."""

import asyncio
import contextlib
import time
from typing import Any

import aiohttp

from sandbox.stripe.delivery.queue import Attempt, Delivery, DeliveryQueue
from sandbox.stripe.payloads import payload, signature

Json = dict[str, Any]

CONCURRENCY = 16
TIMEOUT_SECONDS = 20.0


class Sender:
    """Lives in one event loop, from `start` to `stop`; `queue.wake` may be called from any."""

    def __init__(self, queue: DeliveryQueue) -> None:
        self.queue = queue
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._main: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONCURRENCY),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
        )
        self.queue.wake = self._wake
        self._main = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self.queue.wake = lambda: None
        doomed = [task for task in (self._main, *self._tasks) if task]
        for task in doomed:
            task.cancel()
        await asyncio.gather(*doomed, return_exceptions=True)
        if self._session:
            await self._session.close()

    def _wake(self) -> None:
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def _run(self) -> None:
        while True:
            for delivery in self.queue.take_due():
                self._begin(delivery)
            due = self.queue.next_due()
            wait = None if due is None else max(0.0, due - time.time())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait)
            self._woken.clear()

    def _begin(self, delivery: Delivery) -> asyncio.Task[None]:
        task = asyncio.create_task(self._send(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def flush(self) -> Json:
        """Attempt everything that waits, now and even when paused; tells how it went."""
        taken = self.queue.take_all()
        await asyncio.gather(*(self._begin(delivery) for delivery in taken), *self._tasks)
        states = [delivery.state for delivery in taken]
        return {
            "attempted": len(taken),
            "delivered": states.count("delivered"),
            "waiting": len(self.queue.waiting),
        }

    async def _send(self, delivery: Delivery) -> None:
        world = self.queue.world
        endpoint = world.find("webhook_endpoint", delivery.endpoint)
        event = world.log.find(delivery.event)
        if endpoint is None or event is None or self._session is None:
            self.queue.forget(delivery)
            return
        async with self._slots:
            body = payload(world, event, endpoint["api_version"])
            headers = {
                "Content-Type": "application/json; charset=utf-8",
                "Stripe-Signature": signature(body, endpoint["_secret"]),
                "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            }
            begun, status, error = time.time(), None, None
            try:
                async with self._session.post(
                    endpoint["url"], data=body, headers=headers, allow_redirects=False
                ) as response:
                    await response.read()
                    status = response.status
            except (aiohttp.ClientError, TimeoutError, OSError) as problem:
                error = f"{type(problem).__name__}: {problem}"
        milliseconds = round((time.time() - begun) * 1000, 3)
        self.queue.settle(delivery, Attempt(begun, milliseconds, status, error))
