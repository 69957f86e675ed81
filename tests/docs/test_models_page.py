"""The page on versions: what it shows of PyTorch trains, is served, and trains again to the bit (`just test-torch`)."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.docs.test_how_to import FILE, page
from tests.hub.conftest import Hub


def section(title: str) -> str:
    return re.split(r"^## ", page("models").partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def write(text: str, folder: Path) -> Shell:
    """A workspace of the files that a text shows."""
    folder.mkdir()
    (folder / "sampan.toml").touch()
    for found in FILE.finditer(text):
        (folder / found[1]).write_text(found[0].split("\n", 1)[1].removesuffix("```"), "utf-8")
    return Shell(folder)


def test_what_the_page_shows_of_pytorch_works(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: `just test-torch` runs these")
    shops = [write(section("PyTorch"), tmp_path / name) for name in ("shop", "again")]
    for shop in shops:
        shop("run")
    first, again = (shop.json("model", "show", "churn") for shop in shops)
    assert first["format"] == "pytorch"
    assert first["digest"] == again["digest"]
    (shops[0].folder / "nets.py").write_text("raise SystemExit('not this one')\n")
    shops[0]("endpoint", "deploy", "churn")
    hub = Hub(shops[0].folder)
    try:
        asked = re.search(r"-d '(\{.*?\})'", section("PyTorch"))
        assert asked is not None
        status, answer = hub.predict("churn", asked[1].encode())
        assert status == 200, answer
        leaves = json.loads(answer)["predictions"][0]["prediction"]
        status, answer = hub.predict("churn", json.dumps({**json.loads(asked[1]), "recency": -3.0}).encode())
        stays = json.loads(answer)["predictions"][0]["prediction"]
    finally:
        hub.stop()
    assert 0 < stays < 0.2 < 0.5 < leaves < 1, (stays, leaves)
