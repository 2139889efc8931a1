"""The doctor finds what is wrong, says what to do, and never breaks down itself."""

import io
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from llmkeys.models import VirtualKey
from plans.handlers import HANDLERS
from plans.models import StripeEvent
from tesslate import doctor
from tesslate.doctor import FAILURE, OK, WARNING, Diagnosis
from tesslate.health import CHECKS, Degraded
from tests.factories import (
    GatewayModelFactory,
    PlanFactory,
    PriceFactory,
    SubscriptionFactory,
    UserFactory,
)
from tests.tesslate.test_health import make_event

pytestmark = pytest.mark.django_db

ENDPOINT = {
    "url": "http://testserver/webhooks/stripe",
    "status": "enabled",
    "enabled_events": ["*"],
    "api_version": "2026-10-28.endive",
}


def check(name: str, monkeypatch: pytest.MonkeyPatch) -> Diagnosis:
    monkeypatch.setattr(doctor, "CHECKUPS", {name: doctor.CHECKUPS[name]})
    [found] = doctor.diagnose()
    return found


class Gateway:
    def __init__(self, accepted: set[str], models: set[str]) -> None:
        self._accepted, self._models = accepted, models

    def accepts(self, key: str) -> bool:
        return key in self._accepted

    def model_names(self) -> set[str]:
        return self._models


class Account:
    def __init__(self, *endpoints: dict[str, Any]) -> None:
        self._endpoints = endpoints

    def webhook_endpoints(self) -> list[dict[str, Any]]:
        return list(self._endpoints)


def test_neighbour_that_limps_is_told_with_what_it_says(monkeypatch):
    def limp() -> dict[str, Any]:
        raise Degraded(silent_seconds={"default": 3, "keys": None})

    monkeypatch.setitem(CHECKS, "worker", limp)
    found = check("Worker", monkeypatch)

    assert found.state == FAILURE
    assert found.finding == "silent seconds default 3 keys never"
    assert "queues" in found.remedy


def test_beat_that_nobody_heard_of_is_told_in_words(monkeypatch, empty_cache):
    found = check("Beat", monkeypatch)

    assert found.state == FAILURE
    assert found.finding == "not heard of within the last day"
    assert "just started" in found.remedy


@pytest.mark.parametrize(
    ("accepted", "state"), [({"new", "old"}, OK), ({"new"}, WARNING), (set(), FAILURE)]
)
def test_master_keys_that_the_gateway_refuses_are_found(settings, monkeypatch, accepted, state):
    settings.LITELLM_MASTER_KEYS = ["new", "old"]
    monkeypatch.setattr(doctor, "gateway", lambda: Gateway(accepted, set()))

    assert check("Master key", monkeypatch).state == state


def test_model_that_is_sold_and_not_served_is_named(monkeypatch):
    PlanFactory.create(gateway_models=[GatewayModelFactory.create(name="basic-chat")])
    PlanFactory.create(gateway_models=[GatewayModelFactory.create(name="sold-out")])
    monkeypatch.setattr(doctor, "gateway", lambda: Gateway(set(), {"basic-chat"}))
    found = check("Models", monkeypatch)

    assert found.state == FAILURE
    assert "sold-out" in found.finding
    assert "basic-chat" not in found.finding


@pytest.mark.parametrize(
    ("change", "state", "says"),
    [
        ({}, OK, "delivers"),
        ({"url": "https://elsewhere/webhooks/stripe"}, FAILURE, "none at Stripe"),
        ({"status": "disabled"}, FAILURE, "none at Stripe"),
        ({"enabled_events": ["invoice.paid"]}, FAILURE, "customer.subscription.updated"),
        ({"enabled_events": sorted(doctor.NEEDED_EVENTS)}, WARNING, "refund.created"),
        ({"enabled_events": sorted(HANDLERS)}, OK, "delivers"),
        ({"api_version": "2020-01-01"}, WARNING, "2020-01-01"),
    ],
)
def test_webhook_endpoint_has_to_be_there_and_send_what_is_needed(
    settings, monkeypatch, change, state, says
):
    settings.DEBUG = False
    monkeypatch.setattr(doctor, "stripe_connection", lambda: Account({**ENDPOINT, **change}))
    found = check("Webhook endpoint", monkeypatch)

    assert (found.state, says in found.finding) == (state, True), found
    assert bool(found.remedy) == (state != OK)


