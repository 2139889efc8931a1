from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from llmkeys.models import VirtualKey
from plans.entitlements import refresh_entitlements
from plans.grants import grant_plan
from plans.models import Subscription
from plans.overview import billing_of
from tesslate.lib.cause import Cause
from tesslate.site.account import account_page
from tesslate.site.back_from_stripe import fingerprint
from tests.factories import (
    CustomerFactory,
    PlanFactory,
    PriceFactory,
    SubscriptionFactory,
    let_overage_be_billed,
)
from tests.site.ledger import chat_request

TEST = Cause.system("test")


@pytest.fixture
def subscription(pro_plan, user) -> Subscription:
    row = SubscriptionFactory.create(
        customer=CustomerFactory.create(user=user), price=pro_plan.prices.get(interval="month")
    )
    refresh_entitlements([user.pk], cause=TEST)
    return row


def standing_of(user):
    return account_page(user).standing


def change(subscription, **columns):
    Subscription.objects.filter(pk=subscription.pk).update(**columns)
    refresh_entitlements([subscription.customer.user_id], cause=TEST)


def test_asks_strangers_to_sign_in(client, db):
    response = client.get("/account")
    assert (response.status_code, response["Location"]) == (302, "/sign-in?next=/account")


def test_is_never_cached(signed_in):
    assert "no-store" in signed_in.get("/account")["Cache-Control"]


def test_free_users_see_when_usage_starts_anew(pro_plan, user):
    assert standing_of(user).label == "Free"


def test_paying_users_see_their_renewal(subscription, user):
    change(subscription, current_period_end=datetime(2040, 3, 1, tzinfo=UTC))
    assert standing_of(user).text == "Renews on 1 March 2040."
    assert account_page(user).price == "$19 a month"


def test_canceled_users_see_their_last_day(subscription, user):
    end = datetime(2040, 3, 1, tzinfo=UTC)
    change(subscription, cancel_at_period_end=True, current_period_end=end)
    assert standing_of(user).label == "Ends soon"
    assert "1 March 2040" in standing_of(user).text


def test_grace_is_shown_with_its_end(subscription, user):
    change(subscription, status="past_due", past_due_since=timezone.now() - timedelta(days=1))
    standing = standing_of(user)
    assert (standing.tone, standing.label) == ("warn", "Payment overdue")
    end = timezone.now() + timedelta(days=13)
    assert f"{end.day} {end:%B %Y}" in standing.text


def test_after_grace_the_debt_is_still_shown(subscription, user):
    change(subscription, status="past_due", past_due_since=timezone.now() - timedelta(days=60))
    assert account_page(user).plan.code == "free"
    assert standing_of(user).label == "Payment overdue"


def test_trials_show_their_end(subscription, user):
    change(subscription, status="trialing", trial_end=datetime(2040, 3, 1, tzinfo=UTC))
    assert standing_of(user).text == "Free until 1 March 2040."


def test_grants_cost_nothing(pro_plan, user):
    grant_plan(
        user=user,
        plan=pro_plan,
        ends_at=timezone.now() + timedelta(days=3),
        reason="Sorry",
        cause=TEST,
    )
    assert standing_of(user).label == "Given by us"


def test_counts_this_periods_usage_and_nobody_elses(pro_plan, user, stranger):
    page = account_page(user)
    chat_request(user, cost="0.25", prompt_tokens=100, completion_tokens=50)
    chat_request(user, cost="9", started_at=page.entitlement.period_start - timedelta(seconds=1))
    chat_request(stranger, cost="9")
    page = account_page(user)
    assert (page.spent.requests, page.spent.total_tokens) == (1, 150)
    assert page.spent.cost == Decimal("0.25")
    assert page.budget_percent == 2


def test_where_nothing_was_used_the_page_says_since_when(pro_plan, user, signed_in):
    begun = account_page(user).entitlement.period_start
    chat_request(user, started_at=begun - timedelta(seconds=1))
    html = signed_in.get("/account").content.decode()
    assert f"Nothing used since {begun.day} {begun:%b, %H:%M} UTC, when this period began." in html


def test_usage_is_split_by_model_the_dearest_first(pro_plan, user):
    chat_request(user, model="small", cost="0.01")
    chat_request(user, model="large", cost="0.03")
    chat_request(user, model="large", outcome="refused", cost=None)
    assert [(row.percent, row.totals.requests) for row in account_page(user).by_model] == [
        (75, 1),
        (25, 1),
    ]


def test_a_suspended_account_says_so_first(subscription, user):
    user.suspended_at = timezone.now()
    user.save()
    assert standing_of(user).label == "Suspended"


def test_grace_with_less_says_how_much_less(subscription, user, pro_plan):
    pro_plan.grace_limit_percent = 40
    pro_plan.save()
    change(subscription, status="past_due", past_due_since=timezone.now() - timedelta(days=1))
    assert "Pro with 40 % of its limits" in standing_of(user).text


def test_a_change_that_is_agreed_is_announced(subscription, user, free_plan):
    plus = PlanFactory.create(code="plus", name="Plus", rank=20)
    price = PriceFactory.create(plan=plus)
    at = datetime(2040, 3, 1, tzinfo=UTC)
    pending = {"kind": "schedule", "prices": [price.stripe_price_id], "at": at.timestamp()}
    change(subscription, pending_change=pending)
    assert account_page(user).pending == "Changes to Plus on 1 March 2040."


def test_invoices_stay_in_reach_after_the_end(subscription, signed_in, user):
    change(subscription, status="canceled", ended_at=timezone.now())
    assert "data-portal" in signed_in.get("/account").content.decode()


def test_the_cap_on_usage_beyond_the_plan_is_shown_to_who_may_have_it(subscription, signed_in):
    assert 'data-open="overage"' not in signed_in.get("/account").text
    let_overage_be_billed(subscription, cap_cents=2500)
    html = signed_in.get("/account").text
    assert "up to $25 a period" in html
    assert 'value="25"' in html


def test_who_never_bought_has_no_invoices(signed_in):
    assert "data-portal" not in signed_in.get("/account").content.decode()


def test_seats_are_part_of_the_price(subscription, user):
    change(subscription, quantity=3)
    assert account_page(user).price == "$19 a month × 3 seats"


def test_what_the_page_shows_is_told_apart_by_its_fingerprint(subscription, user):
    def shown():
        return fingerprint(billing_of(user))

    price = subscription.price.stripe_price_id
    assert shown() == f"pro active {price}  1"
    change(subscription, cancel_at_period_end=True)
    assert shown() == f"pro active {price} ends 1"


def test_waits_for_the_checkout_that_the_payer_returns_from(signed_in):
    def config(query):
        return signed_in.get(f"/account?{query}").context["config"]

    assert config("checkout=success&session_id=cs_1")["checkout_session"] == "cs_1"
    assert config("session_id=cs_1")["checkout_session"] == ""
    assert config("portal=back")["is_back_from_portal"] is True


def test_a_plan_without_budget_is_used_up(pro_plan, free_plan, user):
    free_plan.budget_cents = 0
    free_plan.save()
    assert account_page(user).budget_percent == 100


def test_keys_are_masked(signed_in, user):
    account_page(user)
    key = VirtualKey.objects.get(user=user)
    html = signed_in.get("/account").content.decode()
    assert f"sk-…{key.last_four}" in html
    assert key.secret not in html
    assert key.key_hash not in html


def test_names_are_text(signed_in, user):
    user.display_name = "<script>alert(1)</script>"
    user.email = "a'b\"<c>@example.com"
    user.save()
    assert "<script>alert" not in signed_in.get("/account").content.decode()
