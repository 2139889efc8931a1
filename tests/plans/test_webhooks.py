"""POST /webhooks/stripe: what is let in, what is kept, and what never leaves a trace."""

import json
import threading
import time
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from accounts.models import User
from plans import inbox, webhooks
from plans.models import StripeEvent
from plans.problems import problems
from plans.selectors import current_entitlement
from plans.signatures import BadSignature, verify
from plans.tasks import prune_payloads
from tests.factories import CustomerFactory
from tests.plans.builders import signed, stripe_event, stripe_subscription
from tests.plans.conftest import Catalogue, Deliver
from tests.plans.shop import process_all
from tests.plans.wire import Wire

pytestmark = pytest.mark.django_db


@pytest.fixture
def event() -> dict[str, Any]:
    return stripe_event("customer.subscription.updated", stripe_subscription())


def post(client: Client, body: bytes, header: str | None, **headers: str) -> Any:
    given = {} if header is None else {"Stripe-Signature": header}
    return client.post(
        "/webhooks/stripe", data=body, content_type="application/json", headers=given | headers
    )


def refused(response: Any, status: int = 400) -> str:
    """The error's code; and nothing was stored."""
    assert response.status_code == status
    assert not StripeEvent.objects.exists()
    code: str = response.json()["error"]["code"]
    return code


def test_I01_a_signed_event_is_stored_once(deliver: Deliver, event: dict[str, Any]) -> None:
    response = deliver(event)
    assert (response.status_code, response.json()["duplicate"]) == (200, False)
    row = StripeEvent.objects.get()
    assert (row.event_id, row.state, row.payload) == (event["id"], "pending", event)
    assert row.stripe_customer_id == "cus_1"


def test_I02_a_wrong_secret_stores_nothing(deliver: Deliver, event: dict[str, Any]) -> None:
    assert refused(deliver(event, secret="whsec_of_somebody_else")) == "invalid_signature"


def test_I03_a_missing_signature_is_400(client: Client, event: dict[str, Any]) -> None:
    assert refused(post(client, json.dumps(event).encode(), None)) == "invalid_signature"


@pytest.mark.parametrize("secrets", [[""], ["  "], []])
def test_I04_without_a_secret_the_endpoint_refuses(
    client: Client, event: dict[str, Any], settings: Any, secrets: list[str]
) -> None:
    body = json.dumps(event).encode()
    forged = signed_with_empty_key(body)
    settings.STRIPE_WEBHOOK_SECRETS = secrets
    assert refused(post(client, body, forged), 503) == "not_configured"


def test_I04_an_event_signed_with_the_empty_key_is_never_valid(
    client: Client, event: dict[str, Any], settings: Any
) -> None:
    body = json.dumps(event).encode()
    settings.STRIPE_WEBHOOK_SECRETS = ["", "whsec_real"]
    assert refused(post(client, body, signed_with_empty_key(body))) == "invalid_signature"


