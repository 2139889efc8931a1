"""The control interface: what no real account lets you do. JSON, under /sandbox/, with the API key.

GET  clock                            {"now", "next"}
POST clock                            {"advance": s} | {"now": t} | {"past_renewal": "sub_…"}
GET  settings      POST settings      any of `behaviour.Behaviour`'s fields
GET  deliveries    POST deliveries    ?event=evt_…&limit=n: the log · switches: duplicate, drop
                                      (probabilities), delay [min, max], reorder, paused, seed
POST deliveries/flush                 attempt all that wait now; answers when they are through
POST deliveries/redeliver             {"event": "evt_…", "endpoint"?: "we_…"}
POST customers/{id}/fail_next         {"times": 1}: decline the next payments (0: no longer)
POST customers/{id}/method            {"method": "pm_card_…"}: make it the default
POST sessions/{id}/complete           {"method"?, "email"?, "passed"?}: pay as on the page
POST charges/{id}/refund              {"amount"?, "status"?: succeeded | pending}
POST refunds/{id}                     {"outcome": succeeded | failed}: of a pending one
POST charges/{id}/dispute             {"status"?, "reason"?, "amount"?}
POST disputes/{id}                    {"status": won | lost | …}
POST charges/{id}/early_fraud_warning {}
POST payment_intents/{id}/settle      {"outcome": succeeded | failed}: the bank answers
POST events                           {"type", "object", "api_version"?}: an event of any kind
                                      {"repeat": "evt_…"}: the same again under another id
POST seed                             {"products": [{"name", "prices": [{"unit_amount", …}]}]}

`faults`, `requests` and `reset` are those of every stand-in (see sandbox/faults.py).
"""

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import orjson

from sandbox.stripe.errors import InvalidRequest, Missing
from sandbox.stripe.service import Service

Json = dict[str, Any]


