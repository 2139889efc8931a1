"""A chat request that is under way."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from chatproxy.callers import Caller
from chatproxy.catalogue import Catalogue, PlanTerms
from chatproxy.exchange import Exchange
from chatproxy.frames import Frames
from chatproxy.idempotency import LONGEST_ANSWER, Claim
from chatproxy.upstream import Answer
from tesslate.lib.errors import ApiError


@dataclass(slots=True, eq=False)
class Live:
    """A request under way: what the watcher of the clock needs to see and to reach."""

    exchange: Exchange
    caller: Caller
    plan: PlanTerms
    catalogue: Catalogue
    frames: Frames
    answer: Answer | None = None
    task: asyncio.Task[Any] | None = None
    # Called when the gateway has said nothing for a while and the client waits for a status.
    on_silence: Callable[[], Awaitable[None]] | None = None
    active_at: float = field(default_factory=time.monotonic)
    heard_at: float = field(default_factory=time.monotonic)
    # When the client began to be slow in taking what was sent; zero while it is not.
    sending_since: float = 0.0
    # Takes a chunk at once if it can; where it cannot, ``settle`` waits until it is taken.
    send_now: Callable[[bytes], bool] | None = None
    settle: Callable[[], Awaitable[None]] | None = None
    # Set to end the stream with this error.
    stop: ApiError | None = None
    # What was passed on, where it is to be kept: for a repeat of the request, or by the plan.
    kept: list[bytes] | None = None
    kept_bytes: int = 0
    # The request has an idempotency key: its repeat fetches the answer, so it is read to its end.
    claim: Claim | None = None
    messages: list[Any] = field(default_factory=list)
    tools: object = None
    # Of our own system prompts.
    prompt_bytes: int = 0
    is_complete: bool = False
    is_cut: bool = False

    def note(self, passed: bytes, at: float) -> None:
        """These bytes came at that moment and go to the client now."""
        self.heard_at = self.active_at = at
        if self.exchange.first_byte is None:
            self.exchange.first_byte = at
        if self.kept is not None:
            self.keep(passed)

    async def catch_up(self) -> bool:
        """Wait for a slow client to take what ``send_now`` began; say whether there was any."""
        if not self.sending_since or self.settle is None:
            return False
        await self.settle()
        self.sending_since = 0.0
        return True

    def keep(self, data: bytes) -> None:
        if self.kept is None:
            return
        self.kept_bytes += len(data)
        if self.kept_bytes > LONGEST_ANSWER:
            self.kept = None
        else:
            self.kept.append(data)

    def leave(self) -> None:
        """The client is gone."""
        if not self.exchange.is_over:
            self.cut()

    def cut(self) -> None:
        """End it without a word: nobody listens."""
        self.is_cut = True
        if self.task is not None:
            self.task.cancel()
