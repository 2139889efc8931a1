"""Pass an answer on, count it, and record the exchange however it ends.

Both entrances use these steps: ``ask`` gets an answer (or the refusal to tell), ``stream`` or
``whole`` hands its body over. Whoever consumes them may be cancelled at any moment, which means
that the client has left; what that costs is the plan's policy (``Plan.AbortBilling``):

    delivered           upstream is cancelled; the prompt and what was sent to the client count
    after_first_token   likewise, but nothing counts unless something was sent
    generated           upstream is read to its end; what the gateway then tells counts
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from chatproxy import metrics
from chatproxy.errors import (
    GatewayUnavailable,
    ProviderFailed,
    ProviderTimeout,
    StreamBroken,
    read_refusal,
)
from chatproxy.exchange import (
    CLIENT_LEFT,
    Exchange,
    Outcome,
    Usage,
    error_event,
    usage_event,
)
from chatproxy.frames import DONE, FrameTooLong
from chatproxy.live import Live
from chatproxy.models import ChatRequest
from chatproxy.refusals import GATEWAY_WAIT_SECONDS, explain
from chatproxy.tally import Tally
from chatproxy.traces import begin_attempt
from chatproxy.upstream import (
    ATTEMPTS,
    NO_TRACE,
    Answer,
    BrokenOff,
    GatewayDown,
    Sink,
    Upstream,
    back_off,
    is_worth_retrying,
    request_headers,
)
from plans.models import Plan
from tesslate.lib.errors import ApiError
from tesslate.lib.logcontext import bind

logger = logging.getLogger(__name__)

CHAT_PATH = b"/v1/chat/completions"
KEEP_ALIVE = b": keep-alive\n\n"
# Error answers are small, whole answers are not; whatever is longer is cut.
LONGEST_ERROR_BYTES = 64 * 1024
LONGEST_ANSWER_BYTES = 64 * 1024 * 1024
# The model had finished when the client left: its usage is a moment away.
LAST_WORDS_SECONDS = 5.0

Policy = Plan.AbortBilling


class Relay:
    """``settled`` is called once for each exchange, when all is known of it."""

    def __init__(
        self,
        upstream: Upstream,
        *,
        settled: Callable[[Live], None],
        heal: Callable[[Live], None],
        cost_of: Callable[[str, int, int], Decimal | None],
        spawn: Callable[[Any], None],
        timeout: float,
    ) -> None:
        self._upstream = upstream
        self._settled = settled
        self._heal = heal
        self._tally = Tally(cost_of)
        self._spawn = spawn
        self._timeout = timeout

    async def ask(self, live: Live, payload: bytes) -> Answer:
        """The gateway's answer, headers read. Raises the ApiError to tell when it is a refusal."""
        exchange = live.exchange
        try:
            for attempt in range(ATTEMPTS):
                is_last = attempt == ATTEMPTS - 1
                answer = await self._attempt(live, payload, attempt)
                if answer is not None and answer.status == 200:
                    exchange.status = 200
                    self._note_model(exchange, answer)
                    return answer
                headers = {} if answer is None else answer.headers
                if answer is not None and (
                    is_last or not is_worth_retrying(answer.status, headers)
                ):
                    raise await self._refusal(live, answer)
                if not is_last:
                    metrics.RETRIES.inc()
                    await back_off(attempt, headers)
            raise GatewayUnavailable(retry_after=GATEWAY_WAIT_SECONDS)
        except asyncio.CancelledError:
            self._left(live)
            raise
        except ApiError:
            if live.answer is not None:
                live.answer.close()
            raise

    async def stream(self, live: Live) -> AsyncGenerator[bytes, None]:
        """Whole frames, as they come; at the end either [DONE] or an error event."""
        answer, frames = live.answer, live.frames
        assert answer is not None
        error: ApiError | None = None
        sink = _sink(live, answer)
        try:
            while error is None:
                try:
                    data = await answer.next(sink)
                except BrokenOff as broken:
                    data, error = b"", _broken(broken)
                was_blocked = await live.catch_up()
                if data is None:
                    error = self._look_around(live)
                    if error is None and not was_blocked:
                        yield KEEP_ALIVE
                    continue
                if not data:
                    break
                passed = frames.feed(data)
                live.heard_at = live.active_at = time.monotonic()
                if passed:
                    live.note(passed, live.heard_at)
                    live.sending_since = live.heard_at
                    yield passed
                    live.sending_since = 0.0
                if frames.done or frames.error is not None:
                    break
        except FrameTooLong as broken:
            error = _broken(broken)
        except (asyncio.CancelledError, GeneratorExit):
            self._left(live)
            raise
        yield self._conclude(live, error)

    async def whole(self, live: Live) -> bytes:
        """An answer that does not stream. Raises ApiError when it cannot be had."""
        answer, exchange = live.answer, live.exchange
        assert answer is not None
        try:
            body = await self._read_whole(live, answer)
        except BrokenOff:
            raise ProviderFailed from None
        except asyncio.CancelledError:
            self._left(live)
            raise
        exchange.tell_first_byte()
        if not self._tally.take_whole(live, body):
            raise ProviderFailed
        exchange.outcome = Outcome.COMPLETED
        self._settled(live)
        return body

    def refuse(self, live: Live, error: ApiError) -> None:
        """The caller is told ``error`` in place of an answer."""
        if not live.exchange.is_over:
            live.exchange.refuse(error)
            self._settled(live)

    # Asking

    async def _attempt(self, live: Live, payload: bytes, attempt: int) -> Answer | None:
        """One try: an answer with its headers, or None when the gateway is not there."""
        exchange = live.exchange
        exchange.attempts = attempt + 1
        exchange.call_id = f"{exchange.id}-{attempt + 1}" if attempt else exchange.id
        bind(gateway_call_id=exchange.call_id)
        assert live.caller.credential is not None
        headers = request_headers(
            secret=live.caller.credential.secret,
            call_id=exchange.call_id,
            trace=NO_TRACE if exchange.span is None else begin_attempt(exchange),
        )
        live.heard_at = time.monotonic()
        try:
            live.answer = answer = await self._upstream.post(CHAT_PATH, headers, payload)
            while not await answer.head():
                if (error := self._look_around(live)) is not None:
                    raise error
                if live.on_silence is not None:
                    await live.on_silence()
        except GatewayDown as error:
            logger.warning("The gateway does not answer: %s", error)
            live.answer = None
            return None
        return answer

    async def _refusal(self, live: Live, answer: Answer) -> ApiError:
        try:
            body = await answer.read(LONGEST_ERROR_BYTES)
        except BrokenOff:
            body = b""
        now = datetime.now(UTC)
        refusal = read_refusal(answer.status, answer.headers, body, now=now)
        live.exchange.decision = {"gateway": refusal.as_decision()}
        if refusal.concerns_key or refusal.is_model_denied:
            self._heal(live)
        return explain(
            refusal, caller=live.caller, plan=live.plan, catalogue=live.catalogue, now=now
        )

    def _look_around(self, live: Live) -> ApiError | None:
        """Nudged: why should this not go on?"""
        if live.stop is not None:
            return live.stop
        if time.monotonic() - live.heard_at > self._timeout:
            return ProviderTimeout()
        return None

    def _note_model(self, exchange: Exchange, answer: Answer) -> None:
        """Where the gateway fell back, another model than the one asked for has answered."""
        served = answer.headers.get("x-litellm-model-group", "")
        if served and served != exchange.model:
            exchange.served_model = served[:200]

    # Ending

    def _conclude(self, live: Live, error: ApiError | None) -> bytes:
        """The gateway has said all that it will: settle, and answer the stream's last bytes."""
        frames, exchange, answer = live.frames, live.exchange, live.answer
        assert answer is not None
        if error is None and (frames.error is not None or not (frames.done or frames.has_finished)):
            error = StreamBroken()
        exchange.usage = self._tally.of_stream(live)
        if error is not None:
            answer.close()
            exchange.outcome = Outcome.BROKEN
            exchange.error_code = error.code
            if frames.error is not None:
                kind = str(frames.error.get("type") or "")[:60]
                exchange.decision = {"gateway": {"type": kind}}
            self._settled(live)
            return error_event(error)
        self._let_finish(answer)
        exchange.outcome = Outcome.COMPLETED
        last = DONE
        if exchange.client == ChatRequest.Client.CHAT:
            last = usage_event(exchange) + DONE
        live.keep(last)
        live.is_complete = True
        self._settled(live)
        return last

    def _let_finish(self, answer: Answer) -> None:
        """The end of the HTTP message follows [DONE] by a hair; then the connection is reused."""
        if not answer.is_complete:
            asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS, answer.close)

    def _left(self, live: Live) -> None:
        """The client is gone (or no longer served). Cancel upstream at once, or read on."""
        exchange, answer = live.exchange, live.answer
        if exchange.is_over:
            return
        exchange.outcome = Outcome.ABANDONED
        has_finished = live.frames.has_finished
        if not exchange.status:
            exchange.status = CLIENT_LEFT
        drains = (
            has_finished or live.claim is not None or live.plan.abort_billing == Policy.GENERATED
        )
        exchange.decision = {
            "abort_policy": live.plan.abort_billing,
            "upstream": "drained" if drains else "cancelled",
            "delivered_tokens": live.frames.delivered_tokens(),
        }
        if answer is None or not drains:
            if answer is not None:
                answer.close()
            exchange.usage = self._tally.of_abandoned(live)
            self._settled(live)
            return
        if has_finished:  # it got everything: a clean end, only its usage is missing
            exchange.outcome = Outcome.COMPLETED
            exchange.decision = None
        self._spawn(self._drain(live, LAST_WORDS_SECONDS if has_finished else self._timeout))

    async def _drain(self, live: Live, seconds: float) -> None:
        """Read an answer to its end that nobody waits for."""
        answer = live.answer
        assert answer is not None
        try:
            async with asyncio.timeout(seconds):
                while not await answer.head():
                    pass
                if answer.status == 200:
                    await self._read_on(live, answer)
        except (TimeoutError, GatewayDown, BrokenOff, FrameTooLong):
            answer.close()
            live.exchange.usage = self._tally.of_stream(live) if answer.has_head else Usage()
        except asyncio.CancelledError:  # the process ends
            answer.close()
            live.exchange.usage = self._tally.of_stream(live)
        self._settled(live)

    async def _read_on(self, live: Live, answer: Answer) -> None:
        if not live.exchange.is_stream:
            self._tally.take_whole(live, await self._read_whole(live, answer))
            return
        frames = live.frames
        while not frames.done and frames.error is None and (data := await answer.next()) != b"":
            live.keep(frames.feed(data or b""))
        live.exchange.usage = self._tally.of_stream(live)
        if frames.error is None and (frames.done or frames.has_finished):
            live.keep(DONE)
            live.is_complete = True
        self._let_finish(answer)

    async def _read_whole(self, live: Live, answer: Answer) -> bytes:
        parts = []
        size = 0
        while (data := await answer.next()) != b"":
            if data is None:
                if (error := self._look_around(live)) is not None:
                    answer.close()
                    raise error
                continue
            parts.append(data)
            size += len(data)
            if size > LONGEST_ANSWER_BYTES:
                answer.close()
                raise BrokenOff("too long")
        return b"".join(parts)


def _broken(fault: Exception) -> StreamBroken:
    logger.warning("The gateway's stream broke: %s", fault)
    return StreamBroken()


def _sink(live: Live, answer: Answer) -> Sink | None:
    """Passes plain frames on from where they arrive, without waking the request's task."""
    send_now = live.send_now
    if send_now is None:
        return None
    pass_plain = live.frames.pass_plain

    def sink(data: bytes) -> bool:
        if not pass_plain(data):
            return False
        live.note(data, time.monotonic())
        if not send_now(data):  # the client is slow: the task has to wait for it
            live.sending_since = live.heard_at
            answer.nudge()
        return True

    return sink
