"""The spend guard: notices a jump, lowers the rate, asks whose it was."""

from datetime import timedelta
from decimal import Decimal
from smtplib import SMTPServerDisconnected

import pytest
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts.models import BrowserSession, User
from accounts.tokens import create_token, live_tokens
from chatproxy import guard
from chatproxy.guard import Spending, is_anomalous
from chatproxy.tasks import guard_spend
from llmkeys.models import UsageHour
from plans.models import CurrentEntitlement, Throttle
from plans.selectors import current_entitlement
from plans.throttles import throttle
from tesslate.lib.cause import Cause
from tests.site.ledger import chat_request

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("free_plan")]
NOW = timezone.now()


def dollars(*amounts: str) -> Spending:
    return Spending(1, *(Decimal(amount) for amount in amounts))


@pytest.mark.parametrize(
    ("last_hour", "busiest_hour", "budget", "anomalous"),
    [
        ("3", "0.5", "10", True),
        ("2.50", "0.5", "10", False),  # five times, no more
        ("1.99", "0.1", "10", False),  # under a fifth of the budget
        ("2", "0", "10", True),  # no past at all
        ("0.01", "0", "0", True),
        ("0.001", "0", "0", False),
    ],
)
def test_what_counts_as_a_jump(last_hour: str, busiest_hour: str, budget: str, anomalous: bool):
    spending = dollars(last_hour, busiest_hour, budget)
    assert is_anomalous(spending, factor=5, budget_percent=20) is anomalous


def spent_before(user: User, cost: str, *, hours_ago: int) -> None:
    UsageHour.objects.create(
        user=user, hour=NOW - timedelta(hours=hours_ago), plan_code="free", model="m", cost=cost
    )


@pytest.fixture
def jump(user: User) -> User:
    """Alice, who cost a few cents an hour until now."""
    current_entitlement(user)
    spent_before(user, "0.05", hours_ago=30)
    chat_request(user, cost="6", started_at=NOW - timedelta(minutes=5))
    return user


def share(user: User) -> int:
    return CurrentEntitlement.objects.get(user=user).limit_percent


def test_a_jump_lowers_the_rate_and_keeps_what_was_seen(jump: User):
    [row] = guard.watch(now=NOW)

    assert row.evidence == {"last_hour": "6.00", "busiest_hour": "0.05", "budget": "10.00"}
    assert share(jump) == 10


def test_looking_again_changes_nothing(jump: User):
    guard.watch(now=NOW)

    assert guard.watch(now=NOW + timedelta(minutes=1)) == []
    assert Throttle.objects.count() == 1


def test_who_always_spends_that_much_is_left_alone(jump: User):
    spent_before(jump, "5", hours_ago=100)

    assert guard.watch(now=NOW) == []


def test_what_is_older_than_an_hour_is_no_jump(jump: User):
    assert guard.watch(now=NOW + timedelta(hours=2)) == []


def test_it_can_be_switched_off(jump: User, settings):
    settings.SPEND_GUARD_PERCENT = 100

    assert guard.watch(now=NOW) == []


@pytest.fixture
def link(jump: User) -> str:
    guard.watch(now=NOW)
    assert guard.tell_next()
    assert not guard.tell_next()
    [message] = mail.outbox
    assert message.to == [jump.email]
    assert "$6.00" in message.body
    address = message.body.split("http://testserver")[1].split()[0]
    return str(address)


def test_a_mail_that_does_not_go_out_is_tried_again(jump: User, monkeypatch):
    guard.watch(now=NOW)

    def fails(*args: object) -> None:
        raise SMTPServerDisconnected

    with monkeypatch.context() as patch:
        patch.setattr(guard, "send_mail", fails)
        guard.tell_next()
    assert not guard.tell_next()
    assert guard.tell_next(at=timezone.now() + guard.FIRST_WAIT)
    assert [message.to for message in mail.outbox] == [[jump.email]]


def test_an_address_that_is_refused_keeps_nobody_elses_mail_back(jump: User, stranger: User):
    guard.watch(now=NOW)
    User.objects.filter(pk=jump.pk).update(email="nobody at\nall")
    throttle(
        user_id=stranger.pk,
        percent=10,
        reason="",
        evidence={"last_hour": "6", "busiest_hour": "1"},
        ends_at=timezone.now() + timedelta(hours=1),
        cause=Cause.system("test"),
    )
    for _ in range(3):
        guard_spend()
    assert [message.to for message in mail.outbox] == [[stranger.email]]


def test_following_the_link_changes_nothing(link: str, client: Client, jump: User):
    page = client.get(link)

    assert page.status_code == 200
    assert "Was it you?" in page.content.decode()
    assert share(jump) == 10


def test_it_was_me_gives_the_full_rate_back_at_once(link: str, client: Client, jump: User):
    page = client.post(link, {"answer": "mine"}, follow=True)

    assert "full rate" in page.content.decode()
    assert share(jump) == 100
    assert guard.watch(now=NOW + timedelta(minutes=10)) == [], "believed for a day"


def test_it_was_not_me_ends_what_a_thief_may_hold(link: str, client: Client, jump: User):
    client.force_login(jump)
    create_token(
        user=jump, name="leaked", scopes=["chat"], expires_at=None, cause=Cause.system("test")
    )
    assert BrowserSession.objects.filter(user=jump).exists()

    Client().post(link, {"answer": "not_mine"})

    assert not live_tokens(jump).exists()
    assert client.get("/api/me").status_code == 401
    assert share(jump) == 10, "the rate stays lowered"


def test_the_first_answer_counts(link: str, client: Client, jump: User):
    client.post(link, {"answer": "not_mine"})
    client.post(link, {"answer": "mine"})

    assert Throttle.objects.get().answer == "not_mine"
    assert share(jump) == 10


def test_a_forged_link_opens_nothing(link: str, client: Client, jump: User):
    assert client.post(link[:-2] + "xx", {"answer": "mine"}).status_code == 404
    assert share(jump) == 10
