"""Events as SQL sees them."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sampan.base.errors import BadContract
from sampan.log import project
from sampan.log.keys import SubjectKeys
from sampan.log.project import open_source
from tests.log.conftest import SHOP, Shop, line


def table(shop: Shop, type: str = "order_line") -> Any:
    log = shop.log()
    paths, rest = open_source(log.source(type, log.position()))
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    parts = [f"SELECT * FROM read_parquet('{path}')" for path in paths]
    if rest is not None:
        connection.register("rest", rest)
        parts.append("SELECT * FROM rest")
    found = connection.execute(" UNION ALL ".join(parts) + " ORDER BY _id").to_arrow_table()
    connection.close()
    return found


@pytest.mark.parametrize("sealed", [False, True])
def test_fields_and_system_columns_stand_side_by_side(shop: Shop, sealed: bool) -> None:
    old = line("old") | {"version": 1, "data": {"invoice": "1", "pieces": 4}}
    shop.send(line("a", price=2.5, tags=["x"]), old, line("imp") | {"known_at": "2011-06-01T00:00:00+02:00"})
    if sealed:
        writer = shop.writer()
        writer.seal()
        writer.close()
    found = table(shop)
    assert found.schema.names == [
        *("invoice", "quantity", "price", "customer", "country", "tags"),
        *("_id", "_time", "_received", "_known_at", "_source", "_version", "_position"),
    ]
    rows = {row["_id"]: row for row in found.to_pylist()}
    assert (rows["a"]["price"], rows["a"]["tags"], rows["a"]["country"]) == (2.5, ["x"], "UK")
    assert (rows["old"]["quantity"], rows["old"]["_version"]) == (4, 1)
    assert rows["a"]["_time"] == datetime(2011, 4, 1, 8, 26, tzinfo=UTC)
    assert rows["a"]["_known_at"] == rows["a"]["_received"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert rows["imp"]["_known_at"] == datetime(2011, 5, 31, 22, tzinfo=UTC)
    assert rows["a"]["_position"] == "intake:1"
    event = shop.log().find("imp")
    assert event is not None and event.imported


def test_a_type_without_events_has_its_columns(shop: Shop) -> None:
    assert table(shop, "outcome").num_rows == 0
    assert "prediction_id" in table(shop, "outcome").schema.names


@pytest.mark.slow
def test_a_newer_contract_shows_old_events_in_its_own_columns(shop: Shop) -> None:
    shop.send(line("a"))
    writer = shop.writer()
    writer.seal()
    writer.close()
    assert table(shop).num_rows == 1
    newer = SHOP.replace("version=2", "version=3").replace("price:", "amount:")
    newer += "\n@upcast(OrderLine, since=2)\ndef _(data):\n    return data | {'amount': data.get('price', 0.0) + 1}\n"
    (shop.root / "contracts.py").write_text(newer)
    assert table(shop)["amount"].to_pylist() == [1.0]
    (shop.root / "contracts.py").write_text(newer.rpartition("\n@upcast")[0])
    with pytest.raises(BadContract, match="order_line@2"):
        table(shop)


@pytest.mark.slow
def test_personal_values_are_unreadable_on_disk_and_gone_with_their_key(shop: Shop) -> None:
    signup = {"id": "s1", "type": "signup", "source": "web", "time": "2026-01-01T00:00:00Z"}
    signup |= {"data": {"customer": "c7", "email": "ann@example.org", "born": "1980-02-03T00:00:00Z"}}
    wrong = signup | {"id": "s2", "data": {"customer": "c7", "email": 5, "note": "ann@example.org"}}
    assert [verdict.verdict for verdict in shop.send(signup, wrong, signup)] == ["accepted", "quarantined", "duplicate"]
    writer = shop.writer()
    writer.seal()
    writer.close()
    shop.send(signup | {"id": "s3"}, line("a"))
    assert table(shop, "signup")["email"].to_pylist() == ["ann@example.org"] * 2
    root = shop.log().root()
    held = shop.log().events(verdict="quarantined")
    assert held[0].raw == json.dumps(wrong).encode()

    keys = SubjectKeys(shop.root / ".sampan" / "keys.db")
    assert keys.destroy("c7")
    keys.close()
    state = shop.log().state("signup", shop.log().position())
    assert table(shop, "signup")["email"].to_pylist() == [None, None]
    assert table(shop, "signup")["plan"].to_pylist() == ["free", "free"]
    assert shop.log().events(verdict="quarantined")[0].raw == b""
    assert (shop.log().verify(), shop.log().root()) == ([], root)
    assert state.count == 2
    files = [path for path in (shop.root / ".sampan").rglob("*") if path.is_file() and path.name != "keys.db"]
    assert [path for path in files if b"ann@example" in path.read_bytes()] == []


def test_many_events_become_columns_a_few_at_a_time_and_lie_together(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "_BATCH", 3_000)
    for start in range(0, 5_000, 1_000):
        shop.send(*(line(f"{number:04d}", price=float(number)) for number in range(start, start + 1_000)))
    before = table(shop)
    _, rest = open_source(shop.log().source("order_line", shop.log().position()))
    assert rest is not None
    assert [len(chunk) for chunk in rest["_id"].chunks] == [3_000, 2_000]  # in many DuckDB begins anew with each
    log, contract = shop.log(), shop.log().contracts.contract("order_line")
    turned = project._tables(log.readers()["intake"].items(labels=contract.labels), contract, "intake", log.keys)
    assert [one.num_rows for one in turned] == [2_000, 2_000, 1_000]  # as objects they need far more memory
    writer = shop.writer()
    writer.seal()
    writer.close()
    paths, rest = open_source(shop.log().source("order_line", shop.log().position()))
    assert rest is None
    (file,) = map(pq.ParquetFile, paths)
    assert [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)] == [5_000]
    assert table(shop).equals(before)


def test_threads_that_ask_at_once_for_what_was_just_sealed_all_get_it_whole(shop: Shop) -> None:
    shop.send(*[line(f"e{number}") for number in range(4_000)])
    writer = shop.writer()
    writer.seal()
    writer.close()
    source = shop.log().source("order_line", shop.log().position())
    together = threading.Barrier(8)

    def ask(_: int) -> list[Path]:
        together.wait()
        return open_source(source)[0]

    with ThreadPoolExecutor(8) as pool:
        (path,) = {path for paths in pool.map(ask, range(8)) for path in paths}
    assert pq.read_table(path).num_rows == 4_000
    assert list(path.parent.glob(".*")) == []


def test_a_file_lies_in_groups_of_so_many_bytes(shop: Shop) -> None:
    whole = pa.table({"text": ["x" * 1_000_000] * 40})
    parts = [whole.slice(start, 4) for start in range(0, 40, 4)]
    grouped = list(project._grouped(iter(parts)))
    assert [one.num_rows for one in grouped] == [20, 20] and pa.concat_tables(grouped).equals(whole)


def test_the_unsealed_part_is_turned_into_columns_once_however_many_streams_and_types_there_are(tmp_path: Path) -> None:
    shops = [Shop(tmp_path / f"shop-{number}") for number in range(3)]
    types = ("order_line", "outcome", "prediction", "review", "shadow")
    for shop in shops:
        shop.send(line("a"))
        for type in types:
            table(shop, type)
    known = [project._kept[str(shop.log().folder), "intake", type] for shop in shops for type in types]
    for shop in shops:
        shop.send(line("b"))
        assert [table(shop, type).num_rows for type in types] == [2, 0, 0, 0, 0]
    assert [project._kept[str(shop.log().folder), "intake", type] for shop in shops for type in types] == known
    shops[0].writer().seal()
    assert table(shops[0]).num_rows == 2
    assert project._kept[str(shops[0].log().folder), "intake", "order_line"] != known[0]
    for shop in shops:
        shop.close()
