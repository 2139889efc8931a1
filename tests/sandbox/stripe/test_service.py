"""Settings, restarts, the control interface, and the client without a network."""

from pathlib import Path

import httpx
import pytest
import stripe

from sandbox.stripe.clock import ManualClock
from sandbox.stripe.engine import StripeEngine
from sandbox.stripe.inprocess import in_process_client
from sandbox.stripe.service import Service
from sandbox.stripe.settings import BadSetting, Settings
from sandbox.stripe.testing import RunningStripe, stripe_sandbox

GIVEN = {"SANDBOX_STRIPE_PORT": "8002", "SANDBOX_STRIPE_SECRET_KEY": "sk_test_x"}


# --- settings


def test_settings_from_the_environment():
    settings, port = Settings.from_environment(
        GIVEN
        | {
            "SANDBOX_STRIPE_WEBHOOK_URL": "http://127.0.0.1:8000/webhooks/stripe",
            "SANDBOX_STRIPE_WEBHOOK_SECRET": "whsec_x",
            "SANDBOX_STRIPE_DATA": "/nowhere",
            "SANDBOX_STRIPE_RETRY_SECONDS": "0.5,3",
        }
    )
    assert port == 8002
    assert settings.public_url == "http://127.0.0.1:8002"
    assert settings.retry_seconds == (0.5, 3.0)
    assert settings.data == Path("/nowhere")


@pytest.mark.parametrize(
    "wrong",
    [
        {"SANDBOX_STRIPE_PORT": "eighty"},
        {"SANDBOX_STRIPE_SECRET_KEY": ""},
        {"SANDBOX_STRIPE_API_VERSION": "2031-01-01.future"},
        {"SANDBOX_STRIPE_RETRY_SECONDS": "0"},
    ],
)
def test_setting_that_makes_no_sense_is_named(wrong: dict[str, str]):
    with pytest.raises(BadSetting, match=next(iter(wrong))):
        Settings.from_environment(GIVEN | wrong)


def test_webhook_url_needs_a_secret():
    with pytest.raises(BadSetting, match="SANDBOX_STRIPE_WEBHOOK_SECRET"):
        Settings.from_environment(GIVEN | {"SANDBOX_STRIPE_WEBHOOK_URL": "http://x"})


# --- restarts


def settings(folder: Path) -> Settings:
    return Settings(
        secret_key="sk_test_x",
        public_url="http://x",
        webhook_url="http://127.0.0.1:9/w",
        webhook_secret="whsec_x",
        data=folder,
    )


def test_everything_is_there_after_a_restart(tmp_path: Path):
    clock = ManualClock()
    first = Service(settings(tmp_path), clock=clock)
    engine = first.engine
    customer = engine.create_customer(email="a@b.c")["id"]
    sub = engine.subscribe(customer, engine.create_price(unit_amount=500)["id"])["id"]
    engine.fail_payments(customer, 1)
    first.change_behaviour({"draft_seconds": 0, "retry_days": [2, 4]})
    before = engine.object(sub), [event.as_json() for event in engine.events()]
    first.close()

    second = Service(settings(tmp_path), clock=clock)
    assert (second.engine.object(sub), [e.as_json() for e in second.engine.events()]) == before
    assert list(second.world.behaviour.retry_days) == [2, 4]
    assert len(second.engine.objects("webhook_endpoint")) == 1
    # What lay ahead still does, the ordered failure included.
    second.engine.advance(days=31)
    assert second.engine.object(sub)["status"] == "past_due"
    assert second.engine.events()[-1].seq == len(second.engine.events())
    second.close()


def test_state_survives_without_a_farewell(tmp_path: Path):
    first = Service(settings(tmp_path), clock=ManualClock())
    customer = first.engine.create_customer()["id"]
    second = Service(settings(tmp_path), clock=ManualClock())  # the first was never closed
    assert second.engine.object(customer)["id"] == customer
    for service in (first, second):
        service.close()


def test_moved_clock_stays_moved(tmp_path: Path):
    first = Service(settings(tmp_path))
    first.move_clock(first.engine.now() + 100_000)
    moment = first.engine.now()
    first.close()
    second = Service(settings(tmp_path))
    assert 0 <= second.engine.now() - moment < 60
    second.close()


def test_reset_forgets_everything_but_the_configured_endpoint(tmp_path: Path):
    service = Service(settings(tmp_path), clock=ManualClock())
    service.engine.create_customer()
    service.reset()
    assert service.engine.objects("customer") == []
    assert service.engine.events() == []
    assert len(service.engine.objects("webhook_endpoint")) == 1
    service.close()


