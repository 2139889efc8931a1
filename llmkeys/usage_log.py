"""Read rows of the gateway's spend log. Pure: no database, no network, no clock."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson

from llmkeys.spec import money

# LiteLLM's floats carry about 17 digits; ten decimals of a dollar are finer than any price.
PRECISION = Decimal("0.0000000001")
LARGEST = Decimal(10) ** 7


class Unreadable(Exception):
    """A row without a start, or with an amount that is none: nothing is guessed from it."""


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """One call, as the spend log has it. ``cost`` is in US dollars."""

    external_id: str
    key_hash: str
    call_id: str
    team_id: str
    started_at: datetime
    ended_at: datetime | None
    model: str
    provider_model: str
    provider: str
    failed: bool
    error_code: str
    prompt_tokens: int
    completion_tokens: int
    cost: Decimal
    is_unpriced: bool


def read_row(row: Mapping[str, Any]) -> LoggedCall:
    """One row of ``/spend/logs/v2``. Raises Unreadable."""
    started_at = _moment(row.get("startTime"))
    if started_at is None:
        raise Unreadable("no startTime")
    cost = _cost(row.get("spend"))
    metadata = row.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    prompt, completion = (_count(row.get(f"{side}_tokens")) for side in ("prompt", "completion"))
    failed = (row.get("status") or metadata.get("status")) == "failure"
    cached = str(row.get("cache_hit")).lower() == "true"
    call_id = _text(row.get("litellm_call_id") or metadata.get("litellm_call_id"))
    error = metadata.get("error_information")
    return LoggedCall(
        external_id=_text(row.get("request_id")) or call_id or _digest(row),
        key_hash=_text(row.get("api_key")),
        call_id=call_id,
        team_id=_text(row.get("team_id")),
        started_at=started_at,
        ended_at=_moment(row.get("endTime")),
        model=_text(row.get("model_group") or row.get("model"), 200),
        provider_model=_text(row.get("model"), 200),
        provider=_text(row.get("custom_llm_provider"), 100),
        failed=failed,
        error_code=_text(error.get("error_code"), 20) if isinstance(error, Mapping) else "",
        prompt_tokens=prompt,
        completion_tokens=completion,
        cost=cost,
        is_unpriced=not failed and not cached and cost == 0 and prompt + completion > 0,
    )


def _cost(value: object) -> Decimal:
    cost = money(value)
    if cost is None or not -LARGEST < cost < LARGEST:
        raise Unreadable("no amount")
    return cost.quantize(PRECISION)


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _count(value: object) -> int:
    return value if isinstance(value, int) and 0 < value < 2**31 else 0


def _text(value: object, longest: int = 255) -> str:
    return str(value).replace("\x00", "")[:longest] if value else ""


def _digest(row: Mapping[str, Any]) -> str:
    """A name for a call that has none: the same row gives the same name."""
    text = orjson.dumps(dict(row), option=orjson.OPT_SORT_KEYS, default=str)
    return f"unnamed-{hashlib.sha256(text).hexdigest()}"
