"""What a request comes to: as the gateway tells it, or as well as we can tell ourselves."""

from collections.abc import Callable
from decimal import Decimal

import orjson

from chatproxy.exchange import Usage, told_usage
from chatproxy.frames import BYTES_PER_TOKEN
from chatproxy.live import Live
from plans.models import Plan

Policy = Plan.AbortBilling
# Role and separators, with most chat templates.
TOKENS_PER_MESSAGE = 4
# A square of 1024 pixels by OpenAI's rule (85 and 170 for each of four tiles); what an image that
# is only named by its address comes to, nobody here can know.
TOKENS_PER_ATTACHMENT = 765


class Tally:
    """``cost_of`` prices (model, prompt tokens, answer tokens); None where it cannot."""

    def __init__(self, cost_of: Callable[[str, int, int], Decimal | None]) -> None:
        self._cost_of = cost_of

    def of_stream(self, live: Live) -> Usage:
        """What the stream told, or an estimate from what was passed on."""
        frames = live.frames
        live.exchange.response_id = frames.response_id
        if frames.usage is not None:
            return told_usage(frames.usage)
        return self._estimate(live, frames.delivered_tokens())

    def of_abandoned(self, live: Live) -> Usage:
        """By the plan's policy, where the rest of the answer will not be read."""
        frames = live.frames
        live.exchange.response_id = frames.response_id
        if live.answer is None:  # nothing had been asked
            return Usage(cost=Decimal(0))
        delivered = frames.delivered_tokens()
        if not delivered and live.plan.abort_billing == Policy.AFTER_FIRST_TOKEN:
            return Usage(cost=Decimal(0))
        return self._estimate(live, delivered)

    def take_whole(self, live: Live, body: bytes) -> bool:
        """Note id and usage of a whole answer; False when it is no JSON object."""
        exchange = live.exchange
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError:
            return False
        if not isinstance(content, dict):
            return False
        exchange.response_id = str(content.get("id") or "")[:128]
        assert live.answer is not None
        usage = content.get("usage")
        if isinstance(usage, dict):
            cost = live.answer.headers.get("x-litellm-response-cost", "")
            exchange.usage = told_usage(usage, header_cost=cost)
        else:
            exchange.usage = self._estimate(live, len(body) // BYTES_PER_TOKEN)
        live.keep(body)
        live.is_complete = True
        return True

    def _estimate(self, live: Live, completion_tokens: int) -> Usage:
        prompt_tokens = estimated_prompt_tokens(live)
        return Usage(
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost=self._cost_of(live.exchange.model, prompt_tokens, completion_tokens),
            is_estimated=True,
        )


def estimated_prompt_tokens(live: Live) -> int:
    """What the prompt comes to where the gateway told nothing: text and tools by their bytes."""
    size = live.prompt_bytes
    attachments = 0
    for message in live.messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"text": content}]
        for part in parts:
            text = part.get("text")
            if isinstance(text, str):
                size += len(text.encode("utf-8", "surrogatepass"))
            elif text is None and content is not None:
                attachments += 1
        if calls := message.get("tool_calls"):
            size += len(orjson.dumps(calls))
    if live.tools:
        size += len(orjson.dumps(live.tools))
    messages = len(live.messages) + bool(live.prompt_bytes)
    return (
        -(-size // BYTES_PER_TOKEN)
        + messages * TOKENS_PER_MESSAGE
        + attachments * TOKENS_PER_ATTACHMENT
    )
