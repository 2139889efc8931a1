"""/user/daily/activity: the daily sums, broken down by everything LiteLLM breaks them down by."""

from typing import Any

from sandbox.litellm.records import ADMIN_USER
from sandbox.litellm.store import Store

Row = tuple[Any, ...]
# What LiteLLM also counts and the stand-in never has.
ZEROS = [
    *["flat_cost", "cache_read_input_tokens", "cache_creation_input_tokens"],
    *["compression_saved_tokens", "compression_savings_spend", "prompt_caching_savings_spend"],
    *["gateway_injected_caching_savings_spend", "autorouter_savings_spend"],
]
COUNTED = [
    *["spend", "prompt_tokens", "completion_tokens", "successful_requests", "failed_requests"],
    *["total_response_time_ms", "timed_requests"],
]
BREAKDOWNS = ["mcp_servers", "models", "model_groups", "providers", "endpoints", "api_keys"]


class Sums:
    def __init__(self) -> None:
        self.values: list[Any] = [0.0, *[0] * (len(COUNTED) - 1)]
        self.keys: dict[str, Sums] = {}

    def add(self, row: Row, *, by_key: bool = True) -> None:
        for place, value in enumerate(row[6:]):
            self.values[place] += value
        if by_key:
            self.keys.setdefault(row[1], Sums()).add(row, by_key=False)

    def metrics(self) -> dict[str, Any]:
        sums = dict(zip(COUNTED, self.values, strict=True))
        return {
            **sums,
            **dict.fromkeys(ZEROS, 0),
            "total_tokens": sums["prompt_tokens"] + sums["completion_tokens"],
            "api_requests": sums["successful_requests"] + sums["failed_requests"],
        }


def days(store: Store, rows: list[Row]) -> list[dict[str, Any]]:
    """One result a day, newest first, of the rows given."""
    results: dict[str, list[Row]] = {}
    for row in rows:
        results.setdefault(row[0], []).append(row)
    return [_day(store, date, of_day) for date, of_day in results.items()]


def totals(rows: list[Row]) -> dict[str, Any]:
    """The metadata's sums: of these rows only, which are a page."""
    sums = Sums()
    for row in rows:
        sums.add(row, by_key=False)
    names = {"total_tokens", "total_response_time_ms"}
    return {
        name if name in names else f"total_{name}": value for name, value in sums.metrics().items()
    }


def _day(store: Store, date: str, rows: list[Row]) -> dict[str, Any]:
    whole = Sums()
    tables: dict[str, dict[str, Sums]] = {name: {} for name in [*BREAKDOWNS, "entities"]}
    for row in rows:
        whole.add(row, by_key=False)
        _, api_key, model, model_group, provider, user_id = row[:6]
        for table, name in (
            ("models", model),
            ("model_groups", model_group),
            ("providers", provider),
            ("endpoints", "/chat/completions"),
            ("api_keys", api_key),
            ("entities", user_id or ADMIN_USER),
        ):
            tables[table].setdefault(name, Sums()).add(row, by_key=table != "api_keys")
    breakdown: dict[str, Any] = {
        table: {name: _entry(store, sums) for name, sums in entries.items()}
        for table, entries in tables.items()
    }
    for token, entry in breakdown["api_keys"].items():
        entry["metadata"] = _key_metadata(store, token)
        del entry["api_key_breakdown"]
    return {"date": date, "metrics": whole.metrics(), "breakdown": breakdown}


def _entry(store: Store, sums: Sums) -> dict[str, Any]:
    keys = {
        token: {"metrics": of_key.metrics(), "metadata": _key_metadata(store, token)}
        for token, of_key in sums.keys.items()
    }
    return {"metrics": sums.metrics(), "metadata": {}, "api_key_breakdown": keys}


def _key_metadata(store: Store, token: str) -> dict[str, Any]:
    key = store.keys.get(token) or store.deleted.get(token)
    return {
        "key_alias": key.key_alias if key else None,
        "team_id": key.team_id if key else None,
        "user_id": key.user_id if key else None,
        "user_email": None,
        "key_exists": token in store.keys,
    }
