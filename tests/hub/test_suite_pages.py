"""What came of a model's suite, on the pages of its versions, asked of a real hub."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from sampan.base.clock import iso
from tests.browser.shop import PAYLOAD, Shop, visit
from tests.hub.test_pages import read

SUITE = f"""
min_rows = 10

[minimum]
auc = 0.5
brier = 0.0

[[slice]]
name = {json.dumps(PAYLOAD)}
where = "page = '/0'"
minimum = {{ brier = 1.0 }}
min_rows = 1000

[[direction]]
name = "longer"
set = {{ seconds = "seconds + 30" }}
must_not = "rise"

[[case]]
name = "long"
reason = {json.dumps(PAYLOAD)}
features = {{ seconds = 30.0 }}
at_least = 0.5
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    made = Shop(tmp_path_factory.mktemp("pages") / "shop")
    made.hub.send(*[visit(f"e{n}", f"/{n % 5}", visitor=f"v{n}", seconds=42 - n * 0.7) for n in range(60)])
    made.run()
    yield made
    assert made.hub.stop() == 0


def page(shop: Shop, query: str = "") -> Any:
    return shop.hub.json(f"/models/stay/1{query}")["tests"]


def write(shop: Shop, suite: str) -> None:
    (shop.folder / "suites").mkdir(exist_ok=True)
    (shop.folder / "suites" / "stay.toml").write_text(suite)


def column(shop: Shop) -> str:
    (line,) = shop.hub.json("/models?model=stay")["models"]
    assert shop.hub.json("/models/stay")["line"]["versions"][0]["tests"] == line["versions"][0]["tests"]
    return str(line["versions"][0]["tests"])


@pytest.mark.slow
def test_the_page_goes_with_the_suite_from_none_to_stale(shop: Shop) -> None:
    assert (page(shop)["state"], column(shop)) == ("none", "none")
    assert "stay has no suite." in " ".join(read(shop.hub, "/models/stay/1").text)
    assert "Tests" not in read(shop.hub, "/models/stay").text

    write(shop, SUITE)
    assert (page(shop)["state"], column(shop)) == ("untested", "untested")

    first = json.loads(shop.post("/v1/tests", {"ref": "stay"}))
    found = page(shop)
    assert (found["state"], column(shop)) == ("failed", "failed")
    assert found["names"] == ["minimum brier", f"{PAYLOAD} brier", "longer"]
    assert found["newest"] == first["report"]
    assert found["newest"]["outcomes"][1]["cases"][0]["features"].keys() == {"seconds"}
    text = " ".join(read(shop.hub, "/models/stay/1").text)
    assert "In-sample:" in text and "longer: the worst of what did not hold" in text
    assert "12 rows whose outcome is known, where 1,000 are wanted" in text
    body = shop.hub.ask("GET", "/models/stay/1", accept="text/html")[1].decode()
    assert "<script>attack" not in body

    write(shop, SUITE + "# another\n")
    assert (page(shop)["state"], page(shop)["names"], column(shop)) == ("stale", ["suite"], "stale")
    assert "The suite changed since" in " ".join(read(shop.hub, "/models/stay/1").text)

    write(shop, SUITE + "nonsense\n")
    assert "at line" in page(shop)["unread"]
    assert "Its suite cannot be read." in " ".join(read(shop.hub, "/models/stay/1").text)

    write(shop, '[[case]]\nreason = "r"\nfeatures = { seconds = 30.0 }\nat_least = 0.5\n')
    shop.post("/v1/tests", {"ref": "stay@1"})
    found = page(shop)
    assert (found["state"], column(shop)) == ("passed", "passed")
    assert [one["passed"] for one in found["history"]] == [True, False]

    before = page(shop, f"?as-of={iso(first['created'])}")
    assert (before["state"], len(before["history"])) == ("failed", 1), "as it was when it was first asked"
