"""The customer's whole life, by clicking."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.people import ask, choose_model, pay, say, sign_up
from tests.e2e.product import Product

pytestmark = pytest.mark.browser

AS_LONG_AS_THE_PAGE_LOOKS_MS = 30_000
PRO_MODEL = "groq-llama-3.1-405b"


def open_portal(page: Page) -> None:
    page.goto("/account")
    page.get_by_role("button", name="Manage billing and invoices").click()
    expect(page.get_by_role("heading", name="Invoices")).to_be_visible()


def account_until(page: Page, text: str) -> None:
    """Reload the account until what time brought has come through Stripe, inbox and worker."""
    for _ in range(40):
        page.goto("/account")
        if page.get_by_text(text).count():
            return
        page.wait_for_timeout(500)
    expect(page.get_by_text(text).first).to_be_visible()


def back(page: Page, expected: str) -> None:
    """Leave the portal; the account page follows what was done there by itself."""
    page.get_by_role("link", name="Return to").click()
    page.wait_for_url("**/account**")
    expect(page.get_by_text(expected).first).to_be_visible(timeout=AS_LONG_AS_THE_PAGE_LOOKS_MS)


def test_from_sign_up_to_cancellation(page: Page, product: Product, newcomer):
    email, password = newcomer

    # Sign up, and chat on the free plan.
    sign_up(page, email, password)
    ask(page, "Say hello")
    answer = page.locator(".turn--assistant").last
    expect(answer.locator(".turn__foot")).to_contain_text("out tokens")
    expect(answer.locator(".turn__foot")).to_contain_text("$")
    expect(page.locator("[data-usage]")).to_contain_text("1 request")

    # A model of the pro plan is refused, with the way out.
    choose_model(page, PRO_MODEL)
    say(page, "And now the large one")
    expect(page.get_by_role("alert")).to_contain_text("does not include this model")
    page.get_by_role("link", name="Upgrade to Pro").click()

    # Check out.
    page.wait_for_url(re.compile(re.escape(product.web) + "/(#.*)?$"))
    page.get_by_role("button", name="Choose Pro").first.click()
    page.wait_for_url(f"{product.stripe}/**")
    pay(page)
    page.wait_for_url(f"{product.web}/account**")
    expect(page.get_by_text("You are on the Pro plan now.")).to_be_visible()
    expect(page.locator(".plan-name")).to_have_text("Pro")
    expect(page.get_by_text("Renews on")).to_be_visible()

    # The conversation goes on where it was refused.
    page.get_by_role("link", name="Open the playground").click()
    choose_model(page, PRO_MODEL)
    page.get_by_role("button", name="Ask again").click()
    expect(page.locator(".turn--assistant .turn__foot").last).to_contain_text("out tokens")
    expect(page.locator(".turn--assistant .turn__text").last).not_to_be_empty()

    # The next payment fails: grace, with its end.
    open_portal(page)
    page.get_by_role("button", name="Fail the next payment").click()
    page.goto(product.stripe)
    row = page.get_by_role("row").filter(has_text=email)
    row.get_by_role("button", name="To the period's end").click()
    account_until(page, "Payment overdue")
    expect(page.locator(".plan-name")).to_have_text("Pro")
    expect(page.get_by_text(re.compile(r"You keep Pro until \d+ \w+ \d{4}"))).to_be_visible()

    # It is paid after all.
    open_portal(page)
    page.get_by_role("button", name="Pay", exact=True).first.click()
    back(page, "Renews on")

    # Canceled for the end of the period, then at once.
    open_portal(page)
    page.get_by_role("button", name="Cancel at the end of the period").click()
    back(page, "Ends soon")
    open_portal(page)
    page.get_by_role("button", name="Cancel now").click()
    back(page, "Included with every account")
    expect(page.locator(".plan-name")).to_have_text("Free")
