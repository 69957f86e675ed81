"""Pictures of every page: `just screenshots WORKSPACE FOLDER`; light and dark, 1280 and 390 pixels wide."""

import re
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.addresses import addresses
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.hub.conftest import Hub

LOOKS = (("light", 1280), ("dark", 1280), ("light", 390))


def main(workspace: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    hub = Hub(workspace)
    name, _, value = hub.sign_in().partition("=")
    known = {shape: paths for shape, paths in addresses(hub).items() if paths}
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for scheme, width in LOOKS:
                context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
                context.add_cookies([{"name": name, "value": value, "url": hub.url}])
                page = context.new_page()
                for shape, (path,) in known.items():
                    page.goto(hub.url + path)
                    page.wait_for_timeout(300)  # charts draw themselves
                    file = re.sub(r"\W+", "-", shape).strip("-") or "overview"
                    page.screenshot(path=folder / f"{file}-{scheme}-{width}.png", full_page=width == 390)
                context.close()
            chromium.close()
    finally:
        hub.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
