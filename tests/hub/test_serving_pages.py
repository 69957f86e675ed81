"""What an endpoint decides and earns, as its page tells it, asked of a real hub that serves a real model."""

import json
import re
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from re import findall
from typing import Any

import pytest

from sampan.hub.decided import Decided, RuleLine, Stretch
from sampan.hub.views.endpoint import _charts
from tests.browser.shop import PAYLOAD, VISITOR, Shop
from tests.hub.test_pages import read

pytestmark = pytest.mark.slow

KNOWN = 4  # of the ten decisions about regulars


@pytest.fixture(scope="module")
def shop(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One endpoint with thirteen decisions over three days, five of which have come out, and a second bundle."""
    made = Shop.copy(filled, tmp_path_factory.mktemp("serving") / "shop")
    for number in range(10):
        asked = {
            "records": [{"visitor": f"r{number}", "seconds": 39.0 if number % 2 else 1.0}],
            "ids": [f"d-{number}"],
            "time": f"2026-0{number % 3 + 1}-10T10:00:00Z",
        }
        assert made.hub.ask("POST", "/predict/stay", json.dumps(asked).encode())[0].status == 200
    for number in range(KNOWN):
        outcome = {"prediction_id": f"d-{number}", "value": number != 3}
        made.hub.send(
            {"id": f"o{number}", "type": "outcome", "source": "web", "time": "2026-05-01T00:00:00Z", "data": outcome}
        )
    made.post("/v1/endpoints", {"name": "stay", "thresholds": {"likely": 0.9}, "reason": "too many greetings"})
    yield made
    assert made.hub.stop() == 0


@pytest.fixture(scope="module")
def page(shop: Shop) -> Any:
    return shop.hub.json("/endpoints/stay")


def test_decisions_are_counted_by_action_and_rule(page: Any) -> None:
    assert page["decided"]["decisions"] == 17
    rules = {(line["action"], line["rule"]): line["count"] for line in page["decided"]["rules"]}
    unsure = ("wait", "unsure " + PAYLOAD)
    assert rules == {("greet", "likely " + PAYLOAD): 9, ("wait", "not likely"): 6, unsure: 2}
    assert all(sum(line["over"]) == line["count"] for line in page["decided"]["rules"])


def test_money_is_that_of_known_outcomes_alone(page: Any) -> None:
    """d-1 was greeted and stayed (2.00), d-3 was greeted and left (−1.20), d-0 and d-2 were not greeted (0)."""
    assert page["decided"]["known"] == KNOWN + 1  # one outcome is a text that no value is named for
    assert page["decided"]["value"] == pytest.approx((2.0 - 1.2) / KNOWN * 1000)
    assert page["decided"]["margin"] is None, "that takes 30 entities"
    greeted = next(line for line in page["decided"]["rules"] if line["action"] == "greet")
    assert greeted["value"] == pytest.approx((2.0 - 1.2) / 2 * 1000)


def test_charts_tell_the_same_as_the_figures(page: Any) -> None:
    charts = {chart["title"]: chart for chart in page["charts"]}
    assert set(charts) == {"Decisions by action", "Value per 1,000 decisions", "How long an answer takes"}
    assert sum(sum(series["y"]) for series in charts["Decisions by action"]["series"]) == 17
    assert "17 decisions" in charts["Decisions by action"]["says"]


def test_charts_of_a_model_without_rules_speak_of_predictions() -> None:
    stretches = [Stretch(f"2026-01-0{day}", 3, 0, {"": 3}, None, None, None) for day in (1, 2)]
    figures = Decided(decisions=6, rules=[RuleLine("", "", 6, 1.0, 0, None, [3, 3])], stretches=stretches)
    (chart,) = _charts(figures, [], "")
    assert (chart.title, [one.name for one in chart.series]) == ("Predictions", ["predictions"])
    assert chart.says.startswith("6 predictions from")


def test_the_history_says_what_changed_who_and_why(page: Any) -> None:
    newest, first = page["served"]
    assert newest["changed"] == ["likely 0.5 → 0.9"]
    assert (newest["reason"], newest["actor"]) == ("too many greetings", "owner")
    assert newest["until"] is None
    assert first["changed"] == ["first"]
    assert first["until"] == newest["created"]
    assert page["endpoint"]["thresholds"] == {"likely": 0.9}
    assert "def greet(prediction, context" in page["rules"]


def test_the_page_shows_it_and_what_was_sent_stays_text(shop: Shop) -> None:
    found = read(shop.hub, "/endpoints/stay")
    text = " ".join(found.text)
    assert "Rules that fired" in text
    assert "likely 0.5 → 0.9" in text
    assert "/predictions/d-9" in found.links
    body = shop.hub.ask("GET", "/endpoints/stay", accept="text/html")[1].decode()
    assert len(findall('data-chart="', body)) == 3
    for figure in findall('data-chart="([^"]+)"', body):
        assert "<script" not in unescape(figure)


def test_the_list_leads_to_the_page_with_its_figures(shop: Shop) -> None:
    (line,) = shop.hub.json("/endpoints")["endpoints"]
    assert line["decided"]["decisions"] == 17
    assert "/endpoints/stay" in read(shop.hub, "/endpoints").links


def test_a_new_decision_is_on_the_page(shop: Shop) -> None:
    before = shop.hub.json("/endpoints/stay")
    shop.ask(VISITOR, "fresh", 39.0)
    until = time.monotonic() + 10
    while (after := shop.hub.json("/endpoints/stay"))["decided"] == before["decided"] and time.monotonic() < until:
        time.sleep(0.05)
    assert after["newest"][0]["id"] == "fresh"
    assert after["decided"]["decisions"] == before["decided"]["decisions"] + 1


def test_predictions_can_be_asked_for_by_endpoint(shop: Shop) -> None:
    assert len(shop.hub.json("/predictions?endpoint=stay")["predictions"]) >= 12
    assert shop.hub.ask("GET", "/predictions?endpoint=none")[0].status == 404


def test_an_endpoint_that_is_not_there_is_said_with_those_that_are(shop: Shop) -> None:
    response, body = shop.hub.ask("GET", "/endpoints/none")
    assert response.status == 404
    assert json.loads(body)["error"]["advice"] == "Endpoints: stay."


def test_a_prediction_says_what_it_earned_and_by_which_thresholds(shop: Shop) -> None:
    page = shop.hub.json("/predictions/d-3")
    assert (page["outcome"], page["earned"]) == (False, -1.2)
    assert page["thresholds"] == {"likely": 0.5}
    found = read(shop.hub, "/predictions/d-3")
    assert "−1.20 GBP" in " ".join(found.text)
    assert {"/endpoints/stay", "/log?subject=r3", "/lineage/d-3"} <= set(found.links)


def test_the_way_back_is_told_in_sentences(shop: Shop) -> None:
    text = " ".join(read(shop.hub, "/lineage/d-1").text)
    assert "stay was asked about r1" in text
    rows = shop.hub.json("/tables/reads")["rows"]
    assert f"stay@1 learned from {rows} rows of reads." in text
    assert re.search(r"Everything began as \d+ events of the kind visit", text)


def test_a_version_says_what_it_was_fitted_on_and_where_it_serves(shop: Shop) -> None:
    page, rows = shop.hub.json("/models/stay/1"), shop.hub.json("/tables/reads")["rows"]
    assert [one["name"] for one in page["sources"]] == ["reads"]
    assert [(one["endpoint"], one["until"] is None) for one in page["services"]] == [("stay", True), ("stay", False)]
    assert [(one["name"], one["value"], one["before"]) for one in page["measures"]] == [("rows", rows, None)]
    assert "def stay(reads" in page["text"]["text"]
    (model,) = [one for one in shop.hub.json("/models")["models"] if one["name"] == "stay"]
    assert model["endpoints"] == ["stay"]
    assert model["about"].startswith("Will the reader stay?")
