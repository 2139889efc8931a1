"""Secrets are planted everywhere, everything is made to fail, and what comes out is searched."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from celery.signals import before_task_publish
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import clear_url_caches, path
from django.utils import timezone
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from accounts.models import User
from accounts.tokens import create_token
from llmkeys import gateway, marking, reconcile
from llmkeys.models import KeyEvent, VirtualKey
from plans import handlers, inbox
from plans.models import CurrentEntitlement, Plan, StripeEvent
from tesslate import health, telemetry, urls
from tesslate.health import CHECKS, Reporter
from tesslate.lib.cause import Cause
from tesslate.lib.crypto import encrypt
from tesslate.logs import JsonFormatter
from tests.llmkeys.standin import StandIn, client_of
from tests.plans.builders import signed, stripe_event, stripe_subscription

pytestmark = pytest.mark.django_db

# None of these has the looks of a secret, but for those that have to: it is known by its value.
PLANTED = {
    "SECRET_KEY": "the-canary-that-signs-0123456789",
    "LITELLM_MASTER_KEYS": ["the-canary-of-the-gateway", "sk-second-canary-of-the-gateway"],
    "STRIPE_SECRET_KEY": "sk_test_canary0123456789",
    "STRIPE_WEBHOOK_SECRETS": ["the-canary-of-webhooks"],
    "METRICS_TOKEN": "the-canary-of-metrics",
    "EMAIL_HOST_PASSWORD": "the-canary-of-mail",
    "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20the-canary-of-traces,x=y",
}
VIRTUAL_KEY = "sk-canary-of-a-customer-0123456789"
ADDRESS = "canary@customer.example"
CAUSE = Cause.system("test")


@pytest.fixture(autouse=True)
def planted(settings):
    for name, value in PLANTED.items():
        setattr(settings, name, value)


@pytest.fixture
def secrets(settings) -> list[str]:
    single = [settings.DATABASES["default"]["PASSWORD"], VIRTUAL_KEY]
    for value in PLANTED.values():
        single += value if isinstance(value, list) else [value]
    return [*single, "Basic the-canary-of-traces", *settings.ENCRYPTION_KEYS]


@pytest.fixture
def leak(secrets) -> str:
    """What a careless library might put into a message: everything."""
    return " | ".join([*secrets, ADDRESS])


@pytest.fixture
def search(secrets) -> Callable[[Any], None]:
    def look(text: Any, *, personal: bool = True) -> None:
        text = text if isinstance(text, str) else json.dumps(text, default=str)
        assert text
        for secret in [*secrets, *([ADDRESS] if personal else [])]:
            assert secret not in text

    return look


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, as it leaves a process in production."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    level, root.level = root.level, logging.DEBUG
    yield written
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def customer(free_plan: Plan) -> User:
    user = User.objects.create_user(email=ADDRESS, firebase_uid="uid-1", display_name="C")
    CurrentEntitlement.objects.update_or_create(
        user=user,
        defaults={
            "plan": free_plan,
            "source": "default",
            "period_start": timezone.now(),
            "period_end": timezone.now(),
            "decided_at": timezone.now(),
        },
    )
    return user


@pytest.fixture
def key(customer: User) -> VirtualKey:
    VirtualKey.objects.all().delete()
    return VirtualKey.objects.create(
        user=customer,
        alias="tesslate-1",
        key_hash="0" * 64,
        secret=encrypt(VIRTUAL_KEY),
        last_four="6789",
        spend=Decimal(1),
    )


@pytest.fixture
def talkative_gateway(tmp_path, leak) -> Iterator[None]:
    """Refuses to make keys, and says whatever it knows."""

    def refuse(request: httpx.Request) -> httpx.Response | None:
        if request.url.path != "/key/generate":
            return None
        return httpx.Response(400, json={"error": {"message": leak, "type": leak, "param": leak}})

    standin = StandIn(tmp_path)
    standin.before = refuse
    gateway.use(client_of(standin))
    yield
    gateway.use(None)
    standin.close()


def test_gateway_that_repeats_secrets_is_quoted_without_them(
    key, talkative_gateway, log, search, staff_client
):
    reconcile.sync_keys([key.pk])

    key.refresh_from_db()
    assert "[secret]" in key.last_error
    search(key.last_error)
    search(log.getvalue())
    search([[event.message, event.sent, event.received] for event in KeyEvent.objects.all()])
    page = staff_client.get(f"/admin/llmkeys/virtualkey/{key.pk}/change/", follow=True)
    assert page.status_code == 200
    search(page.content.decode(), personal=False)
    assert key.secret not in page.content.decode()


def test_event_whose_handler_breaks_is_told_without_secrets(
    client, staff_client, log, leak, search, monkeypatch
):
    def break_down(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError(leak)

    monkeypatch.setattr(handlers, "handle", break_down)
    body, header = signed(stripe_event("customer.subscription.updated", stripe_subscription()))
    response = client.post(
        "/webhooks/stripe",
        data=body,
        content_type="application/json",
        headers={"Stripe-Signature": header},
    )
    assert response.status_code == 200
    inbox.process_next_event()

    event = StripeEvent.objects.get()
    assert "RuntimeError" in event.last_error
    search(event.last_error)
    search(log.getvalue())
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    broken = next(line for line in lines if "RuntimeError" in line.get("exception", ""))
    assert broken["event_id"] == event.event_id
    page = staff_client.get(f"/admin/plans/stripeevent/{event.pk}/change/", follow=True)
    assert page.status_code == 200
    search(page.content.decode())


def test_webhook_that_is_not_signed_is_refused_without_secrets(client, log, leak, search):
    response = client.post(
        "/webhooks/stripe",
        data=json.dumps({"id": leak}),
        content_type="application/json",
        headers={"Stripe-Signature": f"t=1,v1={leak}"},
    )

    assert response.status_code == 400
    search(response.content.decode())
    search(log.getvalue())


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Every span that would have gone to the collector."""
    exporter = InMemorySpanExporter()
    telemetry.start(SimpleSpanProcessor(telemetry.CleanExporter(exporter)), service="tests")
    yield exporter
    telemetry.stop()


