"""The value page: money by slice with its uncertainty, and the cap on what a day may put at risk."""

import json
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from sampan.base.clock import iso
from sampan.hub.costs import CostLine, Costs, subtract
from sampan.hub.valued import Slice
from tests.browser.shop import Shop
from tests.hub.conftest import sampan

RULES = """
from sampan import Action, Cap, decision

@decision(model="stay", currency="GBP", entity="visitor", default="wait", cap=Cap(200.0, risks={"greet": "basket"}),
          values={"greet": {True: 2.0, False: -1.2}, "wait": {True: 0.0, False: 0.0}})
def greet(prediction, context, likely: float = 0.5):
    return Action("greet", rule="likely") if prediction >= likely else Action("wait", rule="not likely")
"""
PRICES = "[prices]\ncurrency = 'GBP'\nthis_machine_per_hour = 3600.0\nendpoint_per_hour = 36000.0\n"


class Till:
    """A hub with 120 decisions about 60 visitors; greeting stops being allowed when baskets of 200 GBP are at risk."""

    def __init__(self, pattern: Path, folder: Path) -> None:
        self.shop = Shop.copy(pattern, folder)
        (folder / "decisions.py").write_text(RULES)
        (folder / "sampan.toml").write_text(PRICES)
        self.shop.post("/v1/endpoints", {"name": "stay"})
        chance = random.Random(3)
        self.before = 0
        self.rows: list[tuple[str, str, str, bool]] = []
        for number in range(120):
            country = ("France", 'Po"rtu}g{al')[number % 2]
            record = {"visitor": f"v{number % 60}", "seconds": float(number), "basket": 4.0, "country": country}
            body = json.dumps({"records": [record], "ids": [f"p{number}"]}).encode()
            status, said = self.shop.hub.predict("stay", body)
            assert status == 200, said
            action = str(json.loads(said)["predictions"][0]["action"])
            outcome = chance.random() < 0.6
            self.rows.append((action, country, record["visitor"], outcome))
            event = {"id": f"o{number}", "type": "outcome", "source": "web", "time": "2026-02-01T12:00:00Z"}
            if number == 60:
                self.before = time.time_ns() // 1000
                time.sleep(0.01)
            self.shop.hub.send({**event, "data": {"prediction_id": f"p{number}", "value": outcome}})

    def value(self, **query: Any) -> Any:
        return self.shop.hub.json(f"/endpoints/stay/value?{urlencode(query)}")


@pytest.fixture(scope="module")
def till(after_a_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Till]:
    made = Till(after_a_run, tmp_path_factory.mktemp("till") / "shop")
    yield made
    assert made.shop.hub.stop() == 0


def worth(action: str, outcome: bool) -> float:
    return (2.0 if outcome else -1.2) if action == "greet" else 0.0


def test_a_slice_earns_what_its_decisions_earned_with_an_error_by_entity(till: Till) -> None:
    found = till.value(by="country")
    assert list(found["fields"]) == ["action", "rule", "version", "month", "seconds", "basket", "country"]
    assert [one["name"] for one in found["slices"]] == ["France", 'Po"rtu}g{al']
    for one in [*found["slices"], found["whole"]]:
        rows = [row for row in till.rows if one["name"] in ("all", row[1])]
        money = [worth(action, outcome) for action, _, _, outcome in rows]
        mean = sum(money) / len(money)
        sums: dict[str, float] = defaultdict(float)
        for (_, _, visitor, _), amount in zip(rows, money, strict=True):
            sums[visitor] += amount - mean
        groups = len(sums)
        error = math.sqrt(sum(s * s for s in sums.values()) * groups / (groups - 1)) / len(rows)
        assert one["value"] == pytest.approx(mean * 1000) and one["entities"] == groups
        assert one["margin"] == pytest.approx(1.96 * error * 1000)
        assert one["total"] == pytest.approx(sum(money))


def test_the_endpoints_page_gives_the_same_figure(till: Till) -> None:
    whole, decided = till.value()["whole"], till.shop.hub.json("/endpoints/stay")["decided"]
    assert decided["value"] == pytest.approx(whole["value"])
    assert decided["margin"] == pytest.approx(whole["margin"]) and whole["margin"] > 0