class Control:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.engine = service.engine
        self._routes: dict[tuple[str, str, str], Callable[[Json, str], Any]] = {
            ("GET", "clock", ""): self._clock,
            ("POST", "clock", ""): self._move_clock,
            ("GET", "settings", ""): self._settings,
            ("POST", "settings", ""): self._change_settings,
            ("GET", "deliveries", ""): self._deliveries,
            ("POST", "deliveries", ""): self._switch_deliveries,
            ("POST", "customers", "fail_next"): self._fail_next,
            ("POST", "customers", "method"): self._use_method,
            ("POST", "sessions", "complete"): self._complete,
            ("POST", "charges", "refund"): self._refund,
            ("POST", "refunds", ""): self._finish_refund,
            ("POST", "charges", "dispute"): self._dispute,
            ("POST", "disputes", ""): self._move_dispute,
            ("POST", "charges", "early_fraud_warning"): self._warn,
            ("POST", "payment_intents", "settle"): self._settle,
            ("POST", "events", ""): self._inject,
            ("POST", "seed", ""): self._seed,
        }

    async def handle(self, method: str, path: str, query: str, body: bytes) -> Json:
        """Raises ApiError, or ValueError for a body that makes no sense."""
        name, _, rest = path.removeprefix("/sandbox/").partition("/")
        if (method, name, rest) == ("POST", "deliveries", "flush"):
            return await self.service.sender.flush()
        given = orjson.loads(body) if body else {}
        if not isinstance(given, dict):
            raise ValueError("a JSON object is needed")
        given |= {key: values[0] for key, values in parse_qs(query).items()}
        if (method, name, rest) == ("POST", "deliveries", "redeliver"):
            return self._redeliver(given)
        id, _, action = rest.partition("/")
        route = self._routes.get((method, name, action))
        if route is None:
            raise Missing(f"No such control: {method} {path}")
        answer: Json = route(given, id)
        self.engine.run_due()
        return answer

    # --- time and settings

    def _clock(self, given: Json, id: str) -> Json:
        return {"now": self.engine.now(), "next": self.service.world.next_due()}

    def _move_clock(self, given: Json, id: str) -> Json:
        now = self.engine.now()
        if "past_renewal" in given:
            steps = self.engine.advance_past_renewal(given["past_renewal"])
            self.service.move_clock(self.engine.now())
            return {"now": self.engine.now(), "steps": steps}
        target = int(given["now"]) if "now" in given else now + int(given.get("advance", 0))
        if target < now:
            raise InvalidRequest("The clock only moves forwards.", param="now")
        return {"steps": self.service.move_clock(target), "now": self.engine.now()}

    def _settings(self, given: Json, id: str) -> Json:
        return self.service.world.behaviour.as_dict()

    def _change_settings(self, given: Json, id: str) -> Json:
        self.service.change_behaviour(given)
        return self.service.world.behaviour.as_dict()

    # --- deliveries

    def _deliveries(self, given: Json, id: str) -> Json:
        queue = self.service.queue
        listed = queue.log(event=given.get("event"), limit=int(given.get("limit", 200)))
        return {
            "switches": queue.faults.as_dict(),
            "counts": queue.counts(),
            "deliveries": listed,
        }

    def _switch_deliveries(self, given: Json, id: str) -> Json:
        queue = self.service.queue
        queue.faults.update(given)
        queue.wake()
        return queue.faults.as_dict()

    def _redeliver(self, given: Json) -> Json:
        made = self.service.queue.redeliver(given["event"], given.get("endpoint"))
        if not made:
            raise Missing.thing("event", given["event"])
        return {"deliveries": [delivery.as_json() for delivery in made]}

    # --- customers, payments

    def _fail_next(self, given: Json, id: str) -> Json:
        self.service.world.get("customer", id)
        self.engine.fail_payments(id, int(given.get("times", 1)))
        return {"customer": id, "failures_left": self.service.world.failures_left(id)}

    def _use_method(self, given: Json, id: str) -> Json:
        return self.engine.use_method(id, given["method"])

    def _complete(self, given: Json, id: str) -> Json:
        known = {name: given[name] for name in ("method", "email", "passed") if name in given}
        return self.engine.complete_checkout(id, **known)

    def _refund(self, given: Json, id: str) -> Json:
        return self.engine.refund(
            id, amount=given.get("amount"), status=given.get("status", "succeeded")
        )

    def _finish_refund(self, given: Json, id: str) -> Json:
        return self.engine.finish_refund(id, well=given.get("outcome") != "failed")

    def _dispute(self, given: Json, id: str) -> Json:
        known = {name: given[name] for name in ("status", "reason", "amount") if name in given}
        return self.engine.dispute(id, **known)

    def _move_dispute(self, given: Json, id: str) -> Json:
        return self.engine.move_dispute(id, given["status"])

    def _warn(self, given: Json, id: str) -> Json:
        return self.engine.early_fraud_warning(id)

    def _settle(self, given: Json, id: str) -> Json:
        self.engine.settle_debit(id, well=given.get("outcome") != "failed")
        return self.engine.object(id)

    # --- anything

    def _inject(self, given: Json, id: str) -> Json:
        if "repeat" in given:
            event = self.service.world.log.find(given["repeat"])
            if event is None:
                raise Missing.thing("event", given["repeat"])
            return self.engine.tell_again(event).as_json()
        return self.engine.inject(
            given["type"], given.get("object", {}), api_version=given.get("api_version")
        ).as_json()

    def _seed(self, given: Json, id: str) -> Json:
        """Products and their prices; a lookup key that is taken is left where it is."""
        made: list[Json] = []
        for product in given.get("products", []):
            held = self.engine.create_product(
                product["name"], **{k: v for k, v in product.items() if k not in ("name", "prices")}
            )
            prices = [
                self.engine.create_price(product=held["id"], **price)
                for price in product.get("prices", [])
            ]
            made.append({"product": held, "prices": prices})
        return {"products": made}
