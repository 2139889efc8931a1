"""The hosted pages, as a browser without scripts uses them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser

import httpx
import pytest

from sandbox.stripe.testing import RunningStripe, stripe_sandbox


@dataclass
class Shop:
    running: RunningStripe
    browser: httpx.Client
    plus: str
    pro: str

    @property
    def engine(self):
        return self.running.engine

    def checkout(self, **params):
        return self.engine.create_checkout(self.plus, **params)

    def portal(self, customer: str, **params) -> str:
        given = {"customer": customer, "return_url": "https://site.test/account", **params}
        url: str = self.engine.request("POST", "/v1/billing_portal/sessions", given)["url"]
        return url


@pytest.fixture
def shop() -> Iterator[Shop]:
    with stripe_sandbox() as running, httpx.Client(base_url=running.url, trust_env=False) as http:
        plus = running.engine.create_price(unit_amount=2000, product_name="Plus <b>")
        pro = running.engine.create_price(unit_amount=5000, product_name="Pro")
        yield Shop(running, http, plus["id"], pro["id"])


def alert(page: httpx.Response) -> str:
    found = re.search(r'role="(?:alert|status)">(.*?)</p>', page.text)
    return unescape(found[1]) if found else ""


class Outline(HTMLParser):
    """What is wrong with a page's structure."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.labelled = 0
        self.problems: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if (
            tag in ("input", "select")
            and given.get("type") != "hidden"
            and "label" not in self.open
        ):
            self.problems.append(f"{tag} {given.get('name')} has no label")
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)
        if tag == "form" and not given.get("action"):
            self.problems.append("form without action")
        for name in ("src", "href"):
            if (given.get(name) or "").startswith(("//", "https://cdn")):
                self.problems.append(f"{tag} loads {given[name]}")
        if tag not in ("meta", "input", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")


# --- checkout


def test_checkout_shows_product_price_interval_and_total(shop: Shop):
    page = shop.browser.get(shop.checkout(customer_email="a@b.c")["url"])
    assert page.status_code == 200
    assert "Plus &lt;b&gt;" in page.text
    assert "$20.00" in page.text
    assert "per month" in page.text
    assert "Total due today" in page.text
    assert 'value="a@b.c"' in page.text


def test_paying_leads_to_the_success_url_with_the_session_id(shop: Shop):
    session = shop.checkout(success_url="https://site.test/ok?s={CHECKOUT_SESSION_ID}")
    answer = shop.browser.post(f"/c/pay/{session['id']}", data={"email": "a@b.c"})
    assert answer.status_code == 303
    assert answer.headers["location"] == f"https://site.test/ok?s={session['id']}"
    done = shop.engine.object(session["id"])
    assert done["payment_status"] == "paid"
    assert shop.engine.object(done["customer"])["email"] == "a@b.c"


def test_declined_card_says_so_and_the_page_stays(shop: Shop):
    session = shop.checkout(customer_email="a@b.c")
    answer = shop.browser.post(f"/c/pay/{session['id']}", data={"method": "pm_card_chargeDeclined"})
    assert answer.status_code == 402
    assert alert(answer) == "Your card was declined."
    assert "Subscribe" in answer.text


def test_3d_secure_asks_in_between(shop: Shop):
    session = shop.checkout(customer_email="a@b.c")
    path, card = f"/c/pay/{session['id']}", {"method": "pm_card_threeDSecure2Required"}
    asked = shop.browser.post(path, data=card)
    assert "Your bank wants to make sure it is you" in asked.text
    failed = shop.browser.post(path, data={**card, "answer": "failed"})
    assert failed.status_code == 402
    assert "could not authenticate" in alert(failed)
    assert shop.browser.post(path, data={**card, "answer": "passed"}).status_code == 303


def test_promotion_code_lowers_the_total(shop: Shop):
    shop.engine.request("POST", "/v1/coupons", {"id": "Q", "percent_off": 25, "duration": "once"})
    shop.engine.request(
        "POST",
        "/v1/promotion_codes",
        {"promotion": {"type": "coupon", "coupon": "Q"}, "code": "SAVE25"},
    )
    session = shop.checkout(allow_promotion_codes=True, customer_email="a@b.c")
    path = f"/c/promotion/{session['id']}"
    assert "invalid" in alert(shop.browser.post(path, data={"code": "NOPE"}))
    page = shop.browser.post(path, data={"code": "save25"}, follow_redirects=True)
    assert "−$5.00" in page.text
    assert "$15.00" in page.text
    shop.browser.post(f"/c/pay/{session['id']}", data={})
    assert shop.engine.object(session["id"])["amount_total"] == 1500
    assert shop.engine.objects("invoice")[0]["total"] == 1500


def test_promotion_field_is_there_only_when_allowed(shop: Shop):
    assert "Promotion code" not in shop.browser.get(shop.checkout()["url"]).text


def test_email_is_needed_when_nobody_is_known(shop: Shop):
    answer = shop.browser.post(f"/c/pay/{shop.checkout()['id']}", data={"email": ""})
    assert answer.status_code == 400
    assert alert(answer) == "Enter your e-mail address."


def test_finished_and_expired_sessions_cannot_be_paid_again(shop: Shop):
    session = shop.checkout(customer_email="a@b.c")
    shop.browser.post(f"/c/pay/{session['id']}", data={})
    again = shop.browser.post(f"/c/pay/{session['id']}", data={})
    assert "complete" in again.text
    assert len(shop.engine.objects("subscription")) == 1
    other = shop.checkout()
    shop.engine.expire_checkout(other["id"])
    assert "has expired" in shop.browser.get(f"/c/pay/{other['id']}").text
    assert shop.browser.get("/c/pay/cs_test_nope").status_code == 404


# --- portal


@pytest.fixture
def subscribed(shop: Shop) -> tuple[str, str]:
    customer = shop.engine.create_customer(email="alice@example.com")["id"]
    return customer, shop.engine.subscribe(customer, shop.plus)["id"]


def press(shop: Shop, url: str, button: str, **fields: str) -> httpx.Response:
    return shop.browser.post(f"{url}/{button}", data=fields)


def test_portal_shows_plan_invoices_and_the_way_back(shop: Shop, subscribed: tuple[str, str]):
    page = shop.browser.get(shop.portal(subscribed[0]))
    assert "Plus &lt;b&gt;" in page.text
    assert "Visa •••• 4242" in page.text
    assert 'href="https://site.test/account"' in page.text
    assert 'href="/i/in_' in page.text


def test_B13_portal_cancels_by_date_in_flexible_mode_and_takes_it_back(
    shop: Shop, subscribed: tuple[str, str]
):
    customer, sub = subscribed
    url = shop.portal(customer)
    press(shop, url, "cancel", subscription=sub)
    now = shop.engine.object(sub)
    assert now["cancel_at"] == now["items"]["data"][0]["current_period_end"]
    assert now["cancel_at_period_end"] is False
    assert "Ends on" in shop.browser.get(url).text
    press(shop, url, "resume", subscription=sub)
    assert shop.engine.object(sub)["cancel_at"] is None


def test_portal_cancels_by_flag_in_classic_mode(shop: Shop):
    customer = shop.engine.create_customer()["id"]
    sub = shop.engine.subscribe(customer, shop.plus, billing_mode={"type": "classic"})["id"]
    press(shop, shop.portal(customer), "cancel", subscription=sub)
    assert shop.engine.object(sub)["cancel_at_period_end"] is True


def test_portal_cancels_now(shop: Shop, subscribed: tuple[str, str]):
    customer, sub = subscribed
    page = press(shop, shop.portal(customer), "cancel_now", subscription=sub)
    assert alert(page) == "Your plan has ended."
    assert shop.engine.object(sub)["status"] == "canceled"


def test_portal_changes_the_plan_at_once(shop: Shop, subscribed: tuple[str, str]):
    customer, sub = subscribed
    press(shop, shop.portal(customer), "change", subscription=sub, price=shop.pro, quantity="2")
    item = shop.engine.object(sub)["items"]["data"][0]
    assert (item["price"]["id"], item["quantity"]) == (shop.pro, 2)


def test_portal_downgrades_later_if_the_configuration_says_so(
    shop: Shop, subscribed: tuple[str, str]
):
    customer, sub = subscribed
    shop.engine.change_price(sub, shop.pro)
    later = {"conditions": [{"type": "decreasing_item_amount"}]}
    configuration = shop.engine.request(
        "POST",
        "/v1/billing_portal/configurations",
        {
            "features": {
                "subscription_update": {
                    "enabled": True,
                    "default_allowed_updates": ["price"],
                    "products": [],
                    "schedule_at_period_end": later,
                }
            }
        },
    )
    url = shop.portal(customer, configuration=configuration["id"])
    press(shop, url, "change", subscription=sub, price=shop.plus)
    assert shop.engine.object(sub)["items"]["data"][0]["price"]["id"] == shop.pro
    shop.engine.advance_past_renewal(sub)
    assert shop.engine.object(sub)["items"]["data"][0]["price"]["id"] == shop.plus


def test_failed_upgrade_says_so_and_changes_nothing(shop: Shop, subscribed: tuple[str, str]):
    customer, sub = subscribed
    url = shop.portal(customer)
    press(shop, url, "fail_next")
    page = press(shop, url, "change", subscription=sub, price=shop.pro)
    assert alert(page) == "Your card was declined."
    assert shop.engine.object(sub)["items"]["data"][0]["price"]["id"] == shop.plus


def test_method_that_fails_makes_it_past_due_and_a_good_one_pays(
    shop: Shop, subscribed: tuple[str, str]
):
    customer, sub = subscribed
    url = shop.portal(customer)
    press(shop, url, "method", method="pm_card_chargeCustomerFail")
    shop.engine.advance_past_renewal(sub)
    assert shop.engine.object(sub)["status"] == "past_due"
    url = shop.portal(customer)
    press(shop, url, "method", method="pm_card_visa")
    invoice = shop.engine.object(sub)["latest_invoice"]
    assert "Thank you" in alert(press(shop, url, "pay", invoice=invoice))
    assert shop.engine.object(sub)["status"] == "active"


def test_portal_touches_only_its_own_customer(shop: Shop, subscribed: tuple[str, str]):
    _, sub = subscribed
    stranger = shop.engine.create_customer()["id"]
    before = shop.engine.object(sub)
    answer = press(shop, shop.portal(stranger), "cancel_now", subscription=sub)
    assert answer.status_code == 400
    assert shop.engine.object(sub) == before


def test_unknown_portal_is_404(shop: Shop):
    assert shop.browser.get("/p/session/test_bps_nope").status_code == 404


# --- invoice, console


def test_open_invoice_is_paid_on_its_page_after_3d_secure(shop: Shop, subscribed: tuple[str, str]):
    customer, sub = subscribed
    shop.engine.fail_payments(customer)
    shop.engine.advance_past_renewal(sub)
    path = f"/i/{shop.engine.object(sub)['latest_invoice']}"
    assert "Pay this invoice" in shop.browser.get(path).text
    card = {"method": "pm_card_threeDSecure2Required"}
    assert "Your bank wants" in shop.browser.post(path, data=card).text
    assert "Thank you" in alert(shop.browser.post(path, data={**card, "answer": "passed"}))
    assert shop.engine.object(sub)["status"] == "active"


def console_token(shop: Shop) -> str:
    found = re.search(r'name="token" value="(\w+)"', shop.browser.get("/").text)
    assert found
    return found[1]


def test_console_lists_what_is_there(shop: Shop, subscribed: tuple[str, str]):
    page = shop.browser.get("/").text
    for shown in ("alice@example.com", subscribed[0], "Plus &lt;b&gt;", "To the period&#x27;s end"):
        assert shown in page


def test_console_moves_the_clock(shop: Shop, subscribed: tuple[str, str]):
    before = shop.engine.now()
    form = {"token": console_token(shop), "seconds": "86400"}
    assert shop.browser.post("/console/advance", data=form).status_code == 200
    assert shop.engine.now() == before + 86_400
    form = {"token": form["token"], "subscription": subscribed[1]}
    shop.browser.post("/console/past_renewal", data=form)
    assert len(shop.engine.objects("invoice")) == 2


def test_console_refunds_and_disputes(shop: Shop, subscribed: tuple[str, str]):
    charge = shop.engine.objects("charge")[0]["id"]
    form = {"token": console_token(shop), "charge": charge}
    shop.browser.post("/console/dispute", data=form)
    shop.browser.post("/console/refund", data=form)
    assert shop.engine.object(charge)["disputed"] is True
    assert shop.engine.object(charge)["refunded"] is True


def test_console_buttons_need_the_token_of_the_page(shop: Shop):
    before = shop.engine.now()
    answer = shop.browser.post("/console/advance", data={"seconds": "9", "token": "guess"})
    assert answer.status_code == 403
    assert shop.engine.now() == before


def test_console_switches_deliveries(shop: Shop):
    form = {"token": console_token(shop), "drop": "0.5", "delay_to": "2", "reorder": "on"}
    shop.browser.post("/console/switches", data=form)
    switched = shop.running.control("GET", "deliveries")["switches"]
    assert (switched["drop"], switched["delay"], switched["reorder"]) == (0.5, [0.0, 2.0], True)


def test_event_page_shows_the_event(shop: Shop, subscribed: tuple[str, str]):
    event = shop.engine.events()[-1]
    assert event.type in shop.browser.get(f"/events/{event.id}").text


# --- all of them


def test_pages_are_well_formed_labelled_and_load_nothing(shop: Shop, subscribed: tuple[str, str]):
    customer, sub = subscribed
    shop.engine.fail_payments(customer)
    shop.engine.advance_past_renewal(sub)
    session = shop.checkout(allow_promotion_codes=True)
    invoice = shop.engine.object(sub)["latest_invoice"]
    for url in (session["url"], shop.portal(customer), f"/i/{invoice}", "/", "/nowhere"):
        page = shop.browser.get(url)
        outline = Outline(page.text)
        assert outline.problems == [], url
        assert outline.open == []
        assert outline.headings[0] == "h1"
        assert outline.headings.count("h1") == 1
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "<script" not in page.text
