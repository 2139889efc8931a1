"""A day in the staff's room, by clicking."""

import re

import pytest
from django_otp.oath import totp
from playwright.sync_api import Browser, Page, expect

from tests.e2e.people import ask, sign_up, staff_sign_in
from tests.e2e.product import Product

pytestmark = pytest.mark.browser


@pytest.fixture
def customer(browser: Browser, product: Product, newcomer: tuple[str, str]) -> str:
    """Somebody who has just signed up and chatted once; their e-mail address."""
    context = browser.new_context(base_url=product.web)
    page = context.new_page()
    sign_up(page, *newcomer)
    ask(page, "Say hello")
    context.close()
    return newcomer[0]


@pytest.fixture
def staff(page: Page, product: Product) -> Page:
    staff_sign_in(page, product)
    return page


def find(page: Page, term: str) -> None:
    """Through the palette, with the keyboard."""
    page.get_by_role("button", name="Find anything").click()
    page.locator("#search-input-command").press_sequentially(term)
    page.locator("#command-results a").first.wait_for()


def open_customer(page: Page, email: str) -> None:
    find(page, email)
    page.locator("#command-results a").filter(has_text=email).first.click()
    expect(page.get_by_role("heading", name="Actions")).to_be_visible()


def reload_until(page: Page, text: str) -> None:
    """Until the worker has been at it."""
    for _ in range(20):
        page.reload()
        if page.get_by_text(text).count():
            return
        page.wait_for_timeout(300)
    expect(page.get_by_text(text).first).to_be_visible()


def test_find_a_customer_by_the_last_four_and_explain_their_access(staff: Page, customer: str):
    open_customer(staff, customer)
    heading = staff.locator(".room-table caption").first.text_content() or ""
    last_four = heading.strip()[-4:]
    staff.goto("/admin/")
    find(staff, last_four)
    staff.locator("#command-results a").filter(has_text=customer).first.click()
    chain = staff.locator(".chain")
    for step in ("Default plan", "Entitled to Free", "Key …", "Gateway"):
        expect(chain).to_contain_text(step)
    expect(staff.locator("section", has_text="Recent requests")).to_contain_text("Completed")


def test_rotate_a_key(staff: Page, customer: str):
    open_customer(staff, customer)
    staff.get_by_role("link", name="Rotate a key").click()
    expect(staff.get_by_text("goes on working for the overlap")).to_be_visible()
    staff.get_by_role("button", name="Rotate a key").click()
    expect(staff.get_by_text("is being replaced by")).to_be_visible()
    reload_until(staff, "Retiring")


def test_grant_a_plan_and_see_it_in_force(staff: Page, customer: str):
    open_customer(staff, customer)
    staff.get_by_role("link", name="Grant a plan").click()
    staff.get_by_label("Plan").select_option(label="Pro")
    staff.get_by_label("Reason").fill("Waited too long")
    staff.get_by_role("button", name="Grant a plan").click()
    expect(staff.get_by_text("Pro granted until")).to_be_visible()
    expect(staff.locator(".chain")).to_contain_text("Entitled to Pro")
    for _ in range(20):
        staff.reload()
        if staff.locator("tr", has_text="team_id").get_by_text("tesslate-pro").count() == 2:
            break
        staff.wait_for_timeout(300)
    expect(staff.locator("tr", has_text="team_id").get_by_text("tesslate-pro")).to_have_count(2)


def test_replay_events(staff: Page, product: Product):
    open_customer(staff, product.users["pro"]["email"])
    staff.get_by_role("link", name="Replay Stripe events").click()
    staff.get_by_role("button", name="Replay Stripe events").click()
    expect(staff.get_by_text(re.compile(r"\d+ events will be processed again"))).to_be_visible()


def test_preview_and_roll_out_a_plan_edit(staff: Page):
    staff.get_by_role("link", name="Plan matrix").click()
    staff.get_by_role("link", name="Edit limits of Plus").click()
    field = staff.get_by_label("Requests a minute")
    before = int(field.input_value())
    field.fill(str(before + 1))
    staff.get_by_role("button", name="Preview").click()
    impact = staff.get_by_label("Impact")
    expect(impact).to_contain_text("have this plan")
    expect(impact).to_contain_text(str(before + 1))
    staff.get_by_role("button", name="Do it").click()
    expect(staff).to_have_url(re.compile(r"/admin/rollouts/\d+$"))
    expect(staff.get_by_text("Done", exact=True)).to_be_visible()
    staff.get_by_role("button", name="Roll back").click()
    expect(staff.get_by_text("Everything is being put back")).to_be_visible()


def test_enrol_a_second_factor_and_sign_in_with_it(browser: Browser, staff: Page, product: Product):
    """Last: from here on this member of staff needs a code; the test takes the factor away."""
    staff.goto("/admin/security")
    staff.get_by_role("link", name="Set it up").click()
    staff.get_by_text("I cannot scan it").click()
    secret = (staff.locator("details code").text_content() or "").replace(" ", "")
    staff.get_by_label("Six digits").fill(code(secret))
    staff.get_by_role("button", name="Turn it on").click()
    codes = staff.locator(".codes li")
    expect(codes).to_have_count(10)
    recovery = codes.all_text_contents()
    staff.get_by_role("link", name="I have kept them").click()

    context = browser.new_context(base_url=product.web)
    page = context.new_page()
    page.goto("/admin/login/?next=/admin/")
    page.get_by_label("Email").fill(product.staff["email"])
    page.get_by_label("Password").fill(product.staff["password"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Code from your authenticator app").fill(recovery[0])
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("heading", name="Needs attention")).to_be_visible()
    page.goto("/admin/security")
    expect(page.get_by_text("9 recovery codes left")).to_be_visible()
    page.locator("#token-off").fill(recovery[1])
    page.get_by_role("button", name="Turn it off").click()
    expect(page.get_by_text("Two-factor sign-in is off")).to_be_visible()
    context.close()


def code(secret: str) -> str:
    import base64

    padding = "=" * (-len(secret) % 8)
    return f"{totp(base64.b32decode(secret + padding)):06d}"
