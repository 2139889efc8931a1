"""The whole stand-in as one Python object, without HTTP: for simulations of thousands of lives.

    engine = StripeEngine(seed=7)
    price = engine.create_price(unit_amount=2000, product_name="Pro", lookup_key="pro_month")
    customer = engine.create_customer(email="a@example.com")
    sub = engine.subscribe(customer["id"], price["id"])
    engine.fail_payments(customer["id"])
    engine.advance(days=32)
    engine.object(sub["id"])["status"]      # "past_due"
    engine.events(after=0)                  # every event so far, oldest first

Whatever the methods below do not offer, `request` does: it takes what the API takes. Every answer
is a fresh copy in the API's shape. Errors are `sandbox.stripe.errors.ApiError`.
"""

from typing import Any

import orjson

from sandbox.stripe import routing
from sandbox.stripe.behaviour import Behaviour
from sandbox.stripe.billing import checkout, collection, refunds, renewals
from sandbox.stripe.clock import Clock, ManualClock
from sandbox.stripe.events import Event
from sandbox.stripe.params import plain
from sandbox.stripe.payloads import payload, signature
from sandbox.stripe.rendering import expand
from sandbox.stripe.resources import load_all
from sandbox.stripe.store import MemoryStore, Store
from sandbox.stripe.versions import render_as
from sandbox.stripe.world import World

Json = dict[str, Any]

load_all()