def test_needed_events_are_ones_that_are_handled():
    assert HANDLERS.keys() >= doctor.NEEDED_EVENTS


def test_subscription_to_a_price_of_no_plan_is_counted(monkeypatch):
    SubscriptionFactory.create(price=None, last_good_price=None, stripe_price_id="price_x")
    found = check("Prices", monkeypatch)

    assert (found.state, "price_x (1)" in found.finding) == (FAILURE, True)


def test_price_that_is_not_at_stripe_yet_is_a_warning(monkeypatch):
    PriceFactory.create(stripe_price_id=None)

    assert check("Prices", monkeypatch).state == WARNING


@pytest.mark.parametrize(("seconds", "state"), [(1, OK), (60, FAILURE)])
def test_clocks_that_part_ways_are_found(monkeypatch, seconds, state):
    theirs = datetime.now(UTC) + timedelta(seconds=seconds)
    answer = httpx.Response(200, headers={"date": format_datetime(theirs, usegmt=True)})
    monkeypatch.setattr(httpx, "get", lambda *args, **kwargs: answer)

    assert check("Clock", monkeypatch).state == state


def test_keys_that_cannot_be_opened_any_more_are_found(monkeypatch):
    VirtualKey.objects.create(
        user=UserFactory.create(), alias="a", key_hash="h", last_four="0000", secret="gibberish"
    )
    found = check("Encryption keys", monkeypatch)

    assert found.state == FAILURE
    assert "ENCRYPTION_KEYS" in found.remedy


def test_events_that_were_given_up_are_found(monkeypatch):
    make_event("evt_1", state=StripeEvent.State.DEAD)

    assert "1 dead" in check("Stripe events", monkeypatch).finding


def test_key_that_waits_is_a_warning_and_one_that_was_given_up_a_failure(monkeypatch):
    key = VirtualKey.objects.create(
        user=UserFactory.create(),
        alias="a",
        key_hash="h",
        last_four="0000",
        dirty_since=timezone.now() - timedelta(minutes=5),
    )
    checkups = dict(doctor.CHECKUPS)
    assert check("Key sync", monkeypatch).state == WARNING
    monkeypatch.setattr(doctor, "CHECKUPS", checkups)

    VirtualKey.objects.filter(pk=key.pk).update(parked_at=timezone.now())
    assert check("Key sync", monkeypatch).state == FAILURE


def test_settings_are_looked_at_on_a_server(settings, monkeypatch):
    settings.DEBUG = False
    settings.SECURE_SSL_REDIRECT = False
    found = check("Deploy settings", monkeypatch)

    assert found.state == FAILURE
    assert "security.W008" in found.finding


def test_check_that_breaks_down_is_a_finding(monkeypatch):
    def break_down() -> doctor.Result:
        raise ZeroDivisionError

    monkeypatch.setitem(doctor.CHECKUPS, "Clock", break_down)
    found = check("Clock", monkeypatch)

    assert (found.state, "ZeroDivisionError" in found.finding) == (FAILURE, True)


@pytest.mark.parametrize("state", [OK, WARNING])
def test_command_succeeds_unless_something_has_failed(monkeypatch, state):
    monkeypatch.setattr(doctor, "CHECKUPS", {"One": lambda: (state, "a finding", "a remedy")})
    told = io.StringIO()
    call_command("doctor", stdout=told, no_color=True)

    assert "a finding" in told.getvalue()
    assert "a remedy" in told.getvalue()


def test_command_fails_with_a_failure_and_speaks_json_to_machines(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKUPS", {"One": lambda: (FAILURE, "broken", "mend it")})
    told = io.StringIO()

    with pytest.raises(CommandError, match="1 of these need you"):
        call_command("doctor", json=True, stdout=told)

    assert json.loads(told.getvalue()) == {
        "name": "One",
        "state": "failure",
        "finding": "broken",
        "remedy": "mend it",
    }
