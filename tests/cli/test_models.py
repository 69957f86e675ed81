"""Registering, naming and describing models from the command line, with a hub and without."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub.conftest import Hub, make_workspace, sampan

API = "/api/2.0/mlflow"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A workspace in which three runs have logged a file each; its hub is down again."""
    folder = make_workspace(tmp_path_factory.mktemp("models") / "shop")
    hub = Hub(folder)

    def ask(path: str, body: Any) -> Any:
        response, answer = hub.ask("POST", API + path, json.dumps(body).encode())
        assert response.status == 200, answer
        return json.loads(answer)

    runs = []
    for number in range(3):
        run = ask("/runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
        ask("/runs/log-metric", {"run_id": run, "key": "auc", "value": 0.7 + number / 10, "timestamp": 1})
        path = f"{API}-artifacts/artifacts/0/{run}/artifacts/model/weights.bin"
        assert hub.ask("PUT", path, bytes([number]))[0].status == 200
        ask("/runs/update", {"run_id": run, "status": "FINISHED", "end_time": 2})
        runs.append(run)
    assert hub.stop() == 0
    yield folder, runs


@pytest.fixture(scope="module", params=["without a hub", "with a hub"])
def tell(request: pytest.FixtureRequest, shop: tuple[Path, list[str]]) -> Iterator[Callable[..., Any]]:
    """Tells the command something; gives its JSON, or what it said when it exits with ``code``."""
    folder, _ = shop
    hub = Hub(folder) if request.param == "with a hub" else None

    def tell(*words: str, code: int = 0) -> Any:
        first = () if words[0] in ("tag", "comment") else ("model",)
        done = sampan(folder, *first, *words, *(["--json"] if code == 0 else []))
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout) if code == 0 else done.stderr

    tell.model = "up" if hub else "down"  # type: ignore[attr-defined]
    yield tell
    if hub is not None:
        assert hub.stop() == 0


def test_a_version_is_registered_named_and_found(tell: Any, shop: tuple[Path, list[str]]) -> None:
    name, (first, second, _) = tell.model, shop[1]
    assert tell("register", name, "--run", first)["number"] == 1
    assert tell("register", name, "--run", first)["number"] == 1, "the same content keeps its number"
    assert tell("register", name, "--run", second, "--path", "model")["number"] == 2
    tell("alias", f"{name}@1", "champion", "--reason", "the first")
    assert tell("show", f"{name}@champion")["metrics"] == {"auc": 0.7}
    tell("alias", f"{name}@2", "champion", "--was", "1", "--reason", "better")
    assert "names" in tell("alias", f"{name}@1", "champion", "--was", "1", code=1)
    told = tell("history", name)
    assert [(use["ref"], use["reason"], use["until"] is None) for use in told["uses"]] == [
        (f"{name}@2", "better", True),
        (f"{name}@1", "the first", False),
    ]
    assert [bool(one["refused"]) for one in told["history"] if one["what"].startswith("alias")] == [True, False, False]
    (line,) = [one for one in tell("list")["models"] if one["name"] == name]
    assert [version["aliases"] for version in line["versions"]] == [["champion"], []]
    tell("unalias", name, "champion")
    assert all(use["until"] for use in tell("history", name)["uses"])


@pytest.mark.slow
def test_what_is_said_of_it_stays_until_it_is_taken_away(tell: Any, shop: tuple[Path, list[str]]) -> None:
    name = f"{tell.model}-said"
    tell("register", name, "--run", shop[1][0])
    tell("tag", "version", f"{name}@1", "stage=canary", "data=2026-10", "--note", "Without returns.")
    left = {"tags": {"stage": "canary"}, "note": "Without returns."}
    assert tell("tag", "version", f"{name}@1", "--remove", "data") == left
    tell("alias", f"{name}@1", "champion")
    assert tell("tag", "version", f"{name}@champion") == left
    tell("tag", "model", name, "owner=ann")
    assert tell("tag", "model", name)["tags"] == {"owner": "ann"}
    assert "no" in tell("tag", "version", f"{name}@1", "--remove", "data", code=1)
    assert "KEY=VALUE" in tell("tag", "model", name, "owner", code=2)


def test_a_comment_stays_with_who_made_it_until_that_one_withdraws_it(tell: Any, shop: tuple[Path, list[str]]) -> None:
    name = f"{tell.model}-talk"
    tell("register", name, "--run", shop[1][0])
    first = tell("comment", "version", f"{name}@1", "Looks *short*.\nOr not?")
    tell("comment", "version", f"{name}@1", "It is not.")
    tell("comment", "version", f"{name}@1", "--withdraw", first["id"])
    said = tell("comment", "version", f"{name}@1")["comments"]
    assert [(one["text"], one["withdrawn"]) for one in said] == [("", True), ("It is not.", False)]
    assert {one["actor"] for one in said} == {first["actor"]}
    assert tell("comment", "model", name) == {"comments": []}
    assert "Kinds: model, version, table" in tell("comment", "person", "ann", "Hello.", code=1)
    assert "Kinds: model, version, table" in tell("comment", "person", "ann", code=1)
    assert "nobody" in tell("comment", "table", "nobody", "Hello.", code=1)
    assert "0 characters" in tell("comment", "model", name, " ", code=2)
    assert "none with this id" in tell("comment", "model", name, "--withdraw", "nothing", code=1)
    assert "one after the other" in tell("comment", "model", name, "a", "--withdraw", "b", code=2)
    assert "only be looked at" in tell("comment", "model", name, "a", "--as-of", "2026-01-01", code=2)


@pytest.mark.slow
def test_what_is_needed_is_not_deleted(tell: Any, shop: tuple[Path, list[str]]) -> None:
    name = f"{tell.model}-gone"
    for run in shop[1][:2]:
        tell("register", name, "--run", run)
    tell("alias", f"{name}@1", "champion")
    assert "alias champion" in tell("delete", f"{name}@1", code=1)
    assert "alias champion" in tell("delete", name, code=1)
    tell("delete", f"{name}@2")
    assert "there is none" in tell("show", f"{name}@2", code=1)
    assert tell("register", name, "--run", shop[1][2])["number"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("register", "new"), 2, "one thing"),
        (("register", "new", "--run", "none"), 1, "not found"),
        (("register", "a/b", "--run", "x"), 2, "no name"),
        (("alias", "none@1", "champion"), 1, "not found"),
        (("alias", "none", "champion"), 2, "names no version"),
        (("history", "none"), 1, "not found"),
        (("show", "none@champion"), 1, "not found"),
        (("delete", "none@1"), 1, "there is none"),
    ],
)
def test_what_cannot_be_is_told_in_one_message(tell: Any, words: tuple[str, ...], code: int, says: str) -> None:
    said = tell(*words, code=code)
    assert says in said and "Traceback" not in said
