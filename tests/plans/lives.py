"""Random lives of customers against the Stripe stand-in, with an unreliable post in between.

The state machine acts at Stripe (or through our own checkout), moves the clock, lets events be
lost, doubled, delayed and reordered, lets Stripe's API fail, and workers die. At the end everything
that people have must equal what the oracle tells from Stripe's state alone: before reconciliation
wherever each object's last event arrived at least once, and after it always.
"""

import json
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any
from unittest import mock

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from accounts.models import Membership, Organization, User
from accounts.signals import accounts_changed
from plans import inbox, webhooks
from plans.checkout import open_checkout
from plans.entitlements import refresh_due, refresh_entitlements
from plans.models import (
    Checkout,
    CurrentEntitlement,
    Plan,
    Price,
    StripeEvent,
    Subscription,
)
from plans.reconciliation import backfill_events, read_back_due, reconcile
from plans.signals import entitlements_changed
from plans.stripe_client import Stripe, connected_to
from sandbox.stripe.api import Api
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.errors import ApiError as Refused
from sandbox.stripe.events import Event
from sandbox.stripe.inprocess import InProcessHTTPClient
from tesslate.lib.cause import Cause
from tesslate.lib.errors import ApiError
from tests.plans.oracle import Expected, Terms, expected_of

CAUSE = Cause.system("life")
SHOWN = ("stripe_subscription_id", "status", "past_due_since", "current_period_end")
CARDS = ["pm_card_visa", "pm_card_visa", "pm_sepaDebit", "pm_sepaDebit_failed"]
LIVE = ("trialing", "active", "past_due", "unpaid", "paused", "incomplete")
PLANS = [
    Terms("free", 0, 14, 100),
    Terms("plus", 10, 14, 100),
    Terms("pro", 20, 7, 25),
]
PRICES = [
    ("plus", "month", 1900),
    ("plus", "year", 19_000),
    ("pro", "month", 9900),
    ("pro", "year", 99_000),
]

# How many histories ran, for the soak's last line.
histories_run = 0


