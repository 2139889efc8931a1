"""What people do on their account page, and what they meet at a limit."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.people import sign_up

pytestmark = pytest.mark.browser


def test_a_token_is_shown_once_and_can_be_revoked(page: Page, newcomer):
    sign_up(page, *newcomer)
    page.goto("/account")
    page.get_by_role("button", name="New token").click()
    page.get_by_label("What is it for?").fill("My laptop")
    page.get_by_role("button", name="Make it").click()
    token = page.locator("[data-token]")
    expect(token).to_have_text(re.compile("^tk-"))
    value = token.text_content() or ""
    with page.expect_navigation():
        page.get_by_role("button", name="Done").click()
    expect(page.get_by_text("My laptop", exact=True)).to_be_visible()
    assert value not in page.content()
    page.get_by_role("button", name="Revoke", exact=True).click()
    page.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("The token My laptop is revoked.")).to_be_visible()
    expect(page.get_by_text("No token yet.")).to_be_visible()


def test_an_account_can_be_closed(page: Page, newcomer):
    email, password = newcomer
    sign_up(page, email, password)
    page.goto("/account")
    page.get_by_role("button", name="Delete my account").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("to confirm").fill("somebody@else.example")
    dialog.get_by_role("button", name="Delete my account").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Repeat your e-mail address")
    dialog.get_by_label("to confirm").fill(email)
    dialog.get_by_role("button", name="Delete my account").click()
    expect(page.get_by_role("link", name="Sign up")).to_be_visible()


def test_wrong_passwords_are_told_without_saying_who_exists(page: Page, newcomer):
    page.goto("/sign-in")
    page.get_by_label("E-mail address").fill(newcomer[0])
    page.get_by_label("Password").fill("wrong password")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("do not match")
