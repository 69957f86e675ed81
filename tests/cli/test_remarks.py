"""`sampan tag` and `sampan comment` on what comes by itself: events, what waits in quarantine, columns of tables."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hub.conftest import Hub, make_workspace, sampan, visit


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an event, one in quarantine and a table; its hub is down again."""
    folder = make_workspace(tmp_path_factory.mktemp("remarks") / "shop")
    hub = Hub(folder)
    hub.send(visit("a"), visit("b", seconds=-1))
    assert hub.ask("POST", "/v1/runs", b"{}", content_type="application/json")[0].status == 200
    assert hub.stop() == 0
    return folder


def tell(folder: Path, *words: str, code: int = 0) -> Any:
    done = sampan(folder, *words, *(["--json"] if code == 0 else []))
    assert done.returncode == code, (done.stdout, done.stderr)
    return json.loads(done.stdout) if code == 0 else done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name", "whole"),
    [
        ("event", "intake:1", "intake:1"),
        ("event", "a", "intake:1"),
        ("item", "intake:2", "intake:2"),
        ("column", "pages.visits", "pages.visits"),
    ],
)
def test_what_is_said_of_it_is_shown_again(shop: Path, kind: str, name: str, whole: str) -> None:
    assert tell(shop, "tag", kind, name, f"seen-as={name}", "--note", "Looked at.")["note"] == "Looked at."
    made = tell(shop, "comment", kind, name, "A till was set to another year.")
    assert made["object"] == f"{kind} {whole}"
    assert tell(shop, "comment", kind, name)["comments"][-1]["text"] == "A till was set to another year."
    assert tell(shop, "tag", kind, name)["tags"]["seen-as"] == name
    tell(shop, "comment", kind, name, "--withdraw", made["id"])
    assert tell(shop, "comment", kind, name)["comments"][-1]["withdrawn"]


def test_what_is_not_there_is_told(shop: Path) -> None:
    assert "item intake:2" in tell(shop, "comment", "event", "intake:2", "Hello.", code=1)
    assert "nothing waits" in tell(shop, "comment", "item", "intake:1", "Hello.", code=1)
    for words in (("Hello.",), ()):
        assert "none" in tell(shop, "comment", "column", "pages.nothing", *words, code=1)
        assert "none" in tell(shop, "comment", "event", "nobody", *words, code=1)
        assert "none" in tell(shop, "comment", "prediction", "nobody", *words, code=1)
    assert tell(shop, "comment", "column", "pages.page") == {"comments": []}
