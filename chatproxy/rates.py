"""What a token costs at the gateway, for the receipts of answers that were not read to their end.

LiteLLM prices whole answers itself; of an aborted one it tells nobody the price. The prices it
uses are in its model list, which is fetched now and then with a master key, off the hot path.
"""

import logging
from decimal import Decimal, InvalidOperation

import orjson
from django.conf import settings

from chatproxy.upstream import BrokenOff, GatewayDown, Upstream

logger = logging.getLogger(__name__)

MODEL_INFO = b"/v1/model/info"
REFRESH_SECONDS = 300.0
RETRY_SECONDS = 15.0
LONGEST_LIST_BYTES = 16 * 1024 * 1024

# Dollars per token of prompt and of answer.
Rate = tuple[Decimal, Decimal]


class Rates:
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._rates: dict[str, Rate] = {}

    def cost(self, model: str, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """None where the gateway has no price for the model, or none is known yet."""
        rate = self._rates.get(model)
        if rate is None:
            return None
        return round(rate[0] * prompt_tokens + rate[1] * completion_tokens, 10)

    async def refresh(self) -> bool:
        """Fetch the prices; False when that did not work, and the old ones stay."""
        for master_key in settings.LITELLM_MASTER_KEYS:
            body = await self._fetch(f"Authorization: Bearer {master_key}\r\n".encode())
            if body is not None:
                self._rates = read_rates(body)
                return True
        return False

    async def _fetch(self, headers: bytes) -> bytes | None:
        try:
            answer = await self._upstream.get(MODEL_INFO, headers)
            while not await answer.head():
                pass
            body = await answer.read(LONGEST_LIST_BYTES)
        except (GatewayDown, BrokenOff) as error:
            logger.info("No prices from the gateway: %s", error)
            return None
        return body if answer.status == 200 else None


def read_rates(body: bytes) -> dict[str, Rate]:
    """Public model name → price; of several deployments under one name the dearest."""
    try:
        entries = orjson.loads(body)["data"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    rates: dict[str, Rate] = {}
    for entry in entries if isinstance(entries, list) else ():
        name, rate = _read(entry)
        if name and rate is not None:
            rates[name] = max(rates.get(name, rate), rate)
    return rates


def _read(entry: object) -> tuple[str, Rate | None]:
    if not isinstance(entry, dict):
        return "", None
    name = str(entry.get("model_name") or "")
    for member in ("litellm_params", "model_info"):
        prices = entry.get(member)
        if isinstance(prices, dict):
            prompt = _price(prices.get("input_cost_per_token"))
            answer = _price(prices.get("output_cost_per_token"))
            if prompt is not None and answer is not None:
                return name, (prompt, answer)
    return name, None


def _price(value: object) -> Decimal | None:
    if value is None:
        return None
    try:
        price = Decimal(str(value))
    except InvalidOperation:
        return None
    return price if price.is_finite() and price >= 0 else None
