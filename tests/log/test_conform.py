"""One shape per meaning: a source with another unit, spelling or clock is told; other goods and people are not."""

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sampan.examples
from sampan.base.errors import NotFound, Usage
from sampan.log.conform import Conformity, apart, conform, due, record, recorded
from sampan.log.habits import Column, judge
from sampan.log.scales import difference, numbers
from sampan.store.database import Database
from tests.log.conftest import Shop

SALES = """
from datetime import datetime
from typing import Annotated, Any
from sampan import Event, Field

class Sale(Event, version=1, owner="sales@shop"):
    item: str
    price: Annotated[float, Field(unit="GBP")]
    till: str = "north"
    buyer: Annotated[str | None, Field(subject=True)] = None
    mail: Annotated[str | None, Field(personal=True)] = None
    note: str | None = None
    code: int | str | None = None
    temp: Annotated[float | None, Field(unit="°C")] = None
    paid_at: datetime | None = None
    balance: float | None = None
"""
ITEMS = ["Tea", "Coffee", "Jam", "Oat cake", "Rye bread", "Butter", "Milk", "Salt", "Soap", "Candle"]
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop", SALES)
    (tmp_path / "shop" / "sampan.toml").write_text("")
    yield made
    made.close()


def sales(
    source: str, count: int, change: Callable[[dict[str, Any], int], Any] = lambda data, n: None
) -> Iterator[Any]:
    """Sales as a till sends them, the same ones whenever they are made, each of them changed."""
    dice = random.Random(source)
    for number in range(count):
        when = START + timedelta(minutes=number)
        data = {
            "item": dice.choice(ITEMS),
            "price": round(dice.lognormvariate(1.0, 0.9), 2) + 0.01,
            "buyer": f"{dice.randrange(10**6):06d}",
            "note": dice.choice(["gift", "loyal", None]),
            "temp": round(dice.gauss(18, 4), 1),
            "paid_at": (when + timedelta(seconds=dice.randrange(90))).isoformat(),
            "balance": round(dice.uniform(1, 90), 1),
        }
        event = {"id": f"{source}{number}", "type": "sale", "source": source, "time": when.isoformat(), "data": data}
        if change(data, number) is not False:
            yield event


def compared(shop: Shop, *sent: Iterator[Any], **options: Any) -> Conformity:
    for events in sent:
        for verdict in shop.send(*events):
            assert verdict.verdict == "accepted", verdict
    return conform(shop.log(), "sale", **options)


def only(found: Conformity) -> tuple[str, tuple[str, ...], str]:
    (one,) = found.findings
    assert found.verdict == "differs"
    return one.field, one.sources, one.kind


def setting(**fields: Any) -> Callable[[dict[str, Any], int], None]:
    return lambda data, n: data.update(fields)


def test_sources_that_mean_the_same_conform(shop: Shop) -> None:
    found = compared(shop, sales("north", 400), sales("south", 250))
    assert (found.verdict, found.findings) == ("conforms", ())
    assert [(one.source, one.events, one.enough) for one in found.sources] == [
        ("north", 400, True),
        ("south", 250, True),
    ]
    assert (found.position, found.events) == ("intake:650", 650)


def test_pence_instead_of_pounds_are_named_after_200_events(shop: Shop) -> None:
    found = compared(
        shop, sales("north", 3_000), sales("south", 200, lambda data, n: data.update(price=round(data["price"] * 100)))
    )
    assert only(found) == ("price", ("south",), "scale")
    assert "pence instead of GBP (x100)" in found.findings[0].text
    event = shop.log().at(found.findings[0].example)
    assert event.source == "south"


