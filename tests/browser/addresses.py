"""Where links lead: an address for each page of the sitemap, as somebody finds it who starts on the overview."""

import re
from html import unescape

from sampan.hub.sitemap import PAGES
from tests.hub.conftest import Hub


def pattern(path: str) -> re.Pattern[str]:
    """A page's address with its variable parts filled by anything."""
    return re.compile(re.sub(r"{\w+}", "[^/]+", path) + r"(?=\?|#|$)")


def addresses(hub: Hub, most: int = 1) -> dict[str, list[str]]:
    """Up to ``most`` addresses for each page, found by following links from the overview on."""
    found: dict[str, list[str]] = {page.path: [] for page in PAGES}
    shapes = {page.path: pattern(page.path) for page in sorted(PAGES, key=lambda page: page.path.count("{"))}
    waiting, seen = ["/", "/patterns"], set()
    while waiting:
        path = waiting.pop(0)
        shape = next((shape for shape, known in shapes.items() if known.fullmatch(path.partition("?")[0])), None)
        if shape is None or path in seen or len(found[shape]) >= (1 if "?" in path else most):
            continue
        seen.add(path)
        found[shape].append(path)
        if path != "/patterns":  # its links are examples
            _, body = hub.ask("GET", path, accept="text/html")
            waiting += [unescape(link) for link in re.findall(r'<a [^>]*?href="(/[^"#]*)', body.decode())]
    return found
