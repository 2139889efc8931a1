"""Random lives: whatever is done to an account, nothing breaks and every change is told.

A receiver that keeps the last event of each object must end with the object as it is. The product
reads objects back instead, but reconciliation and these events must not contradict each other.
"""

import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.stripe.behaviour import Behaviour
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.errors import ApiError

Json = dict[str, Any]

DAY = 86_400
STEPS = 40
METHODS = (
    "pm_card_visa",
    "pm_card_chargeCustomerFail",
    "pm_card_threeDSecure2Required",
    "pm_usBankAccount_success",
    "pm_usBankAccount_insufficientFunds",
)
PRORATIONS = ("none", "create_prorations", "always_invoice")
PAYMENTS = ("allow_incomplete", "pending_if_incomplete", "error_if_incomplete")


class Life:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        pick = self.random.choice
        behaviour = Behaviour(
            draft_seconds=pick((0, 3600)),
            dunning_end=pick(("cancel", "unpaid", "past_due")),
            delayed_status=pick(("active", "incomplete")),
        )
        self.engine = StripeEngine(seed=seed, behaviour=behaviour)
        terms = ((1000, "month"), (3000, "month"), (10000, "year"), (0, "month"), (700, "week"))
        self.prices = [
            self.engine.create_price(unit_amount=amount, interval=interval)["id"]
            for amount, interval in terms
        ]
        self.engine.request(
            "POST", "/v1/coupons", {"id": "HALF", "percent_off": 50, "duration": "once"}
        )
        self.customers = [
            self.engine.create_customer(method=method)["id"]
            for method in ("pm_card_visa", None, *METHODS[1:3])
        ]

    def some(self, kind: str) -> str:
        """Raises IndexError if there is none."""
        id: str = self.random.choice(self.engine.objects(kind))["id"]
        return id

    def act(self) -> None:
        """One random deed; what Stripe would refuse is refused."""
        deeds: tuple[Callable[[], object], ...] = (
            self.subscribe, self.check_out, self.change, self.cancel, self.plan_end, self.fail,
            self.pay, self.touch_invoice, self.pause, self.schedule, self.trial, self.confirm,
            self.use_method, self.settle, self.give_back, self.leave,
        )  # fmt: skip
        with contextlib.suppress(ApiError, IndexError):
            self.random.choice(deeds)()

    def wait(self) -> None:
        self.engine.advance(days=self.random.choice((0.04, 1, 3, 10, 31, 40)))

    def subscribe(self) -> None:
        params: tuple[Json, ...] = (
            {},
            {"trial_period_days": self.random.choice((1, 7, 30))},
            {"payment_behavior": self.random.choice((*PAYMENTS, "default_incomplete"))},
            {"discounts": [{"coupon": "HALF"}]},
            {"collection_method": "send_invoice", "days_until_due": 7},
            {"cancel_at_period_end": True},
            {"billing_mode": {"type": "classic"}},
            {"items": [{"price": self.prices[0]}, {"price": self.prices[2]}]},
        )
        self.engine.subscribe(
            self.random.choice(self.customers),
            self.random.choice(self.prices),
            **self.random.choice(params),
        )

    def check_out(self) -> None:
        who = self.random.choice(({"customer": self.customers[0]}, {"customer_email": "a@b.c"}))
        session = self.engine.create_checkout(self.random.choice(self.prices), **who)
        self.engine.complete_checkout(
            session["id"], method=self.random.choice(METHODS), passed=self.random.random() < 0.7
        )

    def change(self) -> None:
        self.engine.change_price(
            self.some("subscription"),
            self.random.choice(self.prices),
            quantity=self.random.choice((None, 2)),
            proration_behavior=self.random.choice(PRORATIONS),
            payment_behavior=self.random.choice(PAYMENTS),
        )

    def cancel(self) -> None:
        at_end = self.random.random() < 0.6
        self.engine.cancel(self.some("subscription"), at_period_end=at_end)

    def plan_end(self) -> None:
        moment = self.engine.now() + self.random.randint(1, 60) * DAY
        wanted = self.random.choice((moment, "min_period_end", None))
        self.engine.update_subscription(self.some("subscription"), cancel_at=wanted)

    def fail(self) -> None:
        times = self.random.choice((0, 1, 2, 20))
        self.engine.fail_payments(self.random.choice(self.customers), times)

    def pay(self) -> None:
        self.engine.pay_invoice(self.some("invoice"), method="pm_card_visa")

    def touch_invoice(self) -> None:
        way = self.random.choice(("void", "mark_uncollectible", "finalize"))
        self.engine.request("POST", f"/v1/invoices/{self.some('invoice')}/{way}")

    def pause(self) -> None:
        sub = self.some("subscription")
        behaviour = self.random.choice(("void", "mark_uncollectible", "keep_as_draft"))
        self.random.choice(
            (
                lambda: self.engine.pause(sub),
                lambda: self.engine.resume(sub),
                lambda: self.engine.update_subscription(
                    sub, pause_collection={"behavior": behaviour}
                ),
                lambda: self.engine.update_subscription(sub, pause_collection=None),
            )
        )()

    def schedule(self) -> None:
        base = "/v1/subscription_schedules"
        made = self.engine.request("POST", base, {"from_subscription": self.some("subscription")})
        phase = made["phases"][0]
        now = {name: phase[name] for name in ("start_date", "end_date")}
        now["items"] = [{"price": i["price"], "quantity": i["quantity"]} for i in phase["items"]]
        then = {"items": [{"price": self.random.choice(self.prices)}]}
        end = self.random.choice(("release", "cancel"))
        self.engine.request(
            "POST", f"{base}/{made['id']}", {"phases": [now, then], "end_behavior": end}
        )

    def trial(self) -> None:
        end = self.random.choice(("now", self.engine.now() + 5 * DAY))
        self.engine.update_subscription(self.some("subscription"), trial_end=end)

    def confirm(self) -> None:
        intent = self.some("payment_intent")
        self.engine.request("POST", f"/v1/payment_intents/{intent}/confirm")

    def use_method(self) -> None:
        who = self.random.choice(self.customers)
        self.engine.use_method(who, self.random.choice(METHODS))

    def settle(self) -> None:
        self.engine.settle_debit(self.some("payment_intent"), well=self.random.random() < 0.5)

    def give_back(self) -> None:
        charge = self.some("charge")
        self.random.choice((self.engine.refund, self.engine.dispute))(charge)

    def leave(self) -> None:
        if self.random.random() < 0.1:
            self.engine.delete_customer(self.random.choice(self.customers))