def test_slices_are_of_the_kind_that_a_field_is(till: Till) -> None:
    assert {one["name"] for one in till.value()["slices"]} == {"greet", "wait"}
    numbers = till.value(by="seconds")["slices"]
    assert [one["name"] for one in numbers] == ["up to 29.75", "29.75 to 59.5", "59.5 to 89.25", "above 89.25"]
    assert [one["decisions"] for one in numbers] == [30] * 4
    assert [one["name"] for one in till.value(by="version")["slices"]] == ["stay@1"]
    assert [one["margin"] for one in till.value(by="month")["slices"]] != [None]
    response, said = till.shop.hub.ask("GET", "/endpoints/stay/value?by=shoe%27size", accept="application/json")
    assert response.status == 404 and b"no decision was made from such a field" in said
    page = till.shop.hub.ask("GET", "/endpoints/stay/value?by=country", accept="text/html")[1].decode()
    assert "Po&#34;rtu}g{al" in page and "per 1,000" in page


@pytest.mark.slow
def test_the_cap_holds_and_says_so(till: Till) -> None:
    found = till.value()
    cap, held = found["cap"], sum(1 for row in till.rows if row[0] == "wait")
    greeted = sum(4.0 for row in till.rows if row[0] == "greet")

    assert cap["amount"] == 200.0 and cap["today"] == greeted == 200.0
    assert 0 < cap["held"] <= held and found["days"][0]["held"] == cap["held"]
    end = time.monotonic() + 30
    while not (open_ := [a for a in till.shop.hub.json("/alerts")["open"] if a["alert"]["kind"] == "exposure"]):
        assert time.monotonic() < end
        time.sleep(0.2)
    assert "reached its cap of 200.00 GBP a day" in open_[0]["alert"]["title"]
    waiting = till.shop.hub.json("/reviews")["waiting"]
    assert waiting and waiting[0]["case"]["rule"] == "cap: 200 GBP a day"
    page = till.shop.hub.ask("GET", "/endpoints/stay/value", accept="text/html")[1].decode()
    assert "The cap of 200.00 GBP a day is reached." in page


def test_the_value_is_seen_as_it_was_known(till: Till) -> None:
    then = till.value(**{"as-of": iso(till.before)})
    assert then["whole"]["known"] == 60 < till.value()["whole"]["known"]


def test_a_command_says_the_same(till: Till) -> None:
    done = sampan(till.shop.folder, "endpoint", "value", "stay", "--by", "country")
    assert done.returncode == 0, done.stderr
    assert "France" in done.stdout and "200.00 of 200.00 GBP a day" in done.stdout
    assert "after costs" in done.stdout and "making stay@1: " in done.stdout and "serving: " in done.stdout


def test_what_the_model_costs_is_subtracted(till: Till) -> None:
    found = till.value(by="country")
    making, serving = found["costs"]["lines"]
    run = till.shop.hub.json(f"/runs/{making['run']}")
    seconds = (run["finished"] - run["started"]) / 1e6
    assert (making["version"], making["currency"]) == ("stay@1", "GBP")
    assert making["amount"] == pytest.approx(seconds), "3,600 an hour"
    assert making["how"].endswith("s at today's price of this machine"), "nothing had a price when it was made"
    assert serving["amount"] > 0 and serving["how"].endswith("hours at 36,000")
    whole, slices = found["whole"], found["slices"]
    assert whole["cost"] == pytest.approx((making["amount"] + serving["amount"]) / 120 * 1000)
    assert sum(one["cost"] * one["decisions"] for one in slices) == pytest.approx(whole["cost"] * 120)
    assert all(one["net"] == pytest.approx(one["value"] - one["cost"]) for one in [whole, *slices])
    (version,) = till.value(by="version")["slices"]
    assert version["cost"] == pytest.approx(whole["cost"], rel=0.2)
    page = till.shop.hub.ask("GET", "/endpoints/stay/value?by=country", accept="text/html")[1].decode()
    assert "What the model costs" in page and "after what the model costs" in page


