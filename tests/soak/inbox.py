"""Everything dies at once while Stripe delivers: `--histories N`, `--minutes N`.

Each history has customers buy or change their plan at the stand-in, posts the signed events to a
real web process, repeated and in any order, and kills web, worker, broker and database with
SIGKILL at some moment. After a restart every event that was answered with 2xx must be there; once
Stripe has sent the others again and the workers have run, everybody must have what they pay for.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import stripe

from sandbox.engines import HOST, Engine, Postgres, Valkey, free_port, start
from sandbox.stack import answers

ROOT = Path(__file__).resolve().parents[2]
STRIPE_KEY = "sk_test_soak"
SIGNED_WITH = "whsec_soak"
CUSTOMERS = 12
SENDERS = 8
LOG = "processes.log"
LONGEST_START = 60.0
LONGEST_DRAIN = 90.0
PRICES = {"plus": 1900, "pro": 9900}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0, help="stop after this long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args(argv)
    ends_at = time.monotonic() + options.minutes * 60 if options.minutes else None
    print(f"seed {options.seed}")
    histories = divergences = 0
    with tempfile.TemporaryDirectory(prefix="tesslate-killed-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root PostgreSQL runs under another account
        with town(folder, random.Random(options.seed)) as place:
            while histories < options.histories:
                problem = place.live_and_die()
                histories += 1
                divergences += bool(problem)
                print(f"history {histories}: {place.told}{problem or ', converged'}", flush=True)
                if problem:
                    print((folder / LOG).read_text()[-5000:])
                if ends_at is not None and time.monotonic() > ends_at:
                    break
    print(f"histories: {histories}, divergences: {divergences}")
    return int(divergences > 0)


@contextlib.contextmanager
def town(folder: Path, chooser: random.Random) -> Iterator["Town"]:
    """The stand-in, which outlives everything, and the settings by which all find each other."""
    engines = Postgres(folder / "postgres"), Valkey(folder / "valkey")
    for engine in engines:
        engine.prepare()
    port, web = free_port(), free_port()
    os.environ |= {
        "DATABASE_URL": engines[0].url("tesslate"),
        "REDIS_URL": engines[1].url(),
        "STRIPE_API_URL": f"http://{HOST}:{port}",
        "STRIPE_SECRET_KEY": STRIPE_KEY,
        "STRIPE_WEBHOOK_SECRETS": SIGNED_WITH,
        "SANDBOX_STRIPE_PORT": str(port),
        "SANDBOX_STRIPE_SECRET_KEY": STRIPE_KEY,
        "LOG_LEVEL": "ERROR",
    }
    standin = _spawn([sys.executable, "-m", "sandbox.stripe"], folder)
    _until(answers(f"http://{HOST}:{port}"), "the stand-in starts")
    place = Town(engines, web, folder, chooser)
    try:
        place.start_all()
        yield place
    finally:
        place.kill_all()
        _kill([standin])


class Town:
    """Customers, and the four processes that serve them."""

    def __init__(
        self, engines: tuple[Postgres, Valkey], web: int, folder: Path, chooser: random.Random
    ) -> None:
        self.engines, self.web, self.folder, self.random = engines, web, folder, chooser
        self.processes: list[subprocess.Popen[bytes]] = []
        self.stripe = stripe.StripeClient(
            STRIPE_KEY, base_addresses={"api": os.environ["STRIPE_API_URL"]}
        )
        # Customer at Stripe to their subscription and the plan that it pays for.
        self.subscriptions: dict[str, tuple[str, str]] = {}
        self.sent: set[str] = set()
        self.told = ""

    def start_all(self) -> None:
        self._start_engines()
        if not self.subscriptions:
            self._settle_down()
        worker = "-m celery --quiet -A tesslate worker --queues default --concurrency 2 --beat"
        schedule = str(self.folder / "beat")
        web = (
            f"-m uvicorn tesslate.asgi:application --host {HOST} --port {self.web} --no-access-log"
        )
        ignored = ["-W", "ignore:You're running the worker with superuser privileges"]
        self.processes += [
            _spawn([sys.executable, *web.split()], self.folder),
            _spawn(
                [sys.executable, *ignored, *worker.split(), "--schedule", schedule], self.folder
            ),
        ]
        _until(answers(f"http://{HOST}:{self.web}", "/health/live"), "the web process starts")

    def _start_engines(self) -> None:
        for engine in self.engines:
            self.processes.append(_started(engine))

    def kill_all(self) -> None:
        _kill(self.processes)
        self.processes = []

    def live_and_die(self) -> str:
        """One history; returns what went wrong, or nothing."""
        from django.db import connection

        from plans.models import StripeEvent

        self._change_plans()
        waiting = [event for event in self._events() if event["id"] not in self.sent]
        accepted = self._deliver_until_killed(waiting)
        connection.close()
        self.start_all()
        there = set(StripeEvent.objects.values_list("event_id", flat=True))
        self.told = f"{len(accepted)} of {len(waiting)} events accepted before the end"
        if accepted - there:
            return f", LOST {sorted(accepted - there)}"
        # Stripe sends again what was not answered, and we let the dead workers' claims run out.
        for event in waiting:
            if event["id"] not in accepted:
                assert self._deliver(event), "a delivery to the living was refused"
        self.sent |= {event["id"] for event in waiting}
        StripeEvent.objects.filter(state="pending").update(claimed_until=None)
        return self._drained() or self._wrong_plans()

    def _drained(self) -> str:
        from plans.models import StripeEvent

        ends_at = time.monotonic() + LONGEST_DRAIN
        while StripeEvent.objects.filter(state="pending").exists():
            if time.monotonic() > ends_at:
                return ", STILL PENDING"
            time.sleep(0.1)
        dead = StripeEvent.objects.filter(state="dead")
        return f", DEAD {list(dead.values_list('type', 'last_error'))}" if dead else ""

    def _wrong_plans(self) -> str:
        from plans.models import CurrentEntitlement

        rows = CurrentEntitlement.objects.filter(user__customer__isnull=False)
        have = dict(rows.values_list("user__customer__stripe_customer_id", "plan__code"))
        pay = {customer: plan for customer, (_, plan) in self.subscriptions.items()}
        return "" if have == pay else f", DIVERGED: they pay {pay} and have {have}"

    # Stripe's side

    def _post(self, path: str, **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.stripe.raw_request("post", path, **params).data
        return answer

    def _settle_down(self) -> None:
        """Make the database, the plans and the customers, who have nothing yet."""
        self.engines[0].ensure_database("tesslate")
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity", "0"], cwd=ROOT, check=True
        )
        import django

        django.setup()
        from accounts.models import User
        from plans.models import Customer, Price
        from plans.seeding import seed_plans

        seed_plans()
        self.prices = {
            plan: self._post(
                "/v1/prices",
                unit_amount=amount,
                currency="usd",
                recurring={"interval": "month"},
                product_data={"name": plan},
            )["id"]
            for plan, amount in PRICES.items()
        }
        for plan, price in self.prices.items():
            Price.objects.filter(plan__code=plan, interval="month").update(stripe_price_id=price)
        for number in range(CUSTOMERS):
            user = User.objects.create_user(f"person{number}@example.com")
            customer = self._post("/v1/customers", metadata={"user_id": str(user.pk)})["id"]
            Customer.objects.create(user=user, stripe_customer_id=customer)
            method = self._post("/v1/payment_methods/pm_card_visa/attach", customer=customer)
            bought = self._post(
                "/v1/subscriptions",
                customer=customer,
                items=[{"price": self.prices["plus"]}],
                default_payment_method=method["id"],
            )
            self.subscriptions[customer] = bought["id"], "plus"

    def _change_plans(self) -> None:
        for customer, (subscription, plan) in list(self.subscriptions.items()):
            if self.random.random() < 0.3:
                continue
            other = "pro" if plan == "plus" else "plus"
            found = self.stripe.raw_request("get", f"/v1/subscriptions/{subscription}").data
            item = found["items"]["data"][0]["id"]
            self._post(
                f"/v1/subscriptions/{subscription}",
                items=[{"id": item, "price": self.prices[other]}],
            )
            self.subscriptions[customer] = subscription, other

    def _events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {"limit": 100}
        while True:
            page = self.stripe.raw_request("get", "/v1/events", **params).data
            found += page["data"]
            if not page["has_more"]:
                return found
            params["starting_after"] = page["data"][-1]["id"]

    def _deliver(self, event: dict[str, Any]) -> bool:
        """Was it accepted?"""
        body = json.dumps(event)
        header = stripe.WebhookSignature.generate_signature_header(body, SIGNED_WITH)
        url = f"http://{HOST}:{self.web}/webhooks/stripe"
        try:
            answer = httpx.post(
                url, content=body, headers={"Stripe-Signature": header}, timeout=15, trust_env=False
            )
        except httpx.HTTPError:
            return False
        return answer.is_success

    def _deliver_until_killed(self, events: list[dict[str, Any]]) -> set[str]:
        """Some twice, in any order; meanwhile everything is killed. Gives what was accepted."""
        order = events + self.random.sample(events, len(events) // 4)
        self.random.shuffle(order)
        with ThreadPoolExecutor(SENDERS) as senders:
            answered = [(event["id"], senders.submit(self._deliver, event)) for event in order]
            some = self.random.randrange(len(order))
            answered[some][1].result()
            time.sleep(self.random.choice([0, 0.01, 0.2]))
            self.kill_all()
        return {event_id for event_id, answer in answered if answer.result()}


def _spawn(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / LOG).open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _started(engine: Engine) -> subprocess.Popen[bytes]:
    process = start(engine)
    _until(engine.is_ready, f"{engine.name} starts")
    return process


def _until(is_so: Callable[[], bool], what: str) -> None:
    ends_at = time.monotonic() + LONGEST_START
    while not is_so():
        if time.monotonic() > ends_at:
            raise RuntimeError(f"{what}: not within {timedelta(seconds=LONGEST_START)}")
        time.sleep(0.05)


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    """SIGKILL to all and to whatever they started, at the same moment."""
    doomed = [process.pid for process in processes]
    parents = _parents()
    for pid in doomed:
        doomed += [child for child, parent in parents.items() if parent == pid]
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for process in processes:
        process.wait()


def _parents() -> dict[int, int]:
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