class StripeEngine:
    def __init__(
        self,
        *,
        clock: Clock | None = None,
        store: Store | None = None,
        behaviour: Behaviour | None = None,
        seed: int | None = None,
        base_url: str = "http://127.0.0.1",
    ) -> None:
        self.world = World(
            clock=clock or ManualClock(),
            store=store or MemoryStore(),
            behaviour=behaviour or Behaviour(),
            seed=seed,
            base_url=base_url,
        )

    # --- anything

    def request(self, method: str, path: str, params: Json | None = None) -> Json:
        """One API call, with Python values as parameters (None unsets)."""
        found, ids = routing.match(method, path)
        given = plain(params or {})
        with self.world.lock:
            shown = routing.call(self.world, found, ids, given)
            shown = expand(self.world, shown, given.get("expand") or [])
            answer: Json = orjson.loads(orjson.dumps(shown))
            self.world.run_due()
        return answer

    def object(self, id: str, *, version: str | None = None) -> Json:
        """An object as it is now. Raises KeyError."""
        with self.world.lock:
            held = self.world.lookup(id)
            if held is None:
                raise KeyError(id)
            shown = self.world.public(held)
            answer: Json = render_as(self.world, shown, version) if version else shown
            return answer

    def objects(self, kind: str) -> list[Json]:
        """All objects of a kind ("subscription", "invoice", …), oldest first."""
        with self.world.lock:
            state = self.world.state
            return [self.world.public(state.objects[key]) for key in state.of_kind(kind)]

    # --- time

    def now(self) -> int:
        return self.world.clock.now()

    def advance(self, seconds: float = 0, *, days: float = 0) -> int:
        """Move the clock; everything that lies between happens at its own moment. Gives steps."""
        return self.advance_to(self.now() + int(seconds + days * 86_400))

    def advance_to(self, moment: int) -> int:
        steps = self.world.run_due(moment)
        self.world.clock.move_to(moment)
        return steps

    def advance_past_renewal(self, subscription: str) -> int:
        """To just after the next period's invoice is settled."""
        sub = self.world.get("subscription", subscription)
        return self.advance_to(renewals.period_end(sub) + self.world.behaviour.draft_seconds + 1)

    def run_due(self) -> int:
        return self.world.run_due()

    # --- events

    def events(self, after: int = 0) -> list[Event]:
        """Events numbered above `after` (`Event.seq`), oldest first."""
        return self.world.log.after(after)

    def event_payload(self, event: Event | str, version: str | None = None) -> bytes:
        """What a webhook endpoint of this API version gets. Raises KeyError."""
        found = self.world.log.find(event) if isinstance(event, str) else event
        if found is None:
            raise KeyError(event)
        return payload(self.world, found, version)

    def signed(self, body: bytes, secret: str, timestamp: int | None = None) -> str:
        """The Stripe-Signature header for a body."""
        return signature(body, secret, timestamp)

    def inject(self, type: str, object: Json, *, api_version: str | None = None) -> Event:
        """An event of any type about anything, in any version: what a future Stripe may send."""
        with self.world.transaction():
            self.world.emit_raw(type, orjson.dumps(object), api_version=api_version)
        return self.world.log.last

    def tell_again(self, event: Event) -> Event:
        """The same change under another event id, as Stripe sometimes does."""
        with self.world.transaction():
            self.world.emit_raw(event.type, event.object, event.previous)
        return self.world.log.last

    # --- catalogue and customers

    def create_product(self, name: str, **params: Any) -> Json:
        return self.request("POST", "/v1/products", {"name": name, **params})

    def create_price(
        self,
        *,
        unit_amount: int,
        product: str | None = None,
        product_name: str = "Plan",
        currency: str = "usd",
        interval: str | None = "month",
        interval_count: int = 1,
        **params: Any,
    ) -> Json:
        owner: Json = {"product": product} if product else {"product_data": {"name": product_name}}
        every = {"interval": interval, "interval_count": interval_count}
        recurring: Json = {"recurring": every} if interval else {}
        given = {"unit_amount": unit_amount, "currency": currency, **owner, **recurring, **params}
        return self.request("POST", "/v1/prices", given)

    def archive_price(self, price: str) -> Json:
        return self.request("POST", f"/v1/prices/{price}", {"active": False})

    def create_customer(self, *, method: str | None = "pm_card_visa", **params: Any) -> Json:
        """A customer who pays with a named test method by default (None: has none yet)."""
        customer = self.request("POST", "/v1/customers", params)
        if method:
            customer = self.use_method(customer["id"], method)
        return customer

    def use_method(self, customer: str, method: str) -> Json:
        """Make a named test method the customer's default."""
        attached = self.request(
            "POST", f"/v1/payment_methods/{method}/attach", {"customer": customer}
        )
        settings = {"invoice_settings": {"default_payment_method": attached["id"]}}
        return self.request("POST", f"/v1/customers/{customer}", settings)

    def delete_customer(self, customer: str) -> Json:
        return self.request("DELETE", f"/v1/customers/{customer}")

    # --- checkout

    def create_checkout(
        self, price: str, *, quantity: int = 1, mode: str = "subscription", **params: Any
    ) -> Json:
        given = {
            "mode": mode,
            "line_items": [{"price": price, "quantity": quantity}],
            "success_url": "https://example.com/done?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "https://example.com/canceled",
            **params,
        }
        return self.request("POST", "/v1/checkout/sessions", given)

    def complete_checkout(
        self,
        session: str,
        *,
        method: str = "pm_card_visa",
        email: str | None = None,
        passed: bool = False,
    ) -> Json:
        """Pay on the hosted page. Raises CardDeclined; the session then stays open."""
        with self.world.transaction():
            held = self.world.get("checkout.session", session)
            checkout.complete(self.world, held, method=method, email=email, passed=passed)
        self.world.run_due()
        return self.object(session)

    def expire_checkout(self, session: str) -> Json:
        return self.request("POST", f"/v1/checkout/sessions/{session}/expire")

    # --- subscriptions

    def subscribe(self, customer: str, price: str, *, quantity: int = 1, **params: Any) -> Json:
        given = {"customer": customer, "items": [{"price": price, "quantity": quantity}], **params}
        return self.request("POST", "/v1/subscriptions", given)

    def update_subscription(self, subscription: str, **params: Any) -> Json:
        return self.request("POST", f"/v1/subscriptions/{subscription}", params)

    def change_price(
        self, subscription: str, price: str, *, quantity: int | None = None, **params: Any
    ) -> Json:
        """Swap the first item's price."""
        entry: Json = {"id": self._first_item(subscription), "price": price}
        if quantity is not None:
            entry["quantity"] = quantity
        return self.update_subscription(subscription, items=[entry], **params)

    def set_quantity(self, subscription: str, quantity: int, **params: Any) -> Json:
        entry = {"id": self._first_item(subscription), "quantity": quantity}
        return self.update_subscription(subscription, items=[entry], **params)

    def _first_item(self, subscription: str) -> str:
        id: str = self.world.get("subscription", subscription)["items"][0]["id"]
        return id

    def cancel(self, subscription: str, *, at_period_end: bool = False, **params: Any) -> Json:
        if at_period_end:
            return self.update_subscription(subscription, cancel_at_period_end=True, **params)
        return self.request("DELETE", f"/v1/subscriptions/{subscription}", params)

    def uncancel(self, subscription: str) -> Json:
        """Take back a planned cancellation, whichever way it was planned."""
        sub = self.world.get("subscription", subscription)
        if sub["cancel_at_period_end"]:
            return self.update_subscription(subscription, cancel_at_period_end=False)
        return self.update_subscription(subscription, cancel_at=None)

    def pause(self, subscription: str) -> Json:
        return self.request("POST", f"/v1/subscriptions/{subscription}/pause")

    def resume(self, subscription: str) -> Json:
        return self.request("POST", f"/v1/subscriptions/{subscription}/resume")

    # --- payments

    def fail_payments(self, customer: str, times: int = 1) -> None:
        """The customer's next payments are declined, whatever they pay with (0: no longer)."""
        self.world.fail_next(customer, times)

    def pay_invoice(self, invoice: str, *, method: str | None = None) -> Json:
        given = {"payment_method": method} if method else {}
        return self.request("POST", f"/v1/invoices/{invoice}/pay", given)

    def open_invoices(self, customer: str) -> list[Json]:
        """Newest first."""
        held = list(self.world.state.each("invoice", "customer", customer))
        return [self.world.public(i) for i in reversed(held) if i["status"] == "open"]

    def settle_debit(self, payment_intent: str, *, well: bool = True) -> None:
        """The bank answers a delayed payment now."""
        with self.world.transaction():
            intent = self.world.get("payment_intent", payment_intent)
            if intent["status"] == "processing":
                collection.bank_answers(self.world, intent, well=well)

    def charge_of(self, invoice: str) -> str:
        """The id of the charge that paid an invoice. Raises KeyError."""
        held = self.world.get("invoice", invoice)
        intent = self.world.find("payment_intent", held["_intent"])
        if intent is None or intent["latest_charge"] is None:
            raise KeyError(invoice)
        charge: str = intent["latest_charge"]
        return charge

    def refund(self, charge: str, *, amount: int | None = None, status: str = "succeeded") -> Json:
        """`status="pending"` leaves it to `finish_refund`."""
        with self.world.transaction():
            held = self.world.get("charge", charge)
            made = refunds.refund(self.world, held, amount=amount, status=status)
        return self.object(made["id"])

    def finish_refund(self, refund: str, *, well: bool) -> Json:
        with self.world.transaction():
            refunds.finish_refund(self.world, self.world.get("refund", refund), well=well)
        return self.object(refund)

    def dispute(self, charge: str, *, status: str = "needs_response", **options: Any) -> Json:
        """`status="warning_needs_response"` is an inquiry: no money moves."""
        with self.world.transaction():
            held = self.world.get("charge", charge)
            made = refunds.open_dispute(self.world, held, status=status, **options)
        return self.object(made["id"])

    def move_dispute(self, dispute: str, status: str) -> Json:
        """To any of Stripe's dispute statuses: won, lost, warning_closed, …"""
        with self.world.transaction():
            refunds.move_dispute(self.world, self.world.get("dispute", dispute), status)
        return self.object(dispute)

    def early_fraud_warning(self, charge: str) -> Json:
        with self.world.transaction():
            made = refunds.warn_of_fraud(self.world, self.world.get("charge", charge))
        return self.object(made["id"])
