"""Prometheus metrics of the chat path. All but two are counted by the ledger's thread, in batches,
from the very records that it writes: the hot path pays nothing, and metrics and ledger agree."""

from functools import lru_cache
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from chatproxy.offenders import Offenders

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
FIRST_BYTE_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60)

REQUESTS = Counter(
    "tesslate_chat_requests", "Chat requests by how they ended.", ["model", "plan", "outcome"]
)
ERRORS = Counter("tesslate_chat_errors", "Chat requests that ended in an error.", ["model", "code"])
DURATION = Histogram(
    "tesslate_chat_duration_seconds", "From arrival to end.", ["model"], buckets=SECONDS
)
FIRST_BYTE = Histogram(
    "tesslate_chat_first_byte_seconds",
    "From arrival to the first byte of the answer.",
    ["model"],
    buckets=FIRST_BYTE_SECONDS,
)
TOKENS = Counter("tesslate_chat_tokens", "Tokens, by direction.", ["model", "direction"])
COST = Counter("tesslate_chat_cost_dollars", "Cost at the gateway.", ["model"])
UNPRICED = Counter(
    "tesslate_chat_unpriced_requests",
    "Answered requests that the gateway put no price on.",
    ["model"],
)
UNAUTHENTICATED = Counter(
    "tesslate_chat_unauthenticated_requests", "Requests without a valid credential (not recorded)."
)
RETRIES = Counter("tesslate_chat_retries", "Attempts at the gateway beyond the first.")
PROMPT_FAULTS = Counter(
    "tesslate_chat_prompt_faults", "Requests sent without prompts: they failed."
)
USERS_OVER_LIMITS = Gauge(
    "tesslate_chat_users_over_limits",
    "Users who were refused 30 times within 5 minutes; the log names them.",
    multiprocess_mode="livesum",
)
ACTIVE = Gauge("tesslate_chat_active_streams", "Requests under way.", multiprocess_mode="livesum")
LEDGER_QUEUE = Gauge(
    "tesslate_chat_ledger_queue", "Records not yet written.", multiprocess_mode="livesum"
)
LEDGER_SPILLED = Counter(
    "tesslate_chat_ledger_spilled", "Records put on disk because the database did not take them."
)
LEDGER_REJECTED = Counter(
    "tesslate_chat_ledger_rejected", "Records that the database will never take."
)

offenders = Offenders()


@lru_cache(maxsize=1024)
def _of_request(model: str, plan: str, outcome: str) -> tuple[Counter, Histogram, Histogram]:
    """Finding a child by its labels costs more than counting in it."""
    return (
        REQUESTS.labels(model, plan, outcome),
        DURATION.labels(model),
        FIRST_BYTE.labels(model),
    )


@lru_cache(maxsize=256)
def _of_usage(model: str) -> tuple[Counter, Counter, Counter, Counter]:
    return (
        TOKENS.labels(model, "prompt"),
        TOKENS.labels(model, "completion"),
        UNPRICED.labels(model),
        COST.labels(model),
    )


def count(record: dict[str, Any]) -> None:
    """One finished request."""
    # A name that is no model of ours could be anything: it must not become a label.
    model = record["model"] if record["error_code"] != "model_not_found" else "unknown"
    requests, duration, first_byte = _of_request(model, record["plan_code"], record["outcome"])
    requests.inc()
    duration.observe(record["duration_ms"] / 1000)
    if record["error_code"]:
        ERRORS.labels(model, record["error_code"]).inc()
        offenders.note(record["user_id"], record["error_code"])
    if record["ttfb_ms"] is not None:
        first_byte.observe(record["ttfb_ms"] / 1000)
    if record["prompt_tokens"] or record["completion_tokens"]:
        prompt, completion, unpriced, cost = _of_usage(model)
        prompt.inc(record["prompt_tokens"])
        completion.inc(record["completion_tokens"])
        if record["cost"] is None:
            unpriced.inc()
        else:
            cost.inc(float(record["cost"]))
