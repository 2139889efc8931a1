"""What a process keeps between chat requests: caches, connections, the ledger, running streams."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError

from chatproxy import metrics
from chatproxy.caches import DatabaseThreads, Remembered
from chatproxy.catalogue import Catalogue, load_catalogue
from chatproxy.content import store_content
from chatproxy.errors import ShuttingDown
from chatproxy.exchange import Exchange, Outcome
from chatproxy.frames import Frames
from chatproxy.gate import Call, admit, compose
from chatproxy.idempotency import Claim, Idempotency, Kept, read_key
from chatproxy.identity import Bearer, Identities
from chatproxy.ledger import Ledger
from chatproxy.live import Live
from chatproxy.prompts import EMPTY, PromptSet, Rendered, load_prompts
from chatproxy.rates import REFRESH_SECONDS, RETRY_SECONDS, Rates
from chatproxy.refusals import too_many_streams
from chatproxy.relay import Relay
from chatproxy.spill import Spill
from chatproxy.traces import end_request
from chatproxy.upstream import Upstream
from llmkeys.services import heal_key
from tesslate.lib.cause import Cause
from tesslate.lib.changes import PLANS, PROMPTS, Change, subscribe
from tesslate.lib.errors import ApiError
from tesslate.lib.lifecycle import begin_drain

logger = logging.getLogger(__name__)

TICK_SECONDS = 1.0
# Until work that did not hear that it is to end is told again.
DEAF_SECONDS = 0.2
HEAL_SECONDS = 60.0
MOST_HEALED = 10_000


class Runtime:
    """One per event loop; ``start`` and ``stop`` frame its life."""

    def __init__(self) -> None:
        seconds = settings.CHAT_CACHE_SECONDS
        self.threads = DatabaseThreads()
        self.identities = Identities(self.threads, seconds=seconds)
        self._catalogue = Remembered[None, Catalogue](threads=self.threads, seconds=seconds, size=1)
        self._prompts = Remembered[None, PromptSet](threads=self.threads, seconds=seconds, size=1)
        self.upstream = Upstream(
            settings.LITELLM_URL, connect_timeout=settings.CHAT_CONNECT_TIMEOUT_SECONDS
        )
        self.rates = Rates(self.upstream)
        self.idempotency = Idempotency()
        self.ledger = Ledger(Spill(Path(settings.CHAT_SPILL_DIR)))
        self.relay = Relay(
            self.upstream,
            settled=self._settled,
            heal=self._heal,
            cost_of=self.rates.cost,
            spawn=self.spawn,
            timeout=settings.CHAT_TIMEOUT_SECONDS,
        )
        self.live: set[Live] = set()
        # Requests under way per user, in this process. The gateway counts over all processes
        # (max_parallel_requests of the key's budget row); this count refuses without asking it.
        self._running: dict[int, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._healed: dict[int, float] = {}
        self._stores_content = settings.CHAT_STORE_CONTENT
        self.is_draining = False
        self._all_ended = asyncio.Event()

    def start(self) -> None:
        self.ledger.start()
        self.spawn(self._watch_clock())
        self.spawn(self._follow_changes())
        self.spawn(self._follow_prices())

    async def stop(self) -> None:
        """End what runs, then see to it that everything is on the books."""
        tasks = [*self._tasks]
        while running := [task for task in tasks if not task.done()]:
            # redis-py sends with wait_for, which can lose a cancellation before Python 3.12
            # (bpo-42130).
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=DEAF_SECONDS)
        await asyncio.gather(*tasks, return_exceptions=True)
        self.upstream.close()
        await self.idempotency.close()
        await asyncio.get_running_loop().run_in_executor(None, self.ledger.close)
        await asyncio.get_running_loop().run_in_executor(None, self.threads.close)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # The steps of a request

    async def identify(self, exchange: Exchange, bearer: Bearer) -> None:
        exchange.api_token_id = bearer.api_token_id
        exchange.caller = await self.identities.caller(bearer.user_id)

    async def begin(
        self, exchange: Exchange, read: Callable[[bytes], Call], body: bytes, key: str | None
    ) -> tuple[Live, bytes] | Kept:
        """Let an identified request in: its payload for the gateway, or an answer given before.

        Raises the ApiError that keeps it out. Whoever gets a Live must see to it that its
        exchange is settled.
        """
        call = read(body)
        exchange.model = call.model
        exchange.is_stream = call.stream
        claim = None
        if (key := read_key(key)) is not None:
            found = await self._claim(exchange, key, body)
            if isinstance(found, Kept):
                return found
            claim = found
        try:
            live, payload = await self._admit(exchange, call)
        except BaseException:
            if claim is not None:
                self.spawn(self.idempotency.release(claim))
            raise
        live.claim = claim
        if claim is not None or live.plan.stores_content or self._stores_content:
            live.kept = []
        return live, payload

    async def _claim(self, exchange: Exchange, key: str, body: bytes) -> Claim | Kept | None:
        assert exchange.caller is not None
        exchange.idempotency_key = key
        found = await self.idempotency.claim(
            key, user_id=exchange.caller.user_id, body=body, request_id=exchange.public_id
        )
        if isinstance(found, Kept):
            exchange.plan = (await self.catalogue()).plans.get(exchange.caller.plan_id)
            exchange.outcome, exchange.status = Outcome.REPLAYED, 200
            exchange.decision = {"replays": found.request_id}
            self.record(exchange)
        return found

    async def _admit(self, exchange: Exchange, call: Call) -> tuple[Live, bytes]:
        caller = exchange.caller
        assert caller is not None
        catalogue = await self.catalogue()
        exchange.plan = catalogue.plans.get(caller.plan_id)
        if self.is_draining:
            raise ShuttingDown(retry_after=1)
        plan = admit(call, caller, catalogue)
        prompts = await self._render_prompts(exchange, call)
        payload = compose(call, plan, prompts)
        exchange.prompt_versions = prompts.version_ids
        # From here to the count nothing waits, or many at once would pass as one.
        running = self._running.get(caller.user_id, 0)
        if running >= plan.max_parallel_requests:
            raise too_many_streams(running, plan=plan, catalogue=catalogue)
        live = Live(
            exchange=exchange,
            caller=caller,
            plan=plan,
            catalogue=catalogue,
            frames=Frames(keeps_usage=call.wants_usage),
            messages=call.messages,
            tools=call.body.get("tools"),
            prompt_bytes=len(prompts.json) - len(EMPTY.json),
        )
        self._running[caller.user_id] = running + 1
        self.live.add(live)
        return live, payload

    def refuse(self, exchange: Exchange, error: ApiError) -> None:
        """Record a request that did not get as far as ``admit``'s answer."""
        exchange.refuse(error)
        self.record(exchange)

    def record(self, exchange: Exchange) -> None:
        if (record := exchange.record()) is not None:
            self.ledger.put(record)
        else:
            metrics.UNAUTHENTICATED.inc()
        if exchange.span is not None:
            end_request(exchange, exchange.span)

    async def catalogue(self) -> Catalogue:
        return self._catalogue.get(None) or await self._catalogue.fetch(None, load_catalogue)

    async def models_of(self, user_id: int) -> list[dict[str, Any]]:
        """What the user's plan includes now, as OpenAI lists models."""
        caller = await self.identities.caller(user_id)
        plan = (await self.catalogue()).plans.get(caller.plan_id)
        return [
            {"id": name, "object": "model", "created": 0, "owned_by": "tesslate"}
            for name in sorted(plan.models if plan else ())
        ]

    async def _render_prompts(self, exchange: Exchange, call: Call) -> Rendered:
        caller, plan = exchange.caller, exchange.plan
        assert caller is not None
        assert plan is not None
        prompts = self._prompts.get(None) or await self._prompts.fetch(None, load_prompts)
        try:
            return prompts.render(
                plan_code=plan.code,
                model=call.model,
                user_id=caller.user_id,
                user_name=caller.name,
                at=datetime.now(UTC),
            )
        except Exception:
            logger.exception("Prompts could not be rendered; the request goes without")
            metrics.PROMPT_FAULTS.inc()
            return EMPTY

    # What the relay asks for

    def _settled(self, live: Live) -> None:
        self.live.discard(live)
        if self.is_draining and not self.live:
            self._all_ended.set()
        user_id = live.caller.user_id
        left = self._running.get(user_id, 1) - 1
        if left > 0:
            self._running[user_id] = left
        else:
            self._running.pop(user_id, None)
        exchange = live.exchange
        record = exchange.record()
        assert record is not None
        self.ledger.put(record)
        if exchange.span is not None:
            end_request(exchange, exchange.span)
        if live.claim is not None:
            self.spawn(self._settle_claim(live, live.claim))
        if live.kept is not None and (live.plan.stores_content or self._stores_content):
            self.spawn(self._store_content(live))

    async def _settle_claim(self, live: Live, claim: Claim) -> None:
        if live.is_complete and live.kept is not None:
            body = b"".join(live.kept)
            await self.idempotency.keep(claim, body, is_stream=live.exchange.is_stream)
        else:
            await self.idempotency.release(claim)

    async def _store_content(self, live: Live) -> None:
        exchange, answer = live.exchange, b"".join(live.kept or ())
        try:
            await self.threads.run(
                lambda: store_content(
                    request_id=exchange.id,
                    started_ms=exchange.started_ms,
                    user_id=live.caller.user_id,
                    messages=live.messages,
                    answer=answer,
                    is_stream=exchange.is_stream,
                )
            )
        except DatabaseError as error:
            logger.warning("A conversation could not be kept: %s", type(error).__name__)

    def _heal(self, live: Live) -> None:
        """The gateway's idea of this key is not ours: have it put right, once in a while."""
        user_id = live.caller.user_id
        self.identities.callers.forget(user_id)
        now = time.monotonic()
        if self._healed.get(user_id, 0.0) > now - HEAL_SECONDS:
            return
        if len(self._healed) >= MOST_HEALED:
            self._healed.clear()
        self._healed[user_id] = now
        self.spawn(self._heal_in_thread(user_id))

    async def _heal_in_thread(self, user_id: int) -> None:
        cause = Cause.system("refused by the gateway")
        try:
            await self.threads.run(lambda: heal_key(user_id=user_id, cause=cause))
        except DatabaseError as error:
            logger.warning("A key could not be marked for healing: %s", type(error).__name__)

    # Background

    async def _watch_clock(self) -> None:
        """Once a second: who has been silent too long, and who does not read?"""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            metrics.ACTIVE.set(len(self.live))
            now = time.monotonic()
            for live in [*self.live]:
                if live.sending_since:
                    if now - live.sending_since > settings.CHAT_WRITE_TIMEOUT_SECONDS:
                        self._cut(live)
                elif now - live.active_at > settings.CHAT_KEEPALIVE_SECONDS:
                    live.active_at = now
                    if live.answer is not None:
                        live.answer.nudge()

    def _cut(self, live: Live) -> None:
        """A client that takes nothing holds memory here and a model there."""
        logger.info("A client stopped reading; its stream is cut")
        live.cut()

    def spawn_drain(self) -> None:
        if not self.is_draining:
            self.is_draining = True
            begin_drain()
            self.spawn(self._drain())

    async def _drain(self) -> None:
        """Let running streams end by themselves for a while, then end them with an error."""
        if self.live:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(settings.CHAT_DRAIN_SECONDS):
                    await self._all_ended.wait()
        for live in [*self.live]:
            live.stop = ShuttingDown()
            if live.answer is not None:
                live.answer.nudge()

    async def _follow_changes(self) -> None:
        async for change in subscribe():
            self.forget(change)

    async def _follow_prices(self) -> None:
        while True:
            is_known = await self.rates.refresh()
            await asyncio.sleep(REFRESH_SECONDS if is_known else RETRY_SECONDS)

    def forget(self, change: Change) -> None:
        if change.everything:
            self.identities.forget_all()
        else:
            self.identities.forget_users(change.user_ids)
        if change.everything or PLANS in change.kinds:
            self._catalogue.forget_all()
            # A caller's refusal and limits follow from its plan.
            self.identities.callers.forget_all()
        if change.everything or PROMPTS in change.kinds:
            self._prompts.forget_all()
