"""What holds on every page, whatever it shows."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests.e2e.axe import violations
from tests.e2e.conftest import Watch
from tests.e2e.pages import SITE, STAFF, STAFF_DOORS, Place, Visitors, addresses
from tests.e2e.product import Product

pytestmark = pytest.mark.browser

PLACES = [*SITE, *STAFF_DOORS, *STAFF]
EXPECTED = {"not-found": 404}


@pytest.fixture(scope="module", params=[(1280, "light"), (390, "dark")], ids=["desk", "phone"])
def visitors(request, browser: Browser, product: Product) -> Iterator[Visitors]:
    visitors = Visitors(browser, product, *request.param)
    yield visitors
    visitors.close()


@pytest.fixture(scope="module")
def ids(visitors: Visitors) -> dict[str, str]:
    return addresses(visitors)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_page(visitors: Visitors, ids: dict[str, str], product: Product, axe: str, place: Place):
    """It opens, complains of nothing, fetches nothing foreign, fits, and is accessible."""
    context = visitors.of(place.who)
    watch = Watch(product)
    page = context.new_page()
    page.on("console", watch._console)
    page.on("pageerror", lambda error: watch.complaints.append(str(error)))
    page.on("request", watch._request)
    response = page.goto(place.path.format(**ids))
    assert response is not None
    assert response.status == EXPECTED.get(place.name, 200)
    page.wait_for_load_state("networkidle")
    try:
        assert watch.complaints == []
        assert watch.foreign == []
        assert is_as_wide_as_the_window(page)
        assert violations(page, axe) == []
    finally:
        page.close()


def is_as_wide_as_the_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_the_skip_link_is_the_first_stop(visitors: Visitors):
    page = visitors.of("").new_page()
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip-link"
    page.keyboard.press("Enter")
    assert re.search("#main$", page.url)
    page.close()


def test_a_chosen_theme_stays(visitors: Visitors):
    page = visitors.of("").new_page()
    page.goto("/")
    before = page.evaluate("document.documentElement.dataset.theme")
    page.get_by_role("button", name="Switch between light and dark").click()
    page.goto("/sign-in")
    after = page.evaluate("document.documentElement.dataset.theme")
    assert {before, after} == {"light", "dark"}
    page.evaluate("localStorage.removeItem('theme')")
    page.close()