def last_told(engine: StripeEngine, prefix: str) -> dict[str, Json]:
    told: dict[str, Json] = {}
    for event in engine.events():
        if event.type.startswith(prefix) and event.subject:
            told[event.subject] = event.as_json()["data"]["object"]
    return told


@pytest.mark.parametrize("seed", range(25))
def test_every_change_of_a_random_life_is_told(seed: int):
    life = Life(seed)
    for _ in range(STEPS):
        if life.random.random() < 0.35:
            life.wait()
        else:
            life.act()
    for kind, prefix in (("subscription", "customer.subscription."), ("invoice", "invoice.")):
        told = last_told(life.engine, prefix)
        for obj in life.engine.objects(kind):
            assert told[obj["id"]] == obj


@pytest.mark.parametrize("seed", range(100, 105))
def test_status_follows_from_the_latest_invoice_that_counts(seed: int):
    life = Life(seed)
    for _ in range(STEPS):
        life.act()
        life.wait()
    invoices = life.engine.objects("invoice")
    for sub in life.engine.objects("subscription"):
        own = [
            invoice
            for invoice in invoices
            if (invoice["parent"] or {}).get("subscription_details", {}).get("subscription")
            == sub["id"]
            and invoice["status"] in ("open", "paid", "uncollectible")
        ]
        if sub["status"] in ("past_due", "unpaid"):
            assert any(invoice["status"] == "open" for invoice in own)
        if sub["status"] in ("canceled", "incomplete_expired"):
            assert sub["ended_at"] <= life.engine.now()
            assert not [i for i in own if i["auto_advance"]]
