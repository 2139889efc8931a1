"""One copy of the product and one browser for all of these tests."""

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    expect,
)

from tests.e2e.browser import HOW_TO_GET_ONE, do_without, executable
from tests.e2e.product import Product, fresh_copy, running_copy

# A loaded machine takes its time between a payment and the page that shows it.
PATIENCE_MS = 20_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    if executable() is None:
        do_without(HOW_TO_GET_ONE)
    if (copy := running_copy()) is not None:
        yield copy
        return
    with fresh_copy(tmp_path_factory.mktemp("product")) as copy:
        yield copy


@pytest.fixture(scope="session")
def browser(product: Product, chromium_browser: Browser) -> Browser:
    return chromium_browser


class Watch:
    """What a browser complains of, and where it goes: both must stay empty."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        # Refusals that a test provokes are logged by the browser as failed loads.
        self.expected: re.Pattern[str] = re.compile(r"status of (?:4\d\d)")

    def on(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not self.expected.search(message.text):
            self.complaints.append(f"{message.page and message.page.url}: {message.text}")

    def _request(self, request: Request) -> None:
        ours = (self.product.web, self.product.stripe, self.product.firebase, "data:", "blob:")
        if not request.url.startswith(ours):
            self.foreign.append(request.url)


@pytest.fixture
def context(browser: Browser, product: Product) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=product.web, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    watch = Watch(product)
    watch.on(context)
    yield context
    context.close()
    assert watch.complaints == []
    assert watch.foreign == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def newcomer() -> tuple[str, str]:
    """An address that nobody has used, and a password."""
    return f"newcomer-{time.time_ns()}@example.com", "correct horse battery"


@pytest.fixture(scope="session")
def axe() -> str:
    from tests.e2e.axe import source

    return source()