def test_a_source_that_turns_to_pence_differs_from_what_it_sent_before(shop: Shop) -> None:
    def late(data: dict[str, Any], number: int) -> None:
        if number >= 2_000:
            data["price"] = round(data["price"] * 100)

    found = compared(shop, sales("north", 2_200, late))
    assert only(found) == ("price", ("north",), "scale")
    assert "newest 200 events" in found.findings[0].text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "field", "kind", "said"),
    [
        (lambda d, n: d.update(price=-d["price"]), "price", "sign", "sign looks turned"),
        (
            lambda d, n: d.update(temp=round(d["temp"] * 1.8 + 32, 1)),
            "temp",
            "shift",
            "degrees Fahrenheit instead of °C",
        ),
        (lambda d, n: d.update(balance=d["balance"] * 1000), "balance", "scale", "another unit (x1000)"),
        (lambda d, n: d.pop("note"), "note", "presence", "leaves it out"),
        (lambda d, n: d.update(item=d["item"].upper()), "item", "spelling", "'TEA' for 'Tea'"),
        (lambda d, n: d.update(item=f" {d['item']}"), "item", "spelling", "10 values"),
        (lambda d, n: d.update(note=d["note"] or "N/A"), "note", "placeholder", "'N/A'"),
        (lambda d, n: d.update(buyer=f"C-{n:04d}-GB"), "buyer", "form", "others write as in"),
        (
            lambda d, n: d.update(paid_at=(datetime.fromisoformat(d["paid_at"]) + timedelta(hours=2)).isoformat()),
            "paid_at",
            "zone",
            "2 h ahead",
        ),
    ],
)
def test_what_one_source_does_otherwise_is_told(shop: Shop, change: Any, field: str, kind: str, said: str) -> None:
    def presence(data: dict[str, Any], number: int) -> None:
        if kind == "presence":
            data["note"] = data["note"] or "plain"

    def changed(data: dict[str, Any], number: int) -> None:
        presence(data, number)
        change(data, number)

    found = compared(shop, sales("north", 500, presence), sales("west", 400, presence), sales("south", 300, changed))
    assert only(found) == (field, ("south",), kind)
    assert said in found.findings[0].text


def test_another_json_type_is_told(shop: Shop) -> None:
    found = compared(
        shop,
        sales("north", 300, lambda d, n: d.update(code=n)),
        sales("south", 200, lambda d, n: d.update(code=f"{n}")),
    )
    assert only(found) == ("code", ("south",), "type")


def test_a_clock_in_local_time_is_told_where_events_come_at_once(shop: Shop) -> None:
    writer = shop.writer()
    for pair in zip(sales("north", 250), sales("south", 250), strict=True):
        for event, ahead in zip(pair, (0, 60), strict=True):
            shop.clock.advance(timedelta(seconds=20))
            now = datetime.fromtimestamp(shop.clock.micros() / 1e6, UTC)
            event["time"] = (now + timedelta(minutes=ahead)).isoformat()
            del event["data"]["paid_at"]
            writer.append(writer.checker.batch([json.dumps(event).encode()]), "test")
    found = conform(shop.log(), "sale")
    assert only(found) == ("time", ("south",), "zone")
    assert "1 h ahead" in found.findings[0].text


def test_what_a_source_sends_is_its_own_business(shop: Shop) -> None:
    """Its own till, its own goods at three times the price, its own numbers, guests: no finding."""

    def other(data: dict[str, Any], number: int) -> None:
        data |= {"till": "southern", "price": round(data["price"] * 3, 2), "item": f"{data['item']} extra"}
        if number % 3:
            del data["buyer"]

    found = compared(shop, sales("north", 600, setting(till="northern")), sales("south", 600, other))
    assert [one.text for one in found.findings] == []


def test_few_events_are_not_enough_to_compare_neither_good_nor_bad(shop: Shop) -> None:
    found = compared(shop, sales("north", 500), sales("south", 40, setting(price=1e6)))
    assert (found.verdict, found.findings) == ("not enough to compare", ())
    assert [one.enough for one in found.sources] == [True, False]
    assert conform(shop.log(), "sale", since=shop.clock.micros() + 1).sources == ()


def test_a_field_without_contract_is_a_note(shop: Shop) -> None:
    found = compared(shop, sales("north", 200), sales("south", 200, setting(trace="x")))
    assert found.verdict == "conforms"
    assert [(one.field, one.kind, one.severity) for one in found.findings] == [("trace", "extra", "note")]


@pytest.mark.slow
def test_personal_values_are_not_looked_at(shop: Shop) -> None:
    found = compared(shop, sales("north", 200, setting(mail="a@x")), sales("south", 200, setting(mail="N/A")))
    assert found.findings == ()
    found = compared(shop, sales("west", 200))
    assert [(one.field, one.sources) for one in found.findings] == [("mail", ("west",))]


def test_producers_can_be_compared_and_nothing_else(shop: Shop) -> None:
    assert [one.source for one in compared(shop, sales("north", 200), by="producer").sources] == ["test"]
    with pytest.raises(Usage):
        conform(shop.log(), "sale", by="price")
    with pytest.raises(NotFound):
        conform(shop.log(), "none")