def signed_with_empty_key(body: bytes) -> str:
    import hashlib
    import hmac

    now = int(time.time())
    digest = hmac.new(b"", f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={digest}"


def test_I05_an_old_timestamp_is_400(deliver: Deliver, event: dict[str, Any]) -> None:
    assert refused(deliver(event, timestamp=int(time.time()) - 302)) == "invalid_signature"


def test_I06_a_timestamp_from_the_future_is_400(deliver: Deliver, event: dict[str, Any]) -> None:
    assert refused(deliver(event, timestamp=int(time.time()) + 1000)) == "invalid_signature"
    assert refused(deliver(event, timestamp=int(time.time()) + 10**6)) == "invalid_signature"


def test_I07_tolerance_zero_still_checks() -> None:
    body, header = signed({"a": 1}, secret="s", timestamp=1000)
    with pytest.raises(BadSignature, match="too_old"):
        verify(header, body, secrets=["s"], tolerance=0, now=1100)


def test_I08_either_of_two_secrets_and_either_of_two_signatures_will_do(
    client: Client, event: dict[str, Any], settings: Any
) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = ["whsec_new", "whsec_old"]
    now = int(time.time())
    body, old = signed(event, secret="whsec_old", timestamp=now)
    assert post(client, body, old).status_code == 200
    _, unknown = signed(event, secret="whsec_unknown", timestamp=now)
    both = f"{unknown},{old.partition(',')[2]}"
    assert post(client, body, both).json()["duplicate"] is True


def test_I09_only_v0_is_400(client: Client, event: dict[str, Any]) -> None:
    body, header = signed(event)
    assert refused(post(client, body, header.replace("v1=", "v0="))) == "invalid_signature"


@pytest.mark.parametrize(
    "header",
    [
        "t=abc,v1=" + "0" * 64,
        "t=" + "9" * 5000 + ",v1=" + "0" * 64,
        "nonsense",
        "t=,v1=",
        ",,,=",
        "t=1,t=2,v1=" + "0" * 64,
        "t=-5,v1=" + "0" * 64,
        "v1=" + "0" * 64,
        "t=١٢٣,v1=" + "0" * 64,
    ],
)
def test_I10_a_garbage_header_is_400(client: Client, event: dict[str, Any], header: str) -> None:
    body = json.dumps(event).encode()
    assert refused(post(client, body, header)) == "invalid_signature"


def test_I11_a_signature_that_is_not_ascii_is_400(client: Client, event: dict[str, Any]) -> None:
    body = json.dumps(event).encode()
    assert refused(post(client, body, f"t={int(time.time())},v1=é{'0' * 63}")) == (
        "invalid_signature"
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b'{"id": "evt_1\xff"}', "invalid_body", id="I12_not_utf8"),
        pytest.param(b"not json", "invalid_body", id="I13_not_json"),
        pytest.param(b"", "invalid_body", id="I13_empty"),
        pytest.param(b'{"id": NaN}', "invalid_body", id="I13_nan"),
        pytest.param(b"[" * 100_000, "invalid_body", id="I13_deeply_nested"),
        pytest.param(b"[1]", "invalid_event", id="I14_list"),
        pytest.param(b"null", "invalid_event", id="I14_null"),
        pytest.param(b'"text"', "invalid_event", id="I14_text"),
        pytest.param(
            b'{"object": "v2.core.event", "id": "evt_1", "type": "v1.billing.meter.x"}',
            "invalid_event",
            id="I15_thin_event",
        ),
        pytest.param(b'{"object": "event", "id": 5}', "invalid_event", id="id_is_a_number"),
        pytest.param(b'{"object": "event", "id": "evt_1"}', "invalid_event", id="no_type"),
    ],
)
def test_signed_nonsense_is_400(client: Client, body: bytes, code: str) -> None:
    import hashlib
    import hmac

    now = int(time.time())
    digest = hmac.new(b"whsec_test_only", f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    assert refused(post(client, body, f"t={now},v1={digest}")) == code


def test_I16_the_signature_is_checked_over_the_raw_bytes(
    client: Client, event: dict[str, Any]
) -> None:
    body = json.dumps(event, indent=3, ensure_ascii=False).encode()
    _, header = signed(body)
    assert post(client, body, header).status_code == 200
    compact = json.dumps(event, separators=(",", ":")).encode()
    assert post(client, compact, header).status_code == 400


def test_I17_a_body_over_the_limit_is_413(
    client: Client, event: dict[str, Any], settings: Any
) -> None:
    settings.STRIPE_WEBHOOK_MAX_BYTES = 1024
    event["data"]["object"]["padding"] = "x" * 2000
    body, header = signed(event)
    assert refused(post(client, body, header), 413) == "request_too_large"


@pytest.mark.parametrize("method", ["get", "put", "delete", "head", "options"])
def test_I19_any_other_method_is_405(client: Client, method: str) -> None:
    response = getattr(client, method)("/webhooks/stripe")
    assert (response.status_code, response["Allow"]) == (405, "POST")
    if method != "head":
        assert response.json()["error"]["code"] == "method_not_allowed"


def test_I19_the_content_type_does_not_matter(client: Client, event: dict[str, Any]) -> None:
    body, header = signed(event)
    response = client.generic(
        "POST",
        "/webhooks/stripe",
        body,
        content_type="application/x-www-form-urlencoded",
        headers={"Stripe-Signature": header},
    )
    assert response.status_code == 200


def test_I20_no_csrf_no_session_no_redirect(event: dict[str, Any]) -> None:
    client = Client(enforce_csrf_checks=True)
    body, header = signed(event)
    response = post(client, body, header)
    assert response.status_code == 200
    assert not response.cookies
    assert post(client, body, header, Accept="text/html").status_code == 200


def test_I20_a_trailing_slash_is_not_redirected(client: Client, event: dict[str, Any]) -> None:
    body, header = signed(event)
    response = client.post(
        "/webhooks/stripe/", body, "application/json", headers={"Stripe-Signature": header}
    )
    assert response.status_code == 404


def test_I21_database_down_asks_stripe_to_send_again(
    deliver: Deliver, event: dict[str, Any]
) -> None:
    with mock.patch.object(inbox, "store", side_effect=OperationalError("connection refused")):
        assert refused(deliver(event), 503) == "not_stored"


def test_I22_broker_down_is_tolerated_and_the_event_waits(
    deliver: Deliver, event: dict[str, Any], django_capture_on_commit_callbacks: Any
) -> None:
    from kombu.exceptions import OperationalError as BrokerDown

    with (
        mock.patch("plans.tasks.process_events.apply_async", side_effect=BrokerDown) as publish,
        mock.patch("plans.wakeups._quiet_until", 0.0),
    ):
        for _ in range(2):
            with django_capture_on_commit_callbacks(execute=True):
                assert deliver(event).status_code == 200
    # The second delivery did not wait for the broker again.
    assert publish.call_count == 1
    assert StripeEvent.objects.get().state == "pending"


def test_I22_redelivery_of_an_unhandled_event_makes_it_due_again(
    deliver: Deliver, event: dict[str, Any]
) -> None:
    deliver(event)
    from django.utils import timezone

    later = timezone.now() + timedelta(hours=1)
    StripeEvent.objects.update(next_attempt_at=later, attempts=3)
    assert deliver(event).json()["duplicate"] is True
    row = StripeEvent.objects.get()
    assert row.next_attempt_at < later
    assert row.deliveries == 2


def test_I23_a_flood_of_forgeries_neither_writes_nor_fills_the_log(
    client: Client, event: dict[str, Any], caplog: Any, django_assert_num_queries: Any
) -> None:
    body = json.dumps(event).encode()
    with mock.patch.object(webhooks, "_logged_at", -1e9), django_assert_num_queries(0):
        for _ in range(50):
            post(client, body, "t=1,v1=" + "0" * 64)
    assert len([line for line in caplog.records if "refused" in line.message]) == 1
    assert not StripeEvent.objects.exists()


def test_I24_a_delivery_costs_one_statement_and_no_call_to_stripe(
    deliver: Deliver, event: dict[str, Any], django_assert_num_queries: Any, wire: Any
) -> None:
    with django_assert_num_queries(1):
        deliver(event)
    assert wire.asked == []


def test_I25_an_event_of_the_other_mode_is_kept_and_ignored(
    deliver: Deliver, event: dict[str, Any]
) -> None:
    assert deliver({**event, "livemode": True}).status_code == 200
    row = StripeEvent.objects.get()
    assert (row.state, row.outcome) == ("ignored", "ignored:mode")
    assert [problem.kind for problem in problems()] == ["wrong_mode"]


def test_B26_a_test_clocks_subscription_touches_nobody_in_live_mode(
    deliver: Deliver, settings: Any, user: User, plans: Catalogue, wire: Wire
) -> None:
    CustomerFactory.create(user=user, stripe_customer_id="cus_1")
    settings.STRIPE_LIVEMODE = True
    # As Stripe would show it, were it asked.
    wire.put(sub := stripe_subscription(test_clock="clock_1"))
    deliver(stripe_event("customer.subscription.updated", sub))
    process_all()
    assert StripeEvent.objects.get().outcome == "ignored:mode"
    assert wire.asked == []
    assert current_entitlement(user).plan.code == "free"


@pytest.mark.parametrize("extra", [{"account": "acct_2"}, {"context": "acct_2"}])
def test_I26_an_event_of_another_account_is_kept_and_ignored(
    deliver: Deliver, event: dict[str, Any], extra: dict[str, str]
) -> None:
    assert deliver({**event, **extra}).status_code == 200
    assert StripeEvent.objects.get().outcome == "ignored:account"
    assert [problem.kind for problem in problems()] == ["wrong_account"]


def test_I27_an_unknown_type_is_kept_and_ignored(deliver: Deliver) -> None:
    assert deliver(stripe_event("giraffe.sighted", {"id": "g_1"})).status_code == 200
    row = StripeEvent.objects.get()
    assert (row.state, row.outcome) == ("ignored", "ignored:type")


@pytest.mark.parametrize("version", ["2031-01-01.zebra", "nonsense", "2026-10-29.endive"])
def test_I28_an_unknown_version_waits_for_an_upgrade(
    deliver: Deliver, event: dict[str, Any], settings: Any, version: str
) -> None:
    assert deliver({**event, "api_version": version}).status_code == 200
    assert StripeEvent.objects.get().outcome == "quarantined:version"
    assert inbox.release_readable() == 0


def test_I28_the_upgrade_processes_what_waited(
    deliver: Deliver, event: dict[str, Any], settings: Any
) -> None:
    from plans.versions import is_readable

    deliver({**event, "api_version": "2027-03-01.fennel"})
    settings.STRIPE_API_VERSION = "2027-03-01.fennel"
    is_readable.cache_clear()
    try:
        assert inbox.release_readable() == 1
    finally:
        is_readable.cache_clear()
    assert StripeEvent.objects.get().state == "pending"


@pytest.mark.parametrize("version", ["2020-08-27", "2025-02-24.acacia", "2025-03-31.basil", None])
def test_I28_older_versions_are_read(
    deliver: Deliver, event: dict[str, Any], version: str | None
) -> None:
    deliver({**event, "api_version": version})
    assert StripeEvent.objects.get().state == "pending"


def test_a_nul_character_is_dropped_not_refused(deliver: Deliver, event: dict[str, Any]) -> None:
    event["data"]["object"]["metadata"] = {"note": "a\0b", "path": "C:\\u0000"}
    assert deliver(event).status_code == 200
    payload = StripeEvent.objects.get().payload
    assert payload is not None
    metadata = payload["data"]["object"]["metadata"]
    assert metadata == {"note": "ab", "path": "C:\\u0000"}


def test_I29_personal_data_goes_after_the_time_set_and_the_row_stays(
    deliver: Deliver, settings: Any
) -> None:
    about = stripe_subscription(customer_email="alice@example.com")
    for kind in ("customer.subscription.updated", "giraffe.sighted", "invoice.paid"):
        deliver(stripe_event(kind, about))
    old = timezone.now() - timedelta(days=settings.STRIPE_PAYLOAD_DAYS, seconds=1)
    StripeEvent.objects.filter(type="customer.subscription.updated").update(state="processed")
    StripeEvent.objects.exclude(type="invoice.paid").update(received_at=old)
    before = list(StripeEvent.objects.order_by("pk").values("event_id", "object_id", "outcome"))
    prune_payloads()
    rows = StripeEvent.objects.order_by("pk")
    assert list(rows.values("event_id", "object_id", "outcome")) == before
    assert [row.payload is None for row in rows] == [True, True, False]


def test_I29_what_still_waits_keeps_its_payload_however_old(deliver: Deliver) -> None:
    deliver(stripe_event("invoice.paid", {"id": "in_1", "object": "invoice"}))
    StripeEvent.objects.update(received_at=timezone.now() - timedelta(days=900))
    prune_payloads()
    assert StripeEvent.objects.get().payload is not None


@pytest.mark.django_db(transaction=True)
def test_O02_two_web_workers_store_one_row(event: dict[str, Any]) -> None:
    answers: list[tuple[int, bool]] = []
    barrier = threading.Barrier(4)

    def deliver_at_once() -> None:
        body, header = signed(event)
        barrier.wait()
        response = post(Client(), body, header)
        answers.append((response.status_code, response.json()["duplicate"]))
        connection.close()

    threads = [threading.Thread(target=deliver_at_once) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [(200, False), (200, True), (200, True), (200, True)]
    assert StripeEvent.objects.get().deliveries == 4
