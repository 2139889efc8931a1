"""Stripe's webhooks: how many events one web process takes, how soon it answers while no worker
runs, and how many subscription events one worker processes against the stand-in.

Baselines: the same INSERT on one bare connection; an answer of the same process that touches no
database; the bare look-up at Stripe that every subscription event costs. BENCH_WEBHOOKS (3000)
and BENCH_SUBSCRIPTIONS (300) change the effort.
"""

import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from bench.lib.load import percentile
from bench.lib.processes import OTHER_CORES, TESTED_CORE, free_port, program, uvicorn
from bench.lib.result import Result, compared
from sandbox.engines import Postgres, Valkey, running

EVENTS = int(os.environ.get("BENCH_WEBHOOKS", "3000"))
SUBSCRIPTIONS = int(os.environ.get("BENCH_SUBSCRIPTIONS", "300"))
SENDERS = 16
PACE_PER_SECOND = 50
PACE_SECONDS = 10
STRIPE_KEY = "sk_test_bench"
SIGNED_WITH = "whsec_bench"


def results() -> Iterator[Result]:
    with system() as port:
        yield asyncio.run(accepting(port))
        yield asyncio.run(answering(port))
        yield processing()


@contextlib.contextmanager
def system() -> Iterator[int]:
    """Engines, the Stripe stand-in and one web process up; no worker. Gives the web's port."""
    with tempfile.TemporaryDirectory(prefix="tesslate-bench-") as name:
        folder, web, stripe = Path(name), free_port(), free_port()
        folder.chmod(0o711)  # as root PostgreSQL runs under another account
        postgres = Postgres(folder / "postgres", durable=False)
        valkey = Valkey(folder / "valkey", durable=False)
        standin = {"SANDBOX_STRIPE_PORT": str(stripe), "SANDBOX_STRIPE_SECRET_KEY": STRIPE_KEY}
        command = [sys.executable, "-m", "sandbox.stripe"]
        with (
            running(postgres, valkey),
            program(command, port=stripe, cores=OTHER_CORES, environment=standin),
        ):
            postgres.ensure_database("tesslate")
            os.environ.update(
                {
                    "DEBUG": "true",
                    "DATA_DIR": name,
                    "DATABASE_URL": postgres.url("tesslate"),
                    "REDIS_URL": valkey.url(),
                    "STRIPE_API_URL": f"http://127.0.0.1:{stripe}",
                    "STRIPE_SECRET_KEY": STRIPE_KEY,
                    "STRIPE_WEBHOOK_SECRETS": SIGNED_WITH,
                    "DJANGO_SETTINGS_MODULE": "tesslate.settings",
                    "LOG_LEVEL": "ERROR",
                }
            )
            import django
            from django.core.management import call_command

            django.setup()
            call_command("migrate", verbosity=0)
            with program(uvicorn("tesslate.asgi:application", web), port=web, cores=TESTED_CORE):
                yield web


def event(about: dict[str, Any], kind: str = "customer.subscription.updated") -> dict[str, Any]:
    from django.conf import settings

    return {
        "id": f"evt_{uuid.uuid4().hex}",
        "object": "event",
        "api_version": settings.STRIPE_API_VERSION,
        "created": int(time.time()),
        "livemode": False,
        "type": kind,
        "data": {"object": about},
    }


def sample() -> dict[str, Any]:
    """About as large as a real subscription: 2.5 kB with its envelope."""
    return {
        "id": f"sub_{uuid.uuid4().hex}",
        "object": "subscription",
        "customer": f"cus_{uuid.uuid4().hex}",
        "status": "active",
        "padding": "x" * 2000,
    }


def delivery(found: dict[str, Any] | None = None) -> tuple[bytes, dict[str, str]]:
    """An event as Stripe would post it: its body and headers."""
    import stripe

    body = json.dumps(found or event(sample()))
    header = stripe.WebhookSignature.generate_signature_header(body, SIGNED_WITH)
    return body.encode(), {"Stripe-Signature": header, "Content-Type": "application/json"}


