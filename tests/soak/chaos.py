"""The whole product under load while its parts are killed and paused: `make soak ONLY=chaos`.

A fresh copy, as `make run` starts it, takes signed events, plan changes made at Stripe, and chats.
Meanwhile each of its processes is killed outright, then frozen for some seconds: web, workers,
beat, PostgreSQL, Valkey, the gateway. After each fault the time is printed until a chat, an event
and a plan change go through again. In the end

    every event that was answered with 200 is in the inbox, and handled;
    every key says at the gateway what the plan says (`manage.py converge --check`);
    every answer that a client read to its end is on the books: in the ledger, or, where the web
    process was killed within the second that the ledger may lag, in the gateway's own log.

`--histories N` faults are made (by default each kind once); each loss is a divergence.
"""

import argparse
import contextlib
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import stripe

from tests.e2e.product import Product, fresh_copy

PROGRAMS = ("web", "worker", "worker-keys", "beat", "postgres", "valkey", "litellm")
FAULTS = [(name, how) for how in ("killed", "paused") for name in PROGRAMS]
PAUSE_SECONDS = 4.0
BETWEEN_SECONDS = 2.0
PATIENCE_SECONDS = 120.0
# Under load there are always some that arrived this moment.
FEW_EVENTS = 5
# The sweep, the backoff of what failed during a fault, and the gateway's own write interval.
SETTLE_SECONDS = 120.0
MODEL = "basic-chat"


class Copy:
    """The copy under attack, spoken to from outside."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.at: dict[str, Any] = product.endpoints()
        self.settings = dict(
            line.split("=", 1)
            for line in (product.folder / "env").read_text().splitlines()
            if "=" in line and not line.startswith("#")
        )
        self.token = self._sign_in(product.users["pro"])
        self.stripe = stripe.StripeClient(
            self.at["stripe_secret_key"], base_addresses={"api": self.at["stripe_api"]}
        )
        self.subscription = self._subscription_of(product.users["plus"]["email"])
        # Ids of events that were accepted; of requests whose answer was read, with the answer's.
        self.accepted: set[str] = set()
        self.answered: dict[str, str] = {}

    def _sign_in(self, user: dict[str, str]) -> str:
        answer = httpx.post(
            f"{self.at['firebase_api']}/v1/accounts:signInWithPassword",
            params={"key": self.at["firebase_api_key"]},
            json={
                "email": user["email"],
                "password": user["password"],
                "returnSecureToken": True,
            },
        ).raise_for_status()
        return str(answer.json()["idToken"])

    def _subscription_of(self, email: str) -> str:
        [customer] = self.stripe.v1.customers.list({"email": email}).data
        [subscription] = self.stripe.v1.subscriptions.list({"customer": customer.id}).data
        return str(subscription.id)

    def pid(self, name: str) -> int:
        """The present process of that name; the supervisor starts new ones."""
        return int(self.product.endpoints()["pids"][name])

    def post_event(self) -> bool:
        """A signed event of a kind that changes nothing; True when it was accepted."""
        identity = f"evt_chaos_{secrets.token_hex(8)}"
        event = {
            "id": identity,
            "object": "event",
            "api_version": "2026-10-28.endive",
            "created": int(time.time()),
            "livemode": False,
            "type": "plan.created",
            "data": {"object": {"id": "plan_1", "object": "plan"}},
        }
        body = json.dumps(event)
        header = stripe.WebhookSignature.generate_signature_header(
            body, self.at["stripe_webhook_secret"]
        )
        answer = httpx.post(
            f"{self.at['web']}/webhooks/stripe",
            content=body,
            headers={"stripe-signature": header, "content-type": "application/json"},
            timeout=5,
        )
        if answer.status_code == 200:
            self.accepted.add(identity)
        return answer.status_code == 200

    def chat(self) -> bool:
        """True when an answer was read to its end."""
        answer = httpx.post(
            f"{self.at['web']}/api/proxy/v1/chat/completions",
            json={
                "model": MODEL,
                "max_tokens": 5,
                "messages": [{"role": "user", "content": "Say yes."}],
            },
            headers={"authorization": f"Bearer {self.token}"},
            timeout=15,
        )
        if answer.status_code == 200:
            self.answered[answer.headers["x-request-id"]] = answer.json()["id"]
        return answer.status_code == 200

    def change_plan(self) -> bool:
        """Move the demo's other subscriber between the monthly prices at Stripe."""
        subscription = self.stripe.v1.subscriptions.retrieve(self.subscription)
        item = subscription["items"].data[0]
        prices = self.stripe.v1.prices.list({"limit": 100, "active": True}).data
        other = next(
            price.id
            for price in prices
            if price.id != item.price.id
            and price.recurring is not None
            and price.recurring.interval == "month"
        )
        change = {"items": [{"id": item.id, "price": other}]}
        self.stripe.v1.subscriptions.update(self.subscription, change)  # type: ignore[arg-type]
        return True

    def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.settings["DATABASE_URL"], connect_timeout=5) as connection:
            return list(connection.execute(statement, parameters).fetchall())

    def unhandled_events(self) -> int:
        [(count,)] = self.query("SELECT count(*) FROM plans_stripeevent WHERE state = 'pending'")
        return int(count)

    def lost_events(self) -> set[str]:
        found = self.query(
            "SELECT event_id FROM plans_stripeevent "
            "WHERE event_id LIKE 'evt_chaos_%%' AND state IN ('processed', 'ignored')"
        )
        return self.accepted - {row[0] for row in found}

    def not_in_the_ledger(self) -> set[str]:
        ledger = {f"req_{row[0].hex}" for row in self.query("SELECT id FROM chatproxy_chatrequest")}
        return set(self.answered) - ledger

    def on_no_books(self) -> set[str]:
        """Answers that are neither in the ledger nor in our copy of the gateway's log."""
        booked = {row[0] for row in self.query("SELECT external_id FROM llmkeys_usageentry")}
        return {found for found in self.not_in_the_ledger() if self.answered[found] not in booked}

    def converged(self) -> bool:
        environment = {**os.environ, **self.settings, "ENV_FILE": os.devnull}
        check = subprocess.run(
            [sys.executable, "manage.py", "converge", "--check"],
            env=environment,
            capture_output=True,
            check=False,
        )
        return check.returncode == 0


