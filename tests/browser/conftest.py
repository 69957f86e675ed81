"""A real Chromium in front of a real hub, watched: whatever a page complains of or runs that it should not, is kept."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.shop import Shop
from tests.hub.conftest import filled

__all__ = ["filled"]  # the fixture

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
#: Runs before any script of a page: whatever a stored text manages to start is remembered, as is each broken rule.
HOOKS = """
window.attacks = [];
window.attack = (number) => window.attacks.push(`attack ${number}`);
for (const name of ["alert", "confirm", "prompt"]) window[name] = () => window.attacks.push(name);
document.addEventListener("securitypolicyviolation", (event) =>
  window.attacks.push(`${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`));
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if CHROMIUM is None:
        missing = pytest.mark.skip(reason="Chromium is not installed (apt install chromium)")
        for item in items:
            if "tests/browser/" in item.nodeid:
                item.add_marker(missing)


class Watched:
    """A signed-in page and what went wrong on it."""

    def __init__(self, shop: Shop, context: BrowserContext) -> None:
        self.shop = shop
        self.context = context
        self.page: Page = context.new_page()
        self.troubles: list[str] = []
        self.page.on("console", lambda said: self.note(f"console: {said.text}") if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.note(f"script: {error}"))
        self.page.on("dialog", lambda dialog: self.note(f"dialog: {dialog.message}"))
        self.page.on("requestfailed", self._failed)

    def note(self, trouble: str) -> None:
        self.troubles.append(f"{self.page.url}: {trouble}")

    def _failed(self, request: Any) -> None:
        if "ERR_ABORTED" not in str(request.failure):  # a stream ends when its page is left
            self.note(f"{request.url}: {request.failure}")

    def open(self, path: str, status: int = 200) -> Page:
        response = self.page.goto(self.shop.hub.url + path)
        assert response is not None
        assert response.status == status, (path, response.status)
        return self.page

    def check_scripts(self) -> None:
        """Nothing stored has run, and no rule of the page's policy was broken."""
        assert self.page.evaluate("window.attacks") == [], self.page.url

    def forget(self) -> None:
        """Of a refusal that the test wanted, the console complains too."""
        assert all("status of 4" in trouble for trouble in self.troubles), self.troubles
        self.troubles.clear()

    def check(self) -> None:
        """All that, and nothing was complained of."""
        self.check_scripts()
        assert self.troubles == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for one file: Playwright's loop must not run beside that of other tests."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def shop(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A workspace with something on every page, and its hub."""
    made = Shop.copy(filled, tmp_path_factory.mktemp("shop") / "shop")
    yield made
    assert made.hub.stop() == 0


@pytest.fixture(scope="module")
def cookie(shop: Shop) -> dict[str, str]:
    """A session."""
    name, _, value = shop.hub.sign_in().partition("=")
    return {"name": name, "value": value, "url": shop.hub.url}


def watch(browser: Browser, shop: Shop) -> Watched:
    """A page in a context of its own, with the hooks."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(HOOKS)
    context.set_default_timeout(30_000)
    return Watched(shop, context)


@pytest.fixture
def stranger(browser: Browser, shop: Shop) -> Iterator[Watched]:
    """A page of somebody who has not signed in; the test fails if anything on it did."""
    found = watch(browser, shop)
    yield found
    found.check()
    found.context.close()


@pytest.fixture
def watched(stranger: Watched, cookie: dict[str, str]) -> Watched:
    """A page of somebody who has signed in."""
    stranger.context.add_cookies([cookie])  # type: ignore[list-item]
    return stranger