async def accepting(port: int) -> Result:
    """Events per second that one web process stores and answers, SENDERS at a time."""
    import aiohttp

    waiting = [delivery() for _ in range(EVENTS)]
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def send_some() -> None:
            while waiting:
                body, headers = waiting.pop()
                async with session.post("/webhooks/stripe", data=body, headers=headers) as answer:
                    assert answer.status == 200, await answer.text()

        begun = time.perf_counter()
        await asyncio.gather(*(send_some() for _ in range(SENDERS)))
        rate = EVENTS / (time.perf_counter() - begun)
    return compared("webhook_accept", rate, "events/s", await asyncio.to_thread(bare_inserts))


def bare_inserts() -> float:
    from django.db import connection

    from plans import inbox

    made = [(found := event(sample()), json.dumps(found)) for _ in range(500)]
    begun = time.perf_counter()
    for found, text in made:
        inbox.store(found, text)
    rate = len(made) / (time.perf_counter() - begun)
    connection.close()
    return rate


async def answering(port: int) -> Result:
    """Milliseconds until the answer, 99th percentile, at a steady pace with all workers down."""
    import aiohttp

    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def deliver() -> None:
            body, headers = delivery()
            async with session.post("/webhooks/stripe", data=body, headers=headers) as answer:
                assert answer.status == 200

        async def touch_nothing() -> None:
            async with session.get("/webhooks/stripe") as answer:
                assert answer.status == 405

        return compared(
            "webhook_answer_p99",
            await paced(deliver),
            "ms",
            await paced(touch_nothing),
        )


async def paced(call: Callable[[], Awaitable[None]]) -> float:
    taken: list[float] = []

    async def one() -> None:
        begun = time.perf_counter()
        await call()
        taken.append((time.perf_counter() - begun) * 1000)

    tasks = []
    for _ in range(PACE_PER_SECOND * PACE_SECONDS):
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(1 / PACE_PER_SECOND)
    await asyncio.gather(*tasks)
    return percentile(taken, 0.99)


def processing() -> Result:
    """Subscription events per second of one worker: each a new purchase, read back and applied."""
    from django.conf import settings

    from plans import inbox, stripe_client
    from plans.models import StripeEvent

    StripeEvent.objects.all().delete()
    subscriptions = purchases(SUBSCRIPTIONS)
    # As on a server: with DEBUG Django writes down every statement, parameters and all.
    settings.DEBUG = False
    for found in subscriptions:
        made = event(found)
        inbox.store(made, json.dumps(made))
    begun = time.perf_counter()
    while inbox.process_next_event():
        pass
    rate = len(subscriptions) / (time.perf_counter() - begun)
    states = set(StripeEvent.objects.values_list("state", "outcome"))
    assert states == {("processed", "subscription.created")}, states
    begun = time.perf_counter()
    for found in subscriptions:
        stripe_client.connection().subscription(found["id"])
    looks = len(subscriptions) / (time.perf_counter() - begun)
    return compared("webhook_process", rate, "events/s/worker", looks)


def purchases(count: int, code: str = "plus") -> list[dict[str, Any]]:
    """As many customers of ours with a subscription at the stand-in, unknown to us so far."""
    from accounts.models import User
    from plans.models import Customer
    from plans.seeding import seed_plans
    from plans.selectors import current_entitlement

    seed_plans()
    price = put_on_sale(code)
    found = []
    for number in range(count):
        user = User.objects.create_user(f"buyer{number}@example.com")
        customer = at_stripe("/v1/customers", email=user.email, metadata={"user_id": str(user.pk)})
        name = customer["id"]
        method = at_stripe("/v1/payment_methods/pm_card_visa/attach", customer=name)["id"]
        Customer.objects.create(user=user, stripe_customer_id=name)
        current_entitlement(user)  # as signing up leaves it
        found.append(
            at_stripe(
                "/v1/subscriptions",
                customer=name,
                items=[{"price": price}],
                default_payment_method=method,
            )
        )
    return found


def put_on_sale(code: str) -> str:
    """Give the plan's monthly price an object at the stand-in; its id."""
    from plans.models import Price

    made: str = at_stripe(
        "/v1/prices",
        unit_amount=1900,
        currency="usd",
        recurring={"interval": "month"},
        product_data={"name": code},
    )["id"]
    Price.objects.filter(plan__code=code, interval="month").update(stripe_price_id=made)
    return made


def at_stripe(path: str, method: str = "post", **params: Any) -> dict[str, Any]:
    import stripe
    from django.conf import settings

    client = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": settings.STRIPE_API_URL})
    answer: dict[str, Any] = client.raw_request(method, path, **params).data
    return answer
