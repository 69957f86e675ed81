"""Every page of the hub in Chromium: nothing stored runs, it fits a phone, it can be read in light and dark."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

from sampan.hub.sitemap import PAGES
from tests.browser.addresses import addresses
from tests.browser.conftest import Watched, watch
from tests.browser.shop import Shop

pytestmark = pytest.mark.slow

PHONE: ViewportSize = {"width": 390, "height": 844}
DESK: ViewportSize = {"width": 1280, "height": 900}
#: What stored text would have become if it were not shown as text.
SIGNS = ("img[src=x]", "[onerror]", "[onload]", "a[href^='javascript:']", "main script")

#: Elements whose text stands over the edge of the window, with what they are; what may be scrolled does not count.
OVERFLOW = """() => {
  const wide = document.documentElement.clientWidth, found = [];
  for (const one of document.querySelectorAll("body *")) {
    const box = one.getBoundingClientRect();
    if (box.right <= wide + 1 || box.width === 0) continue;
    let inside = false;
    for (let up = one.parentElement; up; up = up.parentElement)
      if (["auto", "scroll", "hidden"].includes(getComputedStyle(up).overflowX)) inside = true;
    if (!inside) found.push(`<${one.tagName.toLowerCase()} class="${one.className}"> ends at ${box.right}`);
  }
  return {wide, scroll: document.documentElement.scrollWidth, found: found.slice(0, 5)};
}"""

#: The contrast of every text with what is behind it (WCAG 2.2, relative luminance), where it is below what it must be.
CONTRAST = """() => {
  for (const one of document.getAnimations()) one.finish();  // colors fade into those of the other scheme
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgba = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
  const light = (color) => {
    const [r, g, b] = color.map((n) => n / 255).map((n) => n <= 0.04045 ? n / 12.92 : ((n + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    const layers = [];
    for (let up = one; up; up = up.parentElement) layers.unshift(rgba(getComputedStyle(up).backgroundColor));
    const paper = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return layers.reduce((below, top) => over(top, below), paper);
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walk.nextNode()) {
    const one = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || one.closest("script, style, option, noscript") || !one.checkVisibility()) continue;
    if (one.matches(":disabled, [aria-disabled=true]")) continue;
    const style = getComputedStyle(one);
    const back = behind(one), front = over(rgba(one.closest("svg") ? style.fill : style.color), back);
    const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    texts += 1;
    if (!one.closest("svg") && ratio < (large ? 3 : 4.5))
      found.push(`${ratio.toFixed(2)} <${one.tagName.toLowerCase()} class="${one.className}"> ${text.slice(0, 40)}`);
  }
  return {texts, found: [...new Set(found)].slice(0, 8)};
}"""


@pytest.fixture(scope="module")
def known(shop: Shop) -> dict[str, list[str]]:
    """Addresses for each page of the sitemap."""
    return addresses(shop.hub, most=5)


@pytest.fixture(scope="module")
def reader(browser: Browser, shop: Shop, cookie: dict[str, str]) -> Iterator[Watched]:
    """One page that is led everywhere."""
    found = watch(browser, shop)
    found.context.add_cookies([cookie])  # type: ignore[list-item]
    yield found
    found.context.close()


@pytest.mark.parametrize("template", [page.path for page in PAGES])
def test_a_page_runs_nothing_that_was_stored_fits_a_phone_and_can_be_read(
    reader: Watched, known: dict[str, list[str]], template: str
) -> None:
    assert known[template], f"no link leads to {template}"
    reader.troubles.clear()  # those of the page before
    for number, path in enumerate(known[template]):
        reader.page.set_viewport_size(PHONE)
        page = reader.open(path)
        reader.check()
        assert page.locator("h1").count() == 1
        assert page.title().endswith("Sampan")
        assert page.locator(", ".join(SIGNS)).count() == 0, page.url
        if number < 2:  # two of a kind look alike
            seen = page.evaluate(OVERFLOW)
            assert seen["scroll"] <= seen["wide"], (page.url, seen)
            page.set_viewport_size(DESK)
            for scheme in ("dark", "light"):
                check_contrast(page, scheme)
        reader.check()


def test_on_a_phone_the_rail_shows_where_one_is(watched: Watched) -> None:
    watched.page.set_viewport_size(PHONE)
    for path in ("/", "/runs", "/settings"):
        box = watched.open(path).locator(".rail [aria-current]").bounding_box()
        assert box is not None
        assert box["x"] >= 0, path
        assert box["x"] + box["width"] <= 390, path


def check_contrast(page: Page, scheme: str) -> None:
    """Every text can be read, in light or dark."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    seen = page.evaluate(CONTRAST)
    assert seen["texts"] > 5, page.url
    assert seen["found"] == [], (scheme, page.url)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(part) for part in back[4:-1].split(",")[:3]) < 200) == (scheme == "dark"), back
