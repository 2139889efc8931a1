"""What people do with the mouse and the keyboard, step by step."""

import re

from playwright.sync_api import Page, expect

from tests.e2e.product import Product


def sign_up(page: Page, email: str, password: str) -> None:
    page.goto("/sign-up")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Make an account").click()
    page.wait_for_url("**/playground")


def sign_in(page: Page, email: str, password: str) -> None:
    page.goto("/sign-in")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/playground")


def staff_sign_in(page: Page, product: Product) -> None:
    page.goto("/admin/login/?next=/admin/")
    page.get_by_label("Email").fill(product.staff["email"])
    page.get_by_label("Password").fill(product.staff["password"])
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(re.compile(r"/admin/$"))


def choose_model(page: Page, name: str) -> None:
    page.locator(f'input[name="model"][value="{name}"]').check()


def say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def ask(page: Page, text: str) -> None:
    """Say something and wait for the whole answer."""
    answers = page.locator(".turn--assistant .turn__foot")
    before = answers.count()
    say(page, text)
    expect(answers).to_have_count(before + 1)
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def pay(page: Page) -> None:
    """Stripe's hosted checkout, as the stand-in has it."""
    page.get_by_role("button", name=re.compile("^(Subscribe|Pay|Start trial)")).click()
