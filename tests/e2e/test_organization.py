"""A team: one owner pays, others are invited, take a seat, and leave."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.pages import Visitors, allow_overage, team_of
from tests.e2e.people import pay, sign_up
from tests.e2e.product import Product

pytestmark = pytest.mark.browser


@pytest.fixture
def colleague(browser: Browser, product: Product) -> Iterator[Page]:
    """A second person, in a browser of their own."""
    context = browser.new_context(base_url=product.web)
    yield context.new_page()
    context.close()


def dialog(page: Page) -> Any:
    return page.get_by_role("dialog")


def test_an_organization_buys_seats_and_fills_them(
    page: Page, colleague: Page, product: Product, newcomer
):
    email, password = newcomer
    guest = f"guest-{email}"
    sign_up(page, email, password)
    page.goto("/account")
    page.get_by_role("button", name="New organization").click()
    dialog(page).get_by_label("Name").fill("Acme <b>Labs</b>")
    dialog(page).get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Acme <b>Labs</b>")

    page.get_by_label("Plan", exact=True).select_option(label="Pro, $99 a month and seat")
    page.get_by_label("Seats", exact=True).fill("2")
    page.get_by_role("button", name="Check out").click()
    page.wait_for_url(f"{product.stripe}/**")
    pay(page)
    page.wait_for_url(f"{product.web}/organizations/**")
    expect(page.get_by_text("You are on the Pro plan now.")).to_be_visible()
    expect(page.get_by_text("1 of 2 taken")).to_be_visible()
    expect(page.get_by_text("$99 a month × 2 seats")).to_be_visible()

    page.get_by_role("button", name="Invite somebody").click()
    dialog(page).get_by_label("E-mail address").fill(guest)
    dialog(page).get_by_role("button", name="Send the invitation").click()
    expect(page.get_by_text(f"The invitation to {guest} is on its way.")).to_be_visible()

    # The link leads a newcomer through sign-up into the organization.
    colleague.goto(product.invitation_link(guest))
    colleague.get_by_role("link", name="Make an account").click()
    colleague.get_by_label("E-mail address").fill(guest)
    colleague.get_by_label("Password").fill(password)
    colleague.get_by_role("button", name="Make an account").click()
    expect(colleague.get_by_text("You are a member of Acme <b>Labs</b> now.")).to_be_visible()
    expect(colleague.get_by_text("Through your organization")).to_be_visible()
    colleague.get_by_role("link", name="Acme <b>Labs</b>").click()
    expect(colleague.get_by_text("An owner can change the plan")).to_be_visible()

    page.reload()
    expect(page.get_by_text("2 of 2 taken")).to_be_visible()
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("button", name="Remove them").click()
    expect(page.get_by_text(f"{guest} is removed.")).to_be_visible()
    colleague.reload()
    expect(colleague.get_by_role("heading", level=1)).to_have_text("There is no such page")


def test_the_last_owner_cannot_leave(page: Page, newcomer):
    sign_up(page, *newcomer)
    page.goto("/account")
    page.get_by_role("button", name="New organization").click()
    dialog(page).get_by_label("Name").fill("Solo")
    dialog(page).get_by_role("button", name="Make it").click()
    page.wait_for_url(re.compile("/organizations/"))
    page.get_by_role("button", name="Leave", exact=True).click()
    page.get_by_role("button", name="Leave it").click()
    expect(page.get_by_role("alert")).to_contain_text("make somebody else one first")


def test_an_owner_sets_how_far_the_team_may_go_beyond_its_plan(browser: Browser, product: Product):
    visitors = Visitors(browser, product, 1280, "light")
    allow_overage(visitors.of("staff"), "Pro")
    owner = visitors.of("pro")
    team = team_of(owner)
    page = owner.new_page()
    page.goto(f"/organizations/{team}")
    for dollars, shown in (("25", "up to $25 a period for all seats"), ("0", "are refused")):
        page.get_by_role("button", name="Change", exact=True).click()
        dialog(page).get_by_label("At most").fill(dollars)
        dialog(page).get_by_role("button", name="Save").click()
        expect(page.get_by_text(shown)).to_be_visible()
    visitors.close()
