"""What people do by mistake, or on purpose: a clear message, nothing broken, nothing leaked."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.people import pay, sign_up
from tests.e2e.product import Product

pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="alert(1)">javascript:alert(2)'


def dialog_of(page: Page, opener: str) -> Locator:
    page.get_by_role("button", name=opener).click()
    return page.get_by_role("dialog")


def test_two_clicks_on_a_price_open_one_checkout(page: Page, product: Product, newcomer):
    sign_up(page, *newcomer)
    page.goto("/")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("button", name="Choose Plus").first.dblclick()
    page.wait_for_url(f"{product.stripe}/**")
    assert sum(url.endswith("/api/billing/checkout") for url in asked) == 1


def test_a_second_tab_cannot_buy_a_second_subscription(page: Page, product: Product, newcomer):
    sign_up(page, *newcomer)
    page.goto("/")
    stale = page.context.new_page()
    stale.goto("/")
    page.get_by_role("button", name="Choose Plus").first.click()
    page.wait_for_url(f"{product.stripe}/**")
    pay(page)
    page.wait_for_url(f"{product.web}/account**")
    stale.get_by_role("button", name="Choose Pro").first.click()
    expect(stale.get_by_role("alert")).to_contain_text("You have a subscription already")
    stale.get_by_role("button", name="Change your plan").click()
    expect(stale.get_by_role("heading", name="Invoices")).to_be_visible()


def test_a_paid_account_is_not_closed_before_it_is_canceled(page: Page, product: Product, newcomer):
    sign_up(page, *newcomer)
    page.goto("/")
    page.get_by_role("button", name="Choose Plus").first.click()
    page.wait_for_url(f"{product.stripe}/**")
    pay(page)
    expect(page.get_by_text("You are on the Plus plan now.")).to_be_visible()
    dialog = dialog_of(page, "Delete my account")
    dialog.get_by_label("to confirm").fill(newcomer[0])
    dialog.get_by_role("button", name="Delete my account").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Cancel your subscription first")


def test_hostile_names_are_shown_as_they_were_typed(page: Page, newcomer):
    sign_up(page, *newcomer)
    page.goto("/account")
    dialog = dialog_of(page, "New token")
    dialog.get_by_label("What is it for?").fill(HOSTILE)
    dialog.get_by_role("button", name="Make it").click()
    with page.expect_navigation():
        dialog.get_by_role("button", name="Done").click()
    expect(page.get_by_text(HOSTILE, exact=True).first).to_be_visible()
    page.get_by_role("button", name="Revoke", exact=True).click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text(f"The token {HOSTILE} is revoked.")).to_be_visible()
    dialog = dialog_of(page, "New organization")
    dialog.get_by_label("Name").fill(HOSTILE)
    dialog.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    assert page.locator("img").count() == 0


def test_fields_beyond_their_length_are_refused_in_words(page: Page, newcomer):
    sign_up(page, *newcomer)
    page.goto("/account")
    dialog = dialog_of(page, "New token")
    field = dialog.get_by_label("What is it for?")
    field.evaluate("field => field.removeAttribute('maxlength')")
    field.fill("x" * 10_000)
    dialog.get_by_role("button", name="Make it").click()
    expect(dialog.get_by_role("alert")).to_contain_text("100 characters")


def test_a_checkout_of_somebody_else_is_not_waited_for(page: Page, newcomer):
    sign_up(page, *newcomer)
    page.goto("/account?checkout=success&session_id=cs_test_of_somebody_else")
    expect(page).to_have_url(re.compile(r"/account$"))
    expect(page.get_by_text("Included with every account")).to_be_visible()


def test_a_forged_invitation_says_that_there_is_none(page: Page, newcomer):
    sign_up(page, *newcomer)
    page.goto("/account#invitation=forged")
    expect(page.get_by_role("alert")).to_contain_text("does not exist")
    expect(page).to_have_url(re.compile(r"/account$"))


def test_an_address_that_has_an_account_leads_to_signing_in(page: Page, product: Product):
    page.goto("/sign-up")
    page.get_by_label("E-mail address").fill(product.users["free"]["email"])
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Make an account").click()
    expect(page.get_by_role("alert")).to_contain_text("Sign in instead")


def test_a_used_link_for_confirming_says_so(page: Page):
    page.goto("/reset-password?mode=verifyEmail&oobCode=used")
    page.get_by_role("button", name="Confirm it").click()
    expect(page.get_by_role("alert")).to_contain_text("Ask for a new one")


def test_a_used_reset_link_says_so(page: Page):
    page.goto("/reset-password?oobCode=used")
    page.get_by_label("New password").fill("correct horse battery")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("alert")).to_contain_text("Ask for a new one")
