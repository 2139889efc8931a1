"""How long an access that was taken away at Stripe can still be used: from the POST of a signed
webhook to the moment the gateway's stand-in shows the customer's key the smaller plan's models
and no others, at EVENTS_PER_SECOND, with the processes that `make run` has: one web, one worker for
events and one for keys.

Half of the customers cancel (customer.subscription.deleted), half move to a smaller plan
(customer.subscription.updated). BENCH_WITHDRAWALS (200) changes the effort. The baseline is how
long the same requests take to be answered: everything after that is ours.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench import keys, webhooks
from bench.lib.load import percentile
from bench.lib.processes import CORES, OTHER_CORES, free_port, program, uvicorn
from bench.lib.result import Result, compared
from sandbox.stack import WORKERS

WITHDRAWALS = int(os.environ.get("BENCH_WITHDRAWALS", "200"))
EVENTS_PER_SECOND = 20
SENDERS = 4
GIVE_UP_SECONDS = 60
MODELS = {"free": frozenset("a"), "plus": frozenset("ab"), "pro": frozenset("abc")}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A customer about to lose models, and their key's value."""

    subscription: Json
    secret: str = field(repr=False)
    cancels: bool


@dataclass(slots=True)
class Seen:
    """When it was posted, and the seconds from then to its answer and until the gateway obeyed; 0
    for what has not happened yet."""

    sent: float = 0
    answered: float = 0
    enforced: float = 0


def results() -> Iterator[Result]:
    port = free_port()
    stripe = {
        "SANDBOX_STRIPE_PORT": str(port),
        "SANDBOX_STRIPE_SECRET_KEY": webhooks.STRIPE_KEY,
    }
    os.environ.update(
        {
            "STRIPE_API_URL": f"http://127.0.0.1:{port}",
            "STRIPE_SECRET_KEY": webhooks.STRIPE_KEY,
            "STRIPE_WEBHOOK_SECRETS": webhooks.SIGNED_WITH,
        }
    )
    command = [sys.executable, "-m", "sandbox.stripe"]
    with program(command, port=port, cores=OTHER_CORES, environment=stripe), keys.system():
        waiting = customers()
        with processes() as web:
            seen = withdraw(web, waiting)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        yield compared(
            f"webhook_to_enforced_{name}",
            percentile(sorted(one.enforced for one in seen), share),
            "s",
            percentile(sorted(one.answered for one in seen), share),
        )


def customers() -> list[Withdrawal]:
    """Customers of the largest plan, whose keys the gateway has in step."""
    from django.core.management import call_command

    from llmkeys.models import VirtualKey
    from plans import inbox
    from plans.models import GatewayModel, Plan
    from plans.seeding import seed_plans
    from tesslate.lib.crypto import decrypt

    call_command("migrate", verbosity=0)
    seed_plans()
    for code, names in MODELS.items():
        models = [GatewayModel.objects.get_or_create(name=n, title=n)[0] for n in sorted(names)]
        Plan.objects.get(code=code).gateway_models.set(models)
    with keys.quietly():
        bought = webhooks.purchases(WITHDRAWALS, "pro")
        for subscription in bought:
            made = webhooks.event(subscription, "customer.subscription.created")
            inbox.store(made, json.dumps(made))
        while inbox.process_next_event():
            pass
        keys.drain()
    assert not VirtualKey.objects.exclude(desired__metadata__plan="pro").exists()
    rows = VirtualKey.objects.select_related("user__customer")
    secrets = {row.user.customer.stripe_customer_id: decrypt(row.secret) for row in rows}
    return [
        Withdrawal(subscription, secrets[subscription["customer"]], cancels=number % 2 == 0)
        for number, subscription in enumerate(bought)
    ]


@contextlib.contextmanager
def processes() -> Iterator[int]:
    """Web and workers as `make run` has them; gives the web's port."""
    port, workers = free_port(), []
    celery = "-W ignore::Warning -m celery --quiet -A tesslate worker -l ERROR"
    with program(uvicorn("tesslate.asgi:application", port), port=port, cores=set(CORES)):
        try:
            for name, (queues, count) in WORKERS.items():
                options = f"--queues {queues} --hostname {name}@%h --concurrency {count}"
                command = f"{celery} {options} --without-mingle --without-gossip"
                workers.append(subprocess.Popen([sys.executable, *command.split()]))
            keys.wait_for_workers(len(workers))
            yield port
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(15)


def withdraw(port: int, waiting: Sequence[Withdrawal]) -> list[Seen]:
    """Send at the pace, and look at the keys of those sent, one after the other: a look at the
    gateway costs time that the product needs for its own calls."""
    from django.conf import settings

    smaller = webhooks.put_on_sale("plus")
    seen = [Seen() for _ in waiting]
    begun = time.monotonic()
    with (
        ThreadPoolExecutor(SENDERS) as senders,
        httpx.Client(base_url=f"http://127.0.0.1:{port}") as web,
        httpx.Client(base_url=settings.LITELLM_URL) as gateway,
    ):
        sent: list[Future[None]] = []
        while not all(one.enforced for one in seen):
            if (
                len(sent) < len(waiting)
                and time.monotonic() - begun > len(sent) / EVENTS_PER_SECOND
            ):
                one = len(sent)
                sent.append(senders.submit(deliver, web, waiting[one], smaller, seen[one]))
            for one, record in enumerate(seen):
                if record.sent and not record.enforced:
                    look(gateway, waiting[one], record)
            for each in sent:
                if each.done():
                    each.result()
            time.sleep(0.005)
    return seen


def at_stripe(one: Withdrawal, smaller: str) -> Json:
    """Take it away at Stripe, which has not told anybody yet; the event that will."""
    path = f"/v1/subscriptions/{one.subscription['id']}"
    if one.cancels:
        about = webhooks.at_stripe(path, "delete")
        return webhooks.event(about, "customer.subscription.deleted")
    item = one.subscription["items"]["data"][0]["id"]
    about = webhooks.at_stripe(path, items=[{"id": item, "price": smaller}])
    return webhooks.event(about, "customer.subscription.updated")


def deliver(web: httpx.Client, one: Withdrawal, smaller: str, record: Seen) -> None:
    body, headers = webhooks.delivery(at_stripe(one, smaller))
    record.sent = time.perf_counter()
    answer = web.post("/webhooks/stripe", content=body, headers=headers)
    record.answered = time.perf_counter() - record.sent
    assert answer.status_code == 200, answer.text


def look(gateway: httpx.Client, one: Withdrawal, record: Seen) -> None:
    """Ask as the customer which models the key may call."""
    answer = gateway.get("/v1/models", headers={"Authorization": f"Bearer {one.secret}"})
    waited = time.perf_counter() - record.sent
    if {model["id"] for model in answer.json()["data"]} == MODELS[
        "free" if one.cancels else "plus"
    ]:
        record.enforced = waited
    assert waited < GIVE_UP_SECONDS, "the gateway never obeyed"
