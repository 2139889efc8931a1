"""The hosted pages in a real browser: one buys, changes, fails, pays and leaves by clicking."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from sandbox.stripe.testing import RunningStripe, stripe_sandbox
from tests.e2e import axe

pytestmark = pytest.mark.browser


@pytest.fixture
def running() -> Iterator[RunningStripe]:
    with stripe_sandbox() as running:
        yield running


@pytest.fixture(params=[390, 1280], ids=["phone", "desk"])
def page(chromium_browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    page = chromium_browser.new_page(viewport={"width": request.param, "height": 844})
    yield page
    page.close()


def catalogue(running: RunningStripe) -> tuple[str, str]:
    engine = running.engine
    engine.request("POST", "/v1/coupons", {"id": "Q", "percent_off": 25, "duration": "once"})
    engine.request(
        "POST",
        "/v1/promotion_codes",
        {"promotion": {"type": "coupon", "coupon": "Q"}, "code": "SAVE25"},
    )
    plus = engine.create_price(unit_amount=2000, product_name="Plus")
    pro = engine.create_price(unit_amount=5000, product_name="Pro")
    return plus["id"], pro["id"]


def fits(page: Page) -> None:
    """Nothing has to be scrolled sideways."""
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(overflow) == 0


def test_a_customers_life_by_clicks(running: RunningStripe, page: Page):
    engine = running.engine
    plus, _ = catalogue(running)
    session = engine.create_checkout(
        plus, allow_promotion_codes=True, success_url=f"{running.url}/events/none"
    )
    page.goto(session["url"])
    fits(page)
    page.get_by_label("Promotion code").fill("save25")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_text("$15.00")).to_be_visible()
    page.get_by_label("E-mail").fill("clicker@example.com")
    page.get_by_label("is declined").check()
    page.get_by_role("button", name="Subscribe").click()
    expect(page.get_by_role("alert")).to_have_text("Your card was declined.")
    page.get_by_label("asks for 3-D Secure").check()
    page.get_by_role("button", name="Subscribe").click()
    page.get_by_role("button", name="Complete authentication").click()
    page.wait_for_url(f"{running.url}/events/none")
    done = engine.object(session["id"])
    assert done["payment_status"] == "paid"

    sub = done["subscription"]
    given = {"customer": done["customer"], "return_url": running.url}
    page.goto(engine.request("POST", "/v1/billing_portal/sessions", given)["url"])
    fits(page)
    page.get_by_label("Use another").select_option("pm_card_visa")
    page.get_by_role("button", name="Save").click()
    page.get_by_label("Plan").select_option(label="Pro, $50.00 per month")
    page.get_by_role("button", name="Change plan").click()
    expect(page.get_by_role("status")).to_have_text("Your plan has changed.")
    page.get_by_role("button", name="Cancel at the end of the period").click()
    page.get_by_role("button", name="Keep my plan").click()
    page.get_by_role("button", name="Fail the next payment").click()
    page.get_by_role("link", name="Return to the site").click()

    row = page.get_by_role("row").filter(has_text="clicker@example.com")
    row.get_by_role("button", name="To the period's end").click()
    assert engine.object(sub)["status"] == "past_due"
    page.get_by_role("row").filter(has_text="clicker@example.com").get_by_role(
        "button", name="Portal"
    ).click()
    page.get_by_role("button", name="Pay", exact=True).click()
    assert engine.object(sub)["status"] == "active"
    page.get_by_role("button", name="Cancel now").click()
    assert engine.object(sub)["status"] == "canceled"


def test_pages_are_accessible_and_fit(running: RunningStripe, page: Page):
    script = axe.source()
    engine = running.engine
    plus, _ = catalogue(running)
    customer = engine.create_customer(email="a@example.com")["id"]
    sub = engine.subscribe(customer, plus)["id"]
    engine.fail_payments(customer)
    engine.advance_past_renewal(sub)
    portal = engine.request("POST", "/v1/billing_portal/sessions", {"customer": customer})["url"]
    checkout = engine.create_checkout(plus, allow_promotion_codes=True)["url"]
    invoice = f"{running.url}/i/{engine.object(sub)['latest_invoice']}"
    for url in (checkout, portal, invoice, running.url):
        page.goto(url)
        fits(page)
        assert axe.violations(page, script) == [], url