@pytest.mark.slow
def test_the_same_position_gives_the_same_answer_whether_sealed_or_not(shop: Shop) -> None:
    found = compared(shop, sales("north", 900), sales("south", 300, lambda d, n: d.update(price=d["price"] * 100)))
    writer = shop.writer()
    writer.seal()
    again = conform(shop.log(), "sale")
    assert (again.findings, again.sources) == (found.findings, found.sources)
    shop.close()
    (other,) = apart(shop.root, ["sale"], 7)
    assert (other.findings, other.checked) == (found.findings, 7)


def test_a_rare_type_is_not_looked_for_through_the_whole_log(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    compared(shop, sales("north", 300), sales("south", 200))
    monkeypatch.setattr("sampan.log.conform.REACH", 250)
    assert [(one.source, one.events) for one in conform(shop.log(), "sale").sources] == [("south", 200), ("north", 50)]


def test_results_are_kept_and_looked_at_again_when_enough_came(shop: Shop, tmp_path: Path) -> None:
    db = Database(tmp_path / "records.db", writable=True)
    log = shop.log()
    assert due(log, recorded(db), ["sale"]) == []
    found = compared(shop, sales("north", 300), sales("south", 200))
    assert due(shop.log(), recorded(db), ["sale"]) == ["sale"]
    record(db, found)
    record(db, found)
    assert recorded(db) == {"sale": found}
    assert due(shop.log(), recorded(db), ["sale"]) == []
    shop.send(*sales("west", 60))
    assert due(shop.log(), recorded(db), ["sale"]) == ["sale"]
    db.close()


# -- real order lines: the United Kingdom against all other countries, and each country against the others


@pytest.fixture(scope="module")
def retail() -> Any:
    path = Path(next(iter(sampan.examples.__path__))) / "retail" / "data" / "online_retail.parquet"
    table = pq.read_table(path, columns=["Country", "UnitPrice", "Quantity", "StockCode", "Description", "InvoiceNo"])
    return table.to_pandas().query("UnitPrice >= 0 and Quantity > 0")


@pytest.mark.slow
def test_real_orders_of_many_countries_show_no_difference(retail: Any) -> None:
    groups = {"uk": retail[retail.Country == "United Kingdom"], "rest": retail[retail.Country != "United Kingdom"]}
    groups |= dict(iter(retail.groupby("Country")))
    for field, unit in (("UnitPrice", "GBP"), ("Quantity", "pieces")):
        everything = numbers(retail[field].to_numpy()[::20])
        assert everything is not None
        for name, group in groups.items():
            part = numbers(group[field].to_numpy()[-20_000:])
            assert part is None or difference(part, everything, unit) is None, (field, name)
    for field in ("StockCode", "Description", "InvoiceNo", "Country"):
        columns = {name: Column(list(group[field])[-5_000:]) for name, group in groups.items() if len(group) >= 100}
        assert judge(columns["uk"], columns["rest"]) is None
        assert judge(columns["rest"], columns["uk"]) is None


def test_pence_are_found_in_any_200_real_lines_and_pounds_raise_no_alarm(retail: Any) -> None:
    prices = retail.UnitPrice.to_numpy(float)
    alarms = missed = 0
    for at in range(0, len(prices) - 5_000, 2_600):
        newest, before = prices[at + 4_800 : at + 5_000], numbers(prices[at : at + 4_800])
        assert before is not None
        sound, pence = numbers(newest), numbers(newest * 100)
        assert sound is not None
        assert pence is not None
        alarms += difference(sound, before, "GBP") is not None
        seen = difference(pence, before, "GBP")
        missed += seen is None or "pence" not in seen.text
    assert (alarms, missed) == (0, 0)


@given(
    st.sampled_from([("GBP", 100, "pence"), ("kg", 1000, "grams"), ("s", 1000, "milliseconds"), ("h", 60, "minutes")]),
    st.integers(0, 2**32 - 1),
    st.floats(0.2, 1.5),
    st.floats(0.4, 2.5),
    st.booleans(),
)
def test_a_factor_is_found_whatever_the_goods(
    unit: tuple[str, int, str], seed: int, width: float, mix: float, parts: bool
) -> None:
    """Prices of any spread, the other source's goods up to 2.5 times dearer or cheaper."""
    name, factor, part = unit
    dice = np.random.default_rng(seed)
    here = numbers(dice.lognormal(1, width, 400) * mix * (factor if parts else 1))
    there = numbers(dice.lognormal(1, width, 2_000))
    assert here is not None
    assert there is not None
    found = difference(here, there, name)
    if parts:
        assert found is not None
        assert part in found.text
    else:
        assert found is None
