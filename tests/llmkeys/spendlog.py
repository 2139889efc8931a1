"""Calls in the stand-in's spend log, as its keys would have made them."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from llmkeys.models import VirtualKey
from sandbox.litellm.spend import Call
from tests.llmkeys.standin import StandIn

NOON = datetime(2026, 11, 10, 12, 0, tzinfo=UTC)

_numbers = itertools.count(1)


def call_of(key: VirtualKey | None, at: datetime = NOON, **fields: Any) -> Call:
    """An answered call of a thousandth of a dollar."""
    number = next(_numbers)
    return Call(
        **{
            "request_id": f"chatcmpl-{number:06d}",
            "call_id": f"call-{number:06d}",
            "api_key": key.key_hash if key else "hash-of-nobody",
            "key_alias": key.alias if key else None,
            "user_id": None,
            "team_id": None,
            "model": "openai/small",
            "model_id": "m1",
            "model_group": "small",
            "provider": "openai",
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "input_cost": 0.0004,
            "output_cost": 0.0006,
            "started": at.timestamp(),
            "ended": (at + timedelta(seconds=2)).timestamp(),
            **fields,
        }
    )


def log(standin: StandIn, *calls: Call) -> None:
    # Written by whoever reads next; outside its loop the stand-in cannot plan to do so itself.
    standin.gateway.store.spend.pending.extend(calls)