# --- control


@pytest.fixture(scope="module")
def running():
    with stripe_sandbox() as running:
        yield running


def test_seed_makes_a_catalogue(running: RunningStripe):
    prices = [{"unit_amount": 900, "lookup_key": "seeded_month"}]
    made = running.control("POST", "seed", {"products": [{"name": "Seeded", "prices": prices}]})
    assert made["products"][0]["prices"][0]["lookup_key"] == "seeded_month"


def test_control_drives_a_life(running: RunningStripe):
    engine = running.engine
    price = engine.create_price(unit_amount=500)["id"]
    session = engine.create_checkout(price)["id"]
    done = running.control("POST", f"sessions/{session}/complete", {"email": "a@b.c"})
    customer, sub = done["customer"], done["subscription"]
    running.control("POST", f"customers/{customer}/fail_next", {"times": 1})
    running.control("POST", "clock", {"past_renewal": sub})
    assert engine.object(sub)["status"] == "past_due"
    running.control("POST", f"customers/{customer}/method", {"method": "pm_card_mastercard"})
    running.control("POST", "clock", {"advance": 86_400})
    assert engine.object(sub)["status"] == "active"
    charge = engine.charge_of(engine.object(sub)["latest_invoice"])
    refund = running.control("POST", f"charges/{charge}/refund", {"amount": 100})
    assert refund["amount"] == 100
    dispute = running.control("POST", f"charges/{charge}/dispute", {})
    assert (
        running.control("POST", f"disputes/{dispute['id']}", {"status": "won"})["status"] == "won"
    )
    assert running.control("POST", f"charges/{charge}/early_fraud_warning")["charge"] == charge


def test_control_settles_debits(running: RunningStripe):
    engine = running.engine
    session = engine.create_checkout(engine.create_price(unit_amount=500)["id"])["id"]
    done = running.control(
        "POST", f"sessions/{session}/complete", {"method": "pm_usBankAccount_success"}
    )
    intent = engine.objects("payment_intent")[-1]["id"]
    running.control("POST", f"payment_intents/{intent}/settle", {"outcome": "succeeded"})
    assert engine.object(done["id"])["payment_status"] == "paid"


def test_control_injects_events_and_changes_settings(running: RunningStripe):
    made = running.control("POST", "events", {"type": "a.b", "object": {"object": "a", "id": "1"}})
    assert running.engine.events()[-1].id == made["id"]
    assert running.control("POST", "settings", {"dunning_end": "unpaid"})["dunning_end"] == "unpaid"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("customers/cus_nope/fail_next", {}, 404),
        ("nothing", {}, 404),
        ("settings", {"moon": 1}, 400),
        ("deliveries", {"moon": 1}, 400),
        ("clock", {"now": 1}, 400),
        ("deliveries/redeliver", {"event": "evt_nope"}, 404),
    ],
)
def test_control_says_what_it_does_not_know(
    running: RunningStripe, path: str, body: dict[str, int], status: int
):
    with pytest.raises(httpx.HTTPStatusError) as refusal:
        running.control("POST", path, body)
    assert refusal.value.response.status_code == status


# --- in process


def test_official_client_works_without_a_network():
    engine = StripeEngine(seed=5)
    client = in_process_client(engine)
    customer = client.v1.customers.create({"email": "a@b.c", "metadata": {"k": "v"}})
    price = engine.create_price(unit_amount=500)["id"]
    engine.use_method(customer.id, "pm_card_visa")
    sub = client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price}]})
    assert sub.status == "active"
    listed = client.v1.subscriptions.list({"customer": customer.id, "expand": ["data.customer"]})
    assert listed.data[0].to_dict()["customer"]["email"] == "a@b.c"
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        client.v1.subscriptions.retrieve("sub_nope")
    assert refusal.value.code == "resource_missing"
    assert str(refusal.value.request_id).startswith("req_")


async def test_official_client_works_without_a_network_and_asynchronously():
    client = in_process_client(StripeEngine(seed=5))
    customer = await client.v1.customers.create_async({"email": "a@b.c"})
    again = await client.v1.customers.retrieve_async(customer.id)
    assert again.email == "a@b.c"


def test_trouble_can_be_ordered_in_process():
    answers = iter([429, 500, None])
    client = in_process_client(
        StripeEngine(seed=5), trouble=lambda method, path: next(answers), max_network_retries=0
    )
    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.list()
    with pytest.raises(stripe.APIError):
        client.v1.customers.list()
    assert client.v1.customers.list().data == []
