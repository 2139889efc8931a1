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
EXPECTED = {"not-found": 404, "organization-of-others": 404}
# Virtual keys and the master key, Stripe's keys and signing secrets.
SECRET = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}|\b[sr]k_(?:test|live)_\w+|\bwhsec_\w+")


@pytest.fixture(scope="module")
def visitors(browser: Browser, product: Product) -> Iterator[Visitors]:
    visitors = Visitors(browser, product, 1280, "light")
    yield visitors
    visitors.close()


@pytest.fixture(scope="module")
def ids(visitors: Visitors) -> dict[str, str]:
    return addresses(visitors)


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_page(visitors: Visitors, ids: dict[str, str], product: Product, axe: str, place: Place):
    """It opens, holds no secret, complains of nothing and fetches nothing foreign; it fits the
    window and is accessible, light at a desk and dark on a phone."""
    context = visitors.of(place.who)
    watch = Watch(product)
    page = context.new_page()
    page.on("console", watch._console)
    page.on("pageerror", lambda error: watch.complaints.append(str(error)))
    page.on("request", watch._request)
    try:
        response = page.goto(place.path.format(**ids))
        assert response is not None
        assert response.status == EXPECTED.get(place.name, 200)
        place.act(page)
        assert SECRET.findall(page.content()) == []
        assert "session" not in page.evaluate("document.cookie")
        assert is_as_wide_as_the_window(page)
        assert violations(page, axe) == []
        on_a_phone_at_night(page)
        assert is_as_wide_as_the_window(page)
        assert violations(page, axe) == []
        assert watch.complaints == []
        assert watch.foreign == []
    finally:
        page.close()


# The site follows the system's scheme at once, Unfold only when it loads.
DARKEN = """() => {
  const root = document.documentElement;
  if (!root.dataset.theme) root.classList.add("dark");
}"""
# Colours on their way from one scheme to the other have no contrast to speak of.
IS_DARK = """() => {
  const { theme } = document.documentElement.dataset;
  const moving = document.getAnimations().some((each) => each instanceof CSSTransition);
  return (!theme || theme === "dark") && !moving;
}"""


def on_a_phone_at_night(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 900})
    page.emulate_media(color_scheme="dark")
    page.evaluate(DARKEN)
    page.wait_for_function(IS_DARK)


def is_as_wide_as_the_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def test_the_skip_link_is_the_first_stop(visitors: Visitors):
    page = visitors.of("").new_page()
    page.goto("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip-link"
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#main$"))
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
