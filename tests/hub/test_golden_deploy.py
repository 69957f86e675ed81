"""A deploy asks the process that will serve what was asked in training, and does not switch if it answers otherwise."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.conftest import Here
from tests.cli.test_golden import PAGES, STEPS, altered
from tests.hub.conftest import Hub, make_workspace, port_of

DECISIONS = """
from sampan import Action, decision

@decision(model="busy", currency="GBP", entity="visitor", default="wait",
          values={"greet": {True: 1.0, False: 0.0}, "wait": {True: 0.0, False: 0.0}})
def greet(prediction, context, many: float = 10.0):
    if context["country"] == "NL":
        return Action("greet", rule="Dutch")
    return Action("greet" if prediction > many else "wait", rule="many")
"""
BODY = json.dumps({"records": [{"length": 3, "visitor": "ann", "country": "NL"}]}).encode()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """A version with seven golden requests, which know nothing of the country that the rule wants."""
    folder = make_workspace(tmp_path_factory.mktemp("proven") / "shop")
    (folder / "tables" / "pages.sql").write_text(PAGES)
    (folder / "steps.py").write_text(STEPS)
    (folder / "decisions.py").write_text(DECISIONS)
    here = Here(folder)
    rows = [{"page": "/" + "a" * (i % 7), "visitor": str(i), "at": f"2026-03-01T10:00:{i % 60:02}Z"} for i in range(99)]
    visits = folder.parent / "visits.ndjson"
    visits.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor", "--time", "at")
    assert here.json("run")["versions"] == ["busy@1"]
    yield here


@pytest.mark.slow
def test_without_a_hub_a_process_of_its_own_is_asked(shop: Here) -> None:
    told = shop("endpoint", "deploy", "busy")
    assert "7 of 7 golden requests got the same answer" in told
    assert "without context the rule failed on 7" in told
    (last, *_) = shop.json("model", "show", "busy@1")["golden_checks"]
    assert (last["cases"], last["different"]) == (7, 0)
    altered(shop, by=0.5)
    try:
        said = shop.complaint("endpoint", "deploy", "busy", "--set", "many=20", code=1)
        assert "7 of 7 golden requests get another answer than in training, beyond 1e-06: request 0 answered" in said
        assert len(history(shop)) == 1
    finally:
        altered(shop, by=-0.5)


def history(shop: Here) -> Any:
    return shop.json("endpoint", "show", "busy")["history"]


@pytest.mark.slow
def test_what_answers_otherwise_is_not_switched_to_and_who_must_says_why(shop: Here) -> None:
    altered(shop, by=0.5)
    hub = Hub(shop.folder)
    try:
        before = history(shop)
        assert hub.predict("busy", BODY)[0] == 200
        said = shop.complaint("endpoint", "deploy", "busy", "--set", "many=30", code=1)
        assert "7 of 7 golden requests get another answer" in said and "--without-golden --reason" in said
        assert history(shop) == before
        status, answer = hub.predict("busy", BODY)
        (one,) = json.loads(answer)["predictions"]
        assert (status, one["bundle"], one["rule"]) == (200, before[0]["bundle"], "Dutch")
        (last, *_) = hub.json("/models/busy/1")["golden_checks"]
        assert (last["different"], last["actor"]) == (7, "owner")

        assert "without a reason" in shop.complaint(
            "endpoint", "deploy", "busy", "--set", "many=30", "--without-golden", code=2
        )
        shop("endpoint", "deploy", "busy", "--set", "many=30", "--without-golden", "--reason", "storm")
        newest = history(shop)[0]
        assert (newest["golden"], newest["reason"]) == ("golden requests were not asked", "storm")
        assert "golden requests were not asked: storm" in shop("endpoint", "show", "busy")
        page = hub.ask("GET", "/endpoints/busy", accept="text/html")[1].decode()
        assert "golden requests were not asked" in page

        assert shop.json("rollback", "busy")["bundle"] == before[0]["bundle"]  # it has served, and is asked nothing
        assert json.loads(hub.predict("busy", BODY)[1])["predictions"][0]["bundle"] == before[0]["bundle"]
    finally:
        assert hub.stop() == 0
        altered(shop, by=-0.5)


@pytest.mark.slow
def test_an_endpoint_whose_first_deploy_is_refused_is_listened_for_no_more(shop: Here) -> None:
    altered(shop, by=0.5)
    hub = Hub(shop.folder)
    try:
        said = shop.complaint("endpoint", "deploy", "new", "--model", "busy", code=1)
        assert "7 of 7 golden requests get another answer" in said
        port = port_of(shop.folder, "new")
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
        altered(shop, by=-0.5)
        shop("endpoint", "deploy", "new", "--model", "busy")
        assert hub.port_of("new") == port
        hub.direct = port
        assert hub.predict("new", BODY)[0] == 200
    finally:
        assert hub.stop() == 0


def test_a_hub_asks_the_process_that_it_is_about_to_switch_to(shop: Here) -> None:
    query = "SELECT count(*) AS n FROM prediction"
    ((before,),) = shop.json("sql", query)["rows"]
    hub = Hub(shop.folder)
    try:
        assert "7 of 7 golden requests got the same answer" in shop("endpoint", "deploy", "busy", "--set", "many=40")
        assert hub.predict("busy", BODY)[0] == 200
        assert shop.json("sql", query)["rows"] == [[before + 1]]  # a client asked once; golden requests leave none
    finally:
        assert hub.stop() == 0
