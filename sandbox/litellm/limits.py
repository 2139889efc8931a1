"""Rate limits as LiteLLM 1.106 counts them (its parallel_request_limiter_v3), for one process.

A window opens with the first request and lasts a minute; requests and tokens of one holder share
it. Tokens are reserved before the call (see `reservation`) and put right after it. A refused
request counts as a request and takes nothing else. Requests in flight are a gauge without a window.
"""

from dataclasses import dataclass, field

from sandbox.litellm.errors import Refusal, rate_limited

CHARACTERS_PER_TOKEN = 4
# Reserved for the answer when the request names no max_tokens, unless a quarter of the limit is
# less: and then LiteLLM also caps the answer at that quarter.
FLOOR = 1024
SHARE_OF_LIMIT = 4


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody with limits: an api_key, a user or a team. None is no limit, 0 refuses all."""

    owner: str
    name: str
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None


@dataclass(slots=True)
class Window:
    start: float = 0.0
    requests: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Grant:
    """What one admitted request holds until it is settled."""

    reserved: int = 0
    windows: list[tuple[Window, float]] = field(default_factory=list)
    gauges: list[str] = field(default_factory=list)
    # What the answer's x-ratelimit-* headers say.
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


def reservation(
    characters: int, max_tokens: int | None, candidates: int, tpm: int | None
) -> tuple[int, int | None]:
    """Tokens to reserve, and the cap that LiteLLM then puts on the answer (None: none)."""
    prompt = max(1, characters // CHARACTERS_PER_TOKEN) if characters else 0
    floor = FLOOR if tpm is None else min(FLOOR, max(1, tpm // SHARE_OF_LIMIT))
    if max_tokens is not None:
        return prompt + max_tokens * candidates, None
    answer = max(prompt, floor) if characters else 0
    return prompt + answer * candidates, floor if floor < FLOOR else None


class Limiter:
    def __init__(self, window_seconds: int) -> None:
        self.window_seconds = window_seconds
        self.windows: dict[str, Window] = {}
        self.in_flight: dict[str, int] = {}

    def admit(self, holders: tuple[Holder, ...], reserved: int, now: float) -> Grant:
        """Admit a request by every holder's limits. Raises Refusal (429)."""
        for holder in holders:
            self._check(holder, reserved, now)
        grant = Grant(reserved)
        for holder in holders:
            self._take(holder, grant)
        return grant

    def settle(self, grant: Grant, tokens: int) -> None:
        """The request is over and took `tokens`: correct the reservation, free the slot."""
        for window, start in grant.windows:
            if window.start == start:
                window.tokens += tokens - grant.reserved
        for name in grant.gauges:
            self.in_flight[name] -= 1
        grant.windows = []
        grant.gauges = []

    def clear(self) -> None:
        self.windows.clear()
        self.in_flight.clear()

    def _check(self, holder: Holder, reserved: int, now: float) -> None:
        if holder.rpm is not None or holder.tpm is not None:
            window = self.windows.get(holder.name)
            if window is None:
                window = self.windows[holder.name] = Window(now)
            elif now - window.start >= self.window_seconds:
                window.start, window.requests, window.tokens = now, 0, 0
            window.requests += 1
            if holder.rpm is not None and window.requests > holder.rpm:
                raise self._refusal(holder, "requests", holder.rpm, window.requests)
            if holder.tpm is not None and window.tokens + reserved > holder.tpm:
                raise self._refusal(holder, "tokens", holder.tpm, window.tokens)
        if holder.parallel is not None:
            busy = self.in_flight.get(holder.name, 0)
            if busy >= holder.parallel:
                raise self._refusal(holder, "max_parallel_requests", holder.parallel, busy)

    def _take(self, holder: Holder, grant: Grant) -> None:
        say = grant.headers.append
        owner = holder.owner.encode()
        if holder.rpm is not None or holder.tpm is not None:
            window = self.windows[holder.name]
            if holder.rpm is not None:
                left = holder.rpm - window.requests
                say((b"x-ratelimit-%s-remaining-requests" % owner, b"%d" % left))
                say((b"x-ratelimit-%s-limit-requests" % owner, b"%d" % holder.rpm))
            if holder.tpm is not None:
                window.tokens += grant.reserved
                grant.windows.append((window, window.start))
                left = holder.tpm - window.tokens
                say((b"x-ratelimit-%s-remaining-tokens" % owner, b"%d" % left))
                say((b"x-ratelimit-%s-limit-tokens" % owner, b"%d" % holder.tpm))
        if holder.parallel is not None:
            busy = self.in_flight.get(holder.name, 0) + 1
            self.in_flight[holder.name] = busy
            grant.gauges.append(holder.name)
            left = holder.parallel - busy
            say((b"x-ratelimit-%s-remaining-max_parallel_requests" % owner, b"%d" % left))
            say((b"x-ratelimit-%s-limit-max_parallel_requests" % owner, b"%d" % holder.parallel))

    def _refusal(self, holder: Holder, rate_type: str, limit: int, used: int) -> Refusal:
        return rate_limited(
            holder.owner, holder.name, rate_type, limit, limit - used, self.window_seconds
        )