@contextlib.contextmanager
def load(*acts: Callable[[], bool]) -> Iterator[None]:
    """Do each act over and over in a thread of its own; what fails during a fault is expected."""
    over = threading.Event()

    def keep_on(act: Callable[[], bool]) -> None:
        while not over.is_set():
            tried(act)
            over.wait(0.3)

    threads = [threading.Thread(target=keep_on, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(30)


def tried(act: Callable[[], bool]) -> bool:
    try:
        return act()
    except (httpx.HTTPError, stripe.StripeError, psycopg.Error, OSError):
        return False


def within(seconds: float, act: Callable[[], bool]) -> float | None:
    """How long it took until the act succeeded; None when it did not in that time."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        if tried(act):
            return time.monotonic() - begun
        time.sleep(0.1)
    return None


def make_fault(copy: Copy, name: str, how: str) -> None:
    pid = copy.pid(name)
    if how == "killed":
        os.kill(pid, signal.SIGKILL)
        return
    # A pooled worker's children do the work: its whole session freezes.
    os.killpg(os.getpgid(pid), signal.SIGSTOP)
    time.sleep(PAUSE_SECONDS)
    os.killpg(os.getpgid(pid), signal.SIGCONT)


def recovery(copy: Copy) -> dict[str, float | None]:
    """Seconds, from the fault's end, until each goes through again."""
    acts: dict[str, Callable[[], bool]] = {
        "event": copy.post_event,
        "chat": copy.chat,
        "inbox empty": lambda: copy.unhandled_events() < FEW_EVENTS,
    }
    with ThreadPoolExecutor(len(acts)) as threads:
        waits = {name: threads.submit(within, PATIENCE_SECONDS, act) for name, act in acts.items()}
        return {name: wait.result() for name, wait in waits.items()}


def attack(copy: Copy, faults: int) -> int:
    """Make the faults under load; how many the product did not recover from in time."""
    stuck = 0
    with load(copy.post_event, copy.chat, copy.change_plan):
        for name, how in itertools.islice(itertools.cycle(FAULTS), faults):
            time.sleep(BETWEEN_SECONDS)
            make_fault(copy, name, how)
            seconds = recovery(copy)
            stuck += any(value is None for value in seconds.values())
            print(f"{name:>12} {how}: {json.dumps(_rounded(seconds))}", flush=True)
    return stuck


def _rounded(seconds: dict[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 2) for name, value in seconds.items()}


def losses(copy: Copy) -> int:
    """What is missing once everything has settled, each kind said."""
    within(SETTLE_SECONDS, lambda: copy.unhandled_events() == 0)
    settled = within(SETTLE_SECONDS, copy.converged)
    within(SETTLE_SECONDS, lambda: not copy.on_no_books())
    events, lagging, lost = copy.lost_events(), copy.not_in_the_ledger(), copy.on_no_books()
    print(f"events accepted {len(copy.accepted)}, lost {len(events)}")
    print(
        f"answers read {len(copy.answered)}, only in the gateway's log {len(lagging - lost)}, "
        f"lost {len(lost)}"
    )
    print(f"keys in step: {'no' if settled is None else 'yes'}")
    return len(events) + len(lost) + (settled is None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=len(FAULTS))
    parser.add_argument("--minutes", type=float, help="not used: faults take what they take")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="tesslate-chaos-") as folder,
        fresh_copy(Path(folder)) as product,
    ):
        copy = Copy(product)
        if within(PATIENCE_SECONDS, copy.chat) is None:
            raise SystemExit("The copy does not answer chats at all.")
        stuck = attack(copy, given.histories)
        divergences = stuck + losses(copy)
    print(f"histories: {given.histories}, divergences: {divergences}")
    return 1 if divergences else 0


if __name__ == "__main__":
    sys.exit(main())