class Lives(RuleBasedStateMachine):
    """Two customers, an organization of three, and everything that can happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(_rolled_back())

    @initialize(
        seed=st.integers(0, 2**32 - 1), ending=st.sampled_from(["cancel", "unpaid", "past_due"])
    )
    def begin(self, seed: int, ending: Any) -> None:
        self.random = random.Random(seed)
        self.engine = StripeEngine(seed=seed)
        self.engine.world.behaviour.dunning_end = ending
        # Due moment (in steps) and event: the post's sack.
        self.sack: list[tuple[int, Event]] = []
        self.steps = 0
        self.seen = 0
        self.trouble = 0.0
        self.dead_workers = 0
        api = Api(self.engine.world, settings.STRIPE_SECRET_KEY)
        client = InProcessHTTPClient(api, self._trouble)
        self.stack.enter_context(connected_to(Stripe(http_client=client, retries=0)))
        self.stack.enter_context(mock.patch.object(timezone, "now", self._now))
        self.stack.enter_context(mock.patch.object(webhooks, "wake"))
        # What the apps above make of a change is theirs to prove.
        self.stack.enter_context(mock.patch.object(entitlements_changed, "send"))
        self._people_and_prices()
        # Most lives begin with a purchase, or little of what follows would concern anybody.
        for who in range(3):
            if self.random.random() < 0.7:
                self._buy(who, self.random.randrange(len(self.prices)), self.random.choice(CARDS))

    def teardown(self) -> None:
        global histories_run
        try:
            if hasattr(self, "engine"):
                histories_run += 1
                self._check_both_ends()
        finally:
            self.stack.close()

    # What happens at Stripe

    @rule(
        who=st.integers(0, 2),
        price=st.integers(0, 3),
        card=st.sampled_from(
            ["pm_card_visa", "pm_card_visa", "pm_sepaDebit", "pm_sepaDebit_failed"]
        ),
    )
    def buys(self, who: int, price: int, card: str) -> None:
        self._buy(who, price, card)

    @rule(who=st.integers(0, 2), prices=st.tuples(st.integers(0, 3), st.integers(0, 3)))
    def buys_in_two_tabs(self, who: int, prices: tuple[int, int]) -> None:
        first = self._open(who, prices[0])
        second = self._open(who, prices[1])
        for session in (first, second):
            if session is not None:
                self._pay(session, "pm_card_visa")
        self._collect()

    @rule(who=st.integers(0, 2), price=st.integers(0, 3), trial=st.integers(0, 14))
    def is_subscribed_by_sales(self, who: int, price: int, trial: int) -> None:
        """Staff make a subscription in Stripe's dashboard, perhaps beside another one."""
        customer = self._customer(who)
        if customer is not None:
            self._try(
                lambda: self.engine.subscribe(
                    customer,
                    self.prices[price],
                    quantity=2,
                    **({"trial_period_days": trial} if trial else {}),
                )
            )

    @rule(which=st.integers(0, 9), price=st.integers(0, 3))
    def changes_price(self, which: int, price: int) -> None:
        self._to_subscription(which, lambda sub: self.engine.change_price(sub, self.prices[price]))

    @rule(which=st.integers(0, 9), seats=st.integers(1, 4))
    def changes_seats(self, which: int, seats: int) -> None:
        self._to_subscription(which, lambda sub: self.engine.set_quantity(sub, seats))

    @rule(which=st.integers(0, 9), later=st.booleans())
    def cancels(self, which: int, later: bool) -> None:
        self._to_subscription(which, lambda sub: self.engine.cancel(sub, at_period_end=later))

    @rule(which=st.integers(0, 9), days=st.integers(1, 40))
    def cancels_at_a_date(self, which: int, days: int) -> None:
        at = self.engine.now() + days * 86_400
        self._to_subscription(which, lambda sub: self.engine.update_subscription(sub, cancel_at=at))

    @rule(which=st.integers(0, 9))
    def resumes_what_was_to_end(self, which: int) -> None:
        self._to_subscription(which, self.engine.uncancel)

    @rule(which=st.integers(0, 9), pause=st.booleans())
    def pauses_or_resumes(self, which: int, pause: bool) -> None:
        self._to_subscription(which, self.engine.pause if pause else self.engine.resume)

    @rule(who=st.integers(0, 2), times=st.integers(0, 12))
    def has_a_failing_card(self, who: int, times: int) -> None:
        customer = self._customer(who)
        if customer is not None:
            self._try(lambda: self.engine.fail_payments(customer, times))

    @rule(who=st.integers(0, 2))
    def pays_what_is_open(self, who: int) -> None:
        customer = self._customer(who)
        if customer is None:
            return
        self.engine.fail_payments(customer, 0)
        for invoice in self.engine.open_invoices(customer):
            self._try(partial(self.engine.pay_invoice, invoice["id"]))

    @rule(who=st.integers(0, 2))
    def staff_void_the_oldest_open_invoice(self, who: int) -> None:
        customer = self._customer(who)
        invoices = self.engine.open_invoices(customer) if customer else []
        if invoices:
            oldest = invoices[-1]["id"]
            self._try(lambda: self.engine.request("POST", f"/v1/invoices/{oldest}/void"))

    @rule(who=st.integers(0, 2))
    @precondition(lambda self: self.steps > 8)
    def is_deleted_at_stripe(self, who: int) -> None:
        customer = self._customer(who)
        if customer is not None and self.random.random() < 0.3:
            self._try(lambda: self.engine.delete_customer(customer))

    @rule(hours=st.integers(1, 72))
    def hours_pass(self, hours: int) -> None:
        self._let_pass(hours * 3600)

    @rule(days=st.integers(3, 45))
    def days_pass(self, days: int) -> None:
        self._let_pass(days * 86_400)

    # What happens here

    @rule(member=st.integers(0, 2))
    def joins_or_leaves_the_organization(self, member: int) -> None:
        user = self.people[member]
        with transaction.atomic():
            deleted, _ = Membership.objects.filter(
                organization=self.organization, user=user
            ).delete()
            if not deleted:
                Membership.objects.create(organization=self.organization, user=user)
            ids = [person.pk for person in self.people]
            accounts_changed.send(sender=User, user_ids=ids, cause=CAUSE)
        self._collect()

    @rule(share=st.floats(0, 0.5))
    def stripe_has_trouble(self, share: float) -> None:
        self.trouble = share

    @rule()
    def stripe_recovers(self) -> None:
        self.trouble = 0.0

    @rule(count=st.integers(1, 12))
    def workers_run(self, count: int) -> None:
        for _ in range(count):
            if not inbox.process_next_event():
                break

    @rule()
    @precondition(lambda self: self.dead_workers < inbox.MAX_FAILURES - 1)
    def a_worker_dies(self) -> None:
        """Fewer than would have an event set aside, which only staff bring back."""
        self.dead_workers += 1
        inbox.claim_next_event(timezone.now())

    @rule()
    def planned_work_runs(self) -> None:
        read_back_due()
        refresh_due()

    @rule()
    def somebody_reconciles(self) -> None:
        if self.random.random() < 0.2:
            self._try(lambda: reconcile(cause=CAUSE))

    @rule()
    def missed_events_are_fetched(self) -> None:
        if self.random.random() < 0.2:
            self._try(backfill_events)

    # The ends

    def _check_both_ends(self) -> None:
        self.trouble = 0.0
        all_last_events = self.random.random() < 0.5
        if all_last_events:
            self._deliver_last_events()
            self._settle()
            self._compare("before reconciliation")
        assert reconcile(cause=CAUSE).failed == 0
        self._settle()
        self._compare("after reconciliation")

    def _settle(self) -> None:
        """Everything that waits is due, claims of the dead have run out, planned work has run."""
        while True:
            StripeEvent.objects.filter(state="pending").update(
                next_attempt_at=timezone.now(), claimed_until=None
            )
            if not inbox.process_next_event():
                break
        assert not StripeEvent.objects.filter(state="dead").exists(), list(
            StripeEvent.objects.filter(state="dead").values_list("type", "last_error")
        )
        refresh_due()

    def _compare(self, when: str) -> None:
        members = list(
            Membership.objects.order_by("joined_at", "id").values_list("user_id", flat=True)
        )
        for user in self.people:
            right = expected_of(
                self.engine,
                self.terms_by_price,
                user_id=user.pk,
                organizations={self.organization.pk: members},
            )
            row = CurrentEntitlement.objects.select_related("plan").get(user=user)
            assert as_expected(row) in right, (
                f"{when}: {user} has {as_expected(row)}, but Stripe says {right}.\n"
                f"Now: {self.engine.now()}\nReasons: {json.dumps(row.reasons, indent=1)}\n"
                f"Ours: {list(Subscription.objects.values_list(*SHOWN))}"
            )

    # The post

    def _collect(self) -> None:
        """Take the new events into the sack, each lost, once or more often, now or later; then
        deliver what is due in whatever order it lies there."""
        self.steps += 1
        for event in self.engine.events(after=self.seen):
            self.seen = event.seq
            for _ in range(self.random.choice([0, 1, 1, 1, 1, 2, 3])):
                wait = self.random.choice([0, 0, 0, 1, 2, 8])
                self.sack.append((self.steps + wait, event))
        due = [event for at, event in self.sack if at <= self.steps]
        self.sack = [entry for entry in self.sack if entry[0] > self.steps]
        self.random.shuffle(due)
        for event in due:
            self._deliver(event)
        if self.random.random() < 0.6:
            self.workers_run_a_while()

    def workers_run_a_while(self) -> None:
        for _ in range(self.random.randint(0, 8)):
            if not inbox.process_next_event():
                break

    def _deliver(self, event: Event) -> None:
        version = self.random.choice([None, None, "2025-02-24.acacia"])
        body = self.engine.event_payload(event, version)
        secret = settings.STRIPE_WEBHOOK_SECRETS[0]
        webhooks.receive(self.engine.signed(body, secret, int(time.time())), body)

    def _deliver_last_events(self) -> None:
        last: dict[str, Event] = {}
        for event in self.engine.events():
            about = json.loads(event.object)
            if about.get("id"):
                last[about["id"]] = event
        events = list(last.values())
        self.random.shuffle(events)
        for event in events:
            self._deliver(event)

    # Helpers

    def _people_and_prices(self) -> None:
        self.people = [
            User.objects.create_user(f"person{number}@example.com") for number in range(3)
        ]
        self.organization = Organization.objects.create(name="Acme")
        Membership.objects.create(
            organization=self.organization, user=self.people[0], role=Membership.Role.OWNER
        )
        plans = {
            terms.code: Plan.objects.create(
                code=terms.code,
                name=terms.code.title(),
                rank=terms.rank,
                is_default=terms.rank == 0,
                grace_days=terms.grace_days,
                grace_limit_percent=terms.grace_percent,
                rpm=1,
                tpm=1,
                budget_cents=1,
            )
            for terms in PLANS
        }
        terms = {terms.code: terms for terms in PLANS}
        self.prices: list[str] = []
        self.terms_by_price: dict[str, Terms] = {}
        for code, interval, amount in PRICES:
            made = self.engine.create_price(unit_amount=amount, interval=interval)
            Price.objects.create(
                plan=plans[code], interval=interval, unit_amount=amount, stripe_price_id=made["id"]
            )
            self.prices.append(made["id"])
            self.terms_by_price[made["id"]] = terms[code]
        refresh_entitlements([user.pk for user in self.people], cause=CAUSE)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.engine.now(), UTC)

    def _trouble(self, method: str, path: str) -> int | None:
        if self.trouble and self.random.random() < self.trouble:
            return self.random.choice([429, 500, 503])
        return None

    def _let_pass(self, seconds: int) -> None:
        self.engine.advance(seconds)
        self._collect()

    def _buy(self, who: int, price: int, card: str) -> None:
        session = self._open(who, price)
        if session is not None:
            self._pay(session, card)
        self._collect()

    def _open(self, who: int, price: int) -> str | None:
        """Through our own checkout: persons 0 and 1 for themselves, 2 stands for the owner."""
        for_organization = who == 2
        buyer = self.people[0 if for_organization else who]
        try:
            url = open_checkout(
                user=buyer,
                price_id=self.prices[price],
                organization_id=self.organization.pk if for_organization else None,
                quantity=2,
            )
        except ApiError:
            return None  # has one already, may not, or Stripe has trouble
        return Checkout.objects.get(url=url).stripe_session_id

    def _pay(self, session: str, card: str) -> None:
        self._try(lambda: self.engine.complete_checkout(session, method=card), collect=False)

    def _customer(self, who: int) -> str | None:
        """The customer object at Stripe of a person, or of the organization."""
        name = "organization_id" if who == 2 else "user_id"
        owner = str(self.organization.pk if who == 2 else self.people[who].pk)
        for customer in reversed(self.engine.objects("customer")):
            if not customer.get("deleted") and customer["metadata"].get(name) == owner:
                found: str = customer["id"]
                return found
        return None

    def _to_subscription(self, which: int, act: Callable[[str], Any]) -> None:
        live = [sub for sub in self.engine.objects("subscription") if sub["status"] in LIVE]
        if live:
            self._try(lambda: act(live[which % len(live)]["id"]))

    def _try(self, act: Callable[[], Any], *, collect: bool = True) -> None:
        """Do it if Stripe lets us; then the post comes."""
        from plans.errors import StripeError

        try:
            with transaction.atomic():
                act()
        except (Refused, StripeError):
            pass
        if collect:
            self._collect()


def as_expected(row: CurrentEntitlement) -> Expected:
    on_default = row.source == "default"
    window = (int(row.period_start.timestamp()), int(row.period_end.timestamp()))
    return Expected(
        plan=row.plan.code,
        percent=row.limit_percent,
        source=row.source,
        window=None if on_default else window,
        grace_ends=int(row.grace_ends_at.timestamp()) if row.grace_ends_at else None,
    )


class _rolled_back:  # noqa: N801 - used like a function
    """A database transaction that leaves nothing behind."""

    def __enter__(self) -> None:
        self.atomic = transaction.atomic()
        self.atomic.__enter__()

    def __exit__(self, *error: object) -> None:
        connection.set_rollback(True)
        self.atomic.__exit__(None, None, None)
