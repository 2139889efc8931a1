"""Customers' own budgets: told once at each share, and hard ones kept at the gateway."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from django.core import mail
from django.utils import timezone

from accounts.models import AuditEntry, User
from llmkeys import budget_notices, usage_books
from llmkeys.budget_views import BudgetThrottle
from llmkeys.models import BudgetNotice, SpendBudget, SpendLimit, VirtualKey
from llmkeys.spend_budgets import evaluate, remove_budget, set_budget
from llmkeys.usage_books import Attribution, credit_usage
from llmkeys.usage_log import read_row
from sandbox.litellm.routes_spend import shown
from tesslate.lib import outgoing
from tesslate.lib.cause import Cause
from tesslate.lib.outgoing import NotDelivered, post_signed
from tests.factories import MembershipFactory
from tests.llmkeys.conftest import entitle, sync
from tests.llmkeys.spendlog import call_of
from tests.llmkeys.standin import StandIn

pytestmark = pytest.mark.django_db
CAUSE = Cause.system("test")


def spend(user: User, dollars: str, organization_id: int | None = None) -> None:
    at = timezone.now()
    call = call_of(None, at, input_cost=float(dollars), output_cost=0.0)
    whose = Attribution(user.pk, None, organization_id, "free")
    usage_books.write_calls([(read_row(shown(call, zone="Z")), whose)], at=at)
    evaluate()


def budget_for(user: User, amount: str, **fields: Any) -> SpendBudget:
    given = {"is_hard": False, "webhook_url": "", **fields}
    return set_budget(user=user, amount=Decimal(amount), cause=CAUSE, **given)[0]


def tell() -> None:
    while budget_notices.send_next():
        pass


def told() -> list[str]:
    return [str(message.subject) for message in mail.outbox]


@pytest.fixture
def running(standin: StandIn, user: User, free: Any) -> VirtualKey:
    """Alice, whose period runs now, with a key in step."""
    start = timezone.now() - timedelta(days=3)
    entitle(user, free, period_start=start, period_end=start + timedelta(days=30))
    sync()
    return VirtualKey.objects.get(user=user)


def test_customers_are_told_once_at_each_share(running: VirtualKey, user: User) -> None:
    budget_for(user, "10")
    for dollars in ("4.99", "0.01", "1", "3"):
        spend(user, dollars)
        tell()
    assert told() == ["50 % of your budget is used", "80 % of your budget is used"]
    spend(user, "1")
    spend(user, "1")
    tell()
    assert told()[2:] == ["100 % of your budget is used"]
    assert mail.outbox[0].to == [user.email]


def test_a_new_period_tells_anew(running: VirtualKey, user: User, free: Any) -> None:
    budget_for(user, "10")
    spend(user, "6")
    tell()
    now = timezone.now()
    entitle(user, free, period_start=now, period_end=now + timedelta(days=30))
    budget_for(user, "0")
    tell()
    assert len(told()) == 4


def test_a_soft_budget_stops_nothing(running: VirtualKey, user: User, standin: StandIn) -> None:
    budget_for(user, "0.50")
    spend(user, "5")
    sync()
    assert standin.key(running).max_budget == 1.0


def test_a_hard_budget_is_the_keys_limit_at_the_gateway(
    running: VirtualKey, user: User, standin: StandIn
) -> None:
    budget = budget_for(user, "0.50", is_hard=True)
    sync()
    assert standin.key(running).max_budget == 0.5
    budget_for(user, "50", is_hard=True)
    sync()
    assert standin.key(running).max_budget == 1.0
    remove_budget(budget=budget, cause=CAUSE)
    sync()
    assert standin.key(running).max_budget == 1.0
    assert not SpendLimit.objects.exists()


def test_an_organizations_hard_budget_stops_its_seats_when_it_is_used_up(
    running: VirtualKey, user: User, free: Any, standin: StandIn
) -> None:
    owner = MembershipFactory.create(role="owner")
    seat = MembershipFactory.create(user=user, organization=owner.organization)
    entitle(user, free, source="organization", source_id=seat.pk)
    set_budget(
        organization=owner.organization,
        amount=Decimal(10),
        is_hard=True,
        webhook_url="",
        cause=CAUSE,
    )
    spend(user, "9", owner.organization_id)
    sync()
    assert standin.key(running).max_budget == 1.0
    spend(user, "2", owner.organization_id)
    sync()
    assert standin.key(running).max_budget == 0.0
    tell()
    assert mail.outbox[-1].to == [owner.user.email]
    assert "stopped" in mail.outbox[-1].body
    credit_usage(
        user=user,
        organization=owner.organization,
        amount=Decimal(5),
        reason="x",
        cause=CAUSE,
        at=timezone.now(),
    )
    evaluate()
    sync()
    assert standin.key(running).max_budget == 1.0


# Webhooks


class Receiver:
    def __init__(self) -> None:
        self.status = 200
        self.calls: list[tuple[bytes, str]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.calls.append((body, self.headers[outgoing.SIGNATURE_HEADER]))
                self.send_response(receiver.status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://localhost:{self.server.server_port}/hook"
        Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOK_ALLOW_PRIVATE = True
    found = Receiver()
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_webhooks_are_signed_and_repeated_until_taken(
    running: VirtualKey, user: User, receiver: Receiver
) -> None:
    _, secret = set_budget(
        user=user,
        amount=Decimal(10),
        is_hard=False,
        webhook_url=receiver.url,
        cause=CAUSE,
    )
    receiver.status = 503
    spend(user, "6")
    tell()
    notice = BudgetNotice.objects.get(channel="webhook")
    assert (notice.sent_at, notice.last_error) == (None, "The address answered 503.")
    receiver.status = 204
    BudgetNotice.objects.update(next_attempt_at=timezone.now())
    tell()
    tell()
    assert len(receiver.calls) == 2
    body, header = receiver.calls[1]
    fields = dict(part.split("=") for part in header.split(","))
    signed = hmac.new(secret.encode(), f"{fields['t']}.".encode() + body, hashlib.sha256)
    assert fields["v1"] == signed.hexdigest()
    event = json.loads(body)
    assert (event["type"], event["data"]["percent"]) == ("budget.threshold_reached", 50)
    assert event["id"] == json.loads(receiver.calls[0][0])["id"]


def test_one_customers_notice_that_cannot_be_sent_keeps_nobody_elses_back(
    running: VirtualKey, user: User, stranger: User, free: Any
) -> None:
    start = timezone.now() - timedelta(days=3)
    entitle(stranger, free, period_start=start, period_end=start + timedelta(days=30))
    budget_for(user, "1", webhook_url="https://example.com:99999/")
    spend(user, "2")
    User.objects.filter(pk=user.pk).update(email="nobody at\nall")
    budget_for(stranger, "1")
    spend(stranger, "2")
    tell()
    assert [message.to for message in mail.outbox] == [[stranger.email]] * 3
    assert set(BudgetNotice.objects.values_list("budget__user", "channel", "attempts")) == {
        (user.pk, "email", 1),
        (user.pk, "webhook", 1),
        (stranger.pk, "email", 1),
    }


def test_an_organizations_name_stays_within_the_subject(running: VirtualKey, user: User) -> None:
    owner = MembershipFactory.create(role="owner", organization__name="Acme\nBcc: all@example.com")
    set_budget(
        organization=owner.organization,
        amount=Decimal(1),
        is_hard=False,
        webhook_url="",
        cause=CAUSE,
    )
    spend(user, "0.6", owner.organization_id)
    tell()
    assert told() == ["50 % of your budget of Acme Bcc: all@example.com is used"]


def test_redirects_are_not_followed(receiver: Receiver) -> None:
    receiver.status = 302
    with pytest.raises(NotDelivered):
        post_signed(receiver.url, b"{}", secret="s")
    assert len(receiver.calls) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://localhost:8000/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://0/",
        "https:///",
        "ftp://example.com/",
        "https://no-such-name.invalid/",
        "https://example.com:99999/",
        f"https://{'a' * 64}.example.com/",
    ],
)
def test_nothing_private_is_called(url: str, settings: Any) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    with pytest.raises(NotDelivered):
        post_signed(url, b"{}", secret="s")


# Over HTTP


def test_customers_set_see_and_remove_their_budget(
    running: VirtualKey, user: User, api: Any
) -> None:
    api.force_authenticate(user)
    assert api.get("/api/budget").status_code == 404
    given = {"amount": "10.00", "hard": True, "webhook_url": "https://example.com/hook"}
    made = api.put("/api/budget", given, format="json").json()
    assert made["webhook_secret"].startswith("whsec_")
    spend(user, "6")
    body = api.get("/api/budget").json()
    assert (body["amount"], body["percent"], body["webhook_secret"]) == ("10.00", 60, None)
    assert "whsec_" not in str(list(AuditEntry.objects.values_list("after", flat=True)))
    assert api.delete("/api/budget").status_code == 204
    assert not SpendLimit.objects.exists()


@pytest.mark.parametrize(
    "given",
    [
        {"amount": "-1"},
        {"amount": "x"},
        {},
        {"amount": "1", "webhook_url": "http://example.com"},
        {"amount": "1", "webhook_url": "https://example.com:99999/"},
        {"amount": "1", "webhook_url": "https://example.com:0/"},
    ],
)
def test_nonsense_is_no_budget(
    running: VirtualKey, user: User, api: Any, settings: Any, given: dict[str, str]
) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = False
    api.force_authenticate(user)
    assert api.put("/api/budget", given, format="json").status_code == 400
    assert not SpendBudget.objects.exists()


def test_budgets_are_not_set_without_end(
    user: User, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BudgetThrottle, "rate", "1/hour")
    api.force_authenticate(user)
    answers = [api.put("/api/budget", {}, format="json").status_code for _ in range(2)]
    assert answers == [400, 429]
    assert api.get("/api/budget").status_code == 404


def test_an_organizations_budget_is_its_owners_alone(
    running: VirtualKey, user: User, api: Any
) -> None:
    owner = MembershipFactory.create(role="owner")
    MembershipFactory.create(user=user, organization=owner.organization)
    path = f"/api/budget?organization={owner.organization_id}"
    api.force_authenticate(user)
    assert api.put(path, {"amount": "5"}, format="json").status_code == 403
    api.force_authenticate(MembershipFactory.create().user)
    assert api.put(path, {"amount": "5"}, format="json").status_code == 404
    api.force_authenticate(owner.user)
    assert api.put(path, {"amount": "5"}, format="json").status_code == 200
    assert SpendBudget.objects.get().organization == owner.organization