def test_traces_tell_no_secrets(
    client: Client, key, talkative_gateway, spans, leak, search, monkeypatch
):
    def break_down(request: HttpRequest) -> HttpResponse:
        cache.set(ADDRESS, leak)
        reconcile.sync_keys([key.pk])
        raise RuntimeError(leak)

    monkeypatch.setattr(urls, "urlpatterns", [path("breaks", break_down), *urls.urlpatterns])
    clear_url_caches()
    client.raise_request_exception = False
    client.cookies["session"] = leak
    headers = {"Authorization": f"Bearer {VIRTUAL_KEY}", "User-Agent": leak, "X-Trace": leak}
    client.get("/breaks", {"token": leak}, headers=headers)
    client.get(f"/{ADDRESS}/{VIRTUAL_KEY}")
    clear_url_caches()

    told = [json.loads(span.to_json()) for span in spans.get_finished_spans()]
    names = {span["name"] for span in told}
    assert {"GET /breaks", "POST /key/generate", "SET"} <= names, sorted(names)
    search(told)


@pytest.mark.parametrize("where", ["/api/breaks", "/breaks"])
def test_page_that_breaks_says_nothing(client: Client, log, leak, search, monkeypatch, where):
    def break_down(request: HttpRequest) -> HttpResponse:
        raise RuntimeError(leak)

    monkeypatch.setattr(urls, "urlpatterns", [path(where[1:], break_down), *urls.urlpatterns])
    clear_url_caches()
    client.raise_request_exception = False
    response = client.get(where, headers={"Authorization": f"Bearer {VIRTUAL_KEY}"})
    clear_url_caches()

    assert response.status_code == 500
    search(response.content.decode())
    assert "RuntimeError" in log.getvalue()
    search(log.getvalue())


def test_health_and_metrics_tell_no_secrets(client, log, leak, search, monkeypatch):
    def break_down() -> dict[str, Any]:
        raise ConnectionError(leak)

    monkeypatch.setattr(health, "reporter", Reporter(dict.fromkeys(CHECKS, break_down)))
    search(client.get("/health").content.decode())
    told = client.get("/metrics", headers={"Authorization": f"Bearer {PLANTED['METRICS_TOKEN']}"})
    assert told.status_code == 200
    search(told.content.decode())
    search(log.getvalue())


def test_every_list_and_page_of_the_admin_tells_no_secrets(key, staff_client, search):
    _, token = create_token(user=key.user, name="laptop", scopes=[], expires_at=None, cause=CAUSE)
    pages = ["/admin/", "/admin/accounts/user/", "/admin/llmkeys/virtualkey/"]
    pages += [f"/admin/accounts/user/{key.user_id}/change/"]
    pages += [f"/admin/llmkeys/virtualkey/{key.pk}/change/"]
    for address in pages:
        page = staff_client.get(address, follow=True).content.decode()
        search(page, personal=False)
        assert token not in page
        assert key.secret not in page


def test_tasks_carry_ids_and_nothing_else(
    key, log, search, customer, django_capture_on_commit_callbacks
):
    sent: list[str] = []

    def keep(body: Any, headers: dict[str, Any], **kwargs: Any) -> None:
        sent.append(json.dumps([body, headers], default=str))

    before_task_publish.connect(keep, weak=False)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            marking.mark_users([customer.pk], cause=Cause.staff(customer.pk, ADDRESS))
    finally:
        before_task_publish.disconnect(keep)

    assert sent
    search(sent)
    search(log.getvalue() or "nothing")


def test_doctor_names_what_is_wrong_and_no_secret(settings, log, search, leak, monkeypatch):
    def break_down(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError(leak)

    monkeypatch.setattr("tesslate.doctor.gateway", break_down)
    monkeypatch.setattr("tesslate.doctor.stripe_connection", break_down)
    told = io.StringIO()
    with pytest.raises(CommandError):
        call_command("doctor", json=True, stdout=told)

    search(told.getvalue())
    search(log.getvalue())


def test_commands_for_support_show_no_secret(key, search, talkative_gateway):
    told = io.StringIO()
    call_command("show_limits", ADDRESS, stdout=told)

    search(told.getvalue())
