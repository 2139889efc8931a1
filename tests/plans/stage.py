"""A subscriber who may go beyond the plan, with Stripe as it bills that."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts.models import User
from llmkeys import overage as measuring
from llmkeys.models import UsageEntry
from plans.models import CurrentEntitlement, Customer, Plan, Price
from plans.overage_reports import send_next
from plans.subscriptions import read_back
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.inprocess import InProcessHTTPClient
from tesslate.lib.cause import Cause
from tests.factories import PlanFactory, PriceFactory

CAUSE = Cause.system("test")


class Stage:
    """One subscriber of a plan with ten dollars included, and Stripe."""

    def __init__(self, engine: StripeEngine, user: User) -> None:
        self.engine, self.user = engine, user
        self.posted = 0  # meter events sent, whatever became of them
        self.fault = ""  # "before" or "after" the effect of a meter event
        PlanFactory.create(code="free", is_default=True, rank=0)
        made = engine.create_price(unit_amount=2000, product_name="Pro")
        self.plan: Plan = PlanFactory.create(
            code="pro", rank=9, budget_cents=1000, overage_allowed=True, overage_markup_percent=20
        )
        self.price: Price = PriceFactory.create(plan=self.plan, stripe_price_id=made["id"])
        self.customer = self.buy(Customer.objects.create(user=user))

    def buy(self, customer: Customer, quantity: int = 1) -> Customer:
        customer.stripe_customer_id = self.engine.create_customer()["id"]
        customer.save()
        assert self.price.stripe_price_id is not None
        self.sub = self.engine.subscribe(
            customer.stripe_customer_id, self.price.stripe_price_id, quantity=quantity
        )["id"]
        self.read()
        return customer

    def read(self) -> None:
        read_back(self.sub, cause=CAUSE, at=self.now)

    def move_to(self, price: Price) -> None:
        """A change of plans within the period, a minute later."""
        self.engine.advance_to(self.engine.now() + 60)
        item = next(
            item
            for item in self.engine.object(self.sub)["items"]["data"]
            if not item["price"]["recurring"]["meter"]
        )
        changes = {
            "items": [{"id": item["id"], "price": price.stripe_price_id}],
            "proration_behavior": "none",
        }
        self.engine.request("POST", f"/v1/subscriptions/{self.sub}", changes)
        self.read()

    @property
    def now(self) -> datetime:
        return datetime.fromtimestamp(self.engine.now(), UTC)

    @property
    def entitlement(self) -> CurrentEntitlement:
        return CurrentEntitlement.objects.select_related("plan").get(user=self.user)

    def use(self, dollars: str, user: User | None = None, plan: str = "pro") -> None:
        UsageEntry.objects.create(
            source="gateway",
            external_id=f"call-{UsageEntry.objects.count()}",
            started_at=self.now + timedelta(seconds=1),
            user=user or self.user,
            plan_code=plan,
            cost=Decimal(dollars),
        )
        measuring.note_use([(user or self.user).pk], self.now, self.now + timedelta(seconds=1))
        self.measure()

    def measure(self) -> None:
        measuring.measure(at=self.now)

    def send(self, at: datetime | None = None) -> None:
        while send_next(at=at or self.now):
            pass

    def billed_on(self, subscription_id: str) -> bool:
        """Whether the subscription's invoices have what the meter counts."""
        items = self.engine.object(subscription_id)["items"]["data"]
        return any(item["price"]["recurring"]["meter"] for item in items)

    def meter_total(self) -> float:
        (meter,) = self.engine.objects("billing.meter")
        usage = self.engine.world.get("billing.meter", meter["id"])["_usage"]
        return float(sum(value for reports in usage.values() for _, value in reports))


class FaultyClient(InProcessHTTPClient):
    """Loses meter events on the way there, or their answers on the way back."""

    stage: Stage | None = None

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        fault = ""
        if self.stage is not None and "meter_events" in url:
            fault = self.stage.fault
            self.stage.posted += 1
        if fault == "before":
            return "{}", 500, {}
        answer = super().request(method, url, *args, **kwargs)
        return ("{}", 500, {}) if fault == "after" else answer