def test_what_a_version_cost_is_its_own_and_serving_is_shared() -> None:
    def line(version: str, amount: float, currency: str = "GBP") -> CostLine:
        return CostLine(version=version, how="", amount=amount, currency=currency)

    def part(name: str, decisions: int) -> Slice:
        return Slice(name, decisions, decisions, 40, 0.0, 5.0, 1.0, None)

    lines = [line("stay@1", 6.0), line("stay@2", 2.0), line("", 4.0), line("stay@3", 100.0, "EUR")]
    costs = Costs(currency="GBP", lines=lines, unknown=[])
    for by, expected in (("version", [(6 + 1) / 100, (2 + 3) / 300]), ("country", [12 / 400] * 2)):
        whole, slices = part("all", 400), [part("stay@1", 100), part("stay@2", 300)]
        subtract(costs, by, whole, slices)
        assert whole.cost == pytest.approx(12 / 400 * 1000) and whole.net == pytest.approx(5.0 - 30.0)
        assert [one.cost for one in slices] == pytest.approx([1000 * one for one in expected])
    whole = part("all", 400)
    subtract(Costs(currency="GBP", lines=lines[3:], unknown=["stay@1"]), "action", whole, [])
    assert whole.cost is None is whole.net, "what is in another currency cannot be subtracted"


def test_a_prediction_that_the_cap_held_back_is_recomputed_as_the_rules_had_said(till: Till) -> None:
    id = till.shop.hub.json("/reviews")["waiting"][0]["case"]["id"]
    found = json.loads(till.shop.post(f"/v1/predictions/{id}/recompute", {}))
    assert found["differs"] == [] and found["then"]["action"] == "greet"


def test_outcomes_come_by_entity_and_time_too(till: Till) -> None:
    before = till.value()["whole"]
    for id in ("late", "later"):
        record = {"visitor": "v-late", "seconds": 60.0, "basket": 4.0}
        assert till.shop.hub.predict("stay", json.dumps({"records": [record], "ids": [id]}).encode())[0] == 200
    asked = till.shop.hub.json("/predictions/later")
    assert asked["outcome"] is None
    told = till.shop.folder / "told.csv"
    rows = [f"stay,v-late,true,{iso(asked['time'])}", "stay,v-late,false,2001-01-01T00:00:00Z", "stay,nobody,true,"]
    told.write_text("\n".join(["endpoint,entity,value,time", *rows]) + iso(asked["time"]) + "\n")
    done = sampan(till.shop.folder, "log", "load", str(told), "--type", "outcome")
    assert "3 sent: 3 accepted" in done.stdout, done.stdout + done.stderr

    assert till.shop.hub.json("/predictions/later")["outcome"] is True
    assert till.shop.hub.json("/predictions/late")["outcome"] is None
    listed = till.shop.hub.json("/predictions?entity=v-late")["predictions"]
    assert {one["id"]: one["outcome"] for one in listed} == {"late": None, "later": True}
    found = till.value()
    assert (found["whole"]["known"], found["unmatched"]) == (before["known"] + 1, 2)
    page = till.shop.hub.ask("GET", "/endpoints/stay/value", accept="text/html")[1].decode()
    assert f"{before['known'] + 1} of {before['decisions'] + 2} outcomes known; 2 match no prediction" in page
    page = till.shop.hub.ask("GET", "/endpoints/stay", accept="text/html")[1].decode()
    assert "2 match no prediction of their entity at or before their time" in page
    event = till.shop.hub.json("/log?type=outcome")["events"][0]
    page = till.shop.hub.ask("GET", f"/log/{event['position']}", accept="text/html")[1].decode()
    assert "Predictions of stay about " in page
    wrong = {"id": "both", "type": "outcome", "source": "web", "time": "2026-02-01T12:00:00Z"}
    till.shop.hub.send({**wrong, "data": {"prediction_id": "late", "endpoint": "stay", "entity": "x", "value": True}})
    held = till.shop.hub.json("/quarantine")
    assert "names its prediction by prediction_id and by endpoint" in json.dumps(held)


@pytest.mark.slow
def test_outcomes_that_no_action_knows_are_said(till: Till) -> None:
    record = {"visitor": "v-odd", "seconds": 60.0, "basket": 4.0}
    assert till.shop.hub.predict("stay", json.dumps({"records": [record], "ids": ["odd"]}).encode())[0] == 200
    event = {"id": "o-odd", "type": "outcome", "source": "web", "time": "2026-02-01T12:00:00Z"}
    till.shop.hub.send({**event, "data": {"prediction_id": "odd", "value": "<maybe>"}})
    says = "1 outcome has a value that no action knows: "
    assert till.value()["unnamed"] == says + "<maybe>"
    for path in ("/endpoints/stay", "/endpoints/stay/value"):
        page = till.shop.hub.ask("GET", path, accept="text/html")[1].decode()
        assert f"{says}&lt;maybe&gt;" in page, path
    for command in ("show", "value"):
        assert f"{says}<maybe>" in sampan(till.shop.folder, "endpoint", command, "stay").stdout
