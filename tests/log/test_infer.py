"""A contract made of data loads as it is written and accepts every row that it was made from."""

import csv
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cli.load import Columns, read, rows
from sampan.log.check import Checker
from sampan.log.contracts import Contracts
from sampan.log.infer import Inferred, infer


def inferred(path: Path, name: str = "reading") -> Inferred:
    return infer((row for row, _ in read(path)), name, text=path.suffix == ".csv")


def loaded(folder: Path, path: Path, made: Inferred) -> tuple[Contracts, list[Any]]:
    """The contract as ``contracts.py`` and what it refuses of the file's rows, as ``sampan log load`` sends them."""
    (folder / "contracts.py").write_text(made.text)
    contracts = Contracts.load(folder / "contracts.py")
    columns = Columns(made.time, fields=made.columns)
    checker = Checker(contracts)
    bads: list[Any] = []
    for batch in rows(path, contracts.get(made.type), "file", columns):
        bads += [bad.complaint.text for bad in checker.read(batch.body, lines=True).bads]
    return contracts, bads


def types(contracts: Contracts, type: str = "reading") -> dict[str, str]:
    return {field.name: field.type for field in contracts.get(type).fields}


def write_csv(path: Path, header: list[str], lines: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(header)
        writer.writerows(lines)
    return path


def test_types_absence_few_values_and_names_are_read_from_a_csv_file(tmp_path: Path) -> None:
    states = ["ok", "warn", "fail"]
    lines = [
        [f"2026-01-01 00:{n % 60:02d}", f"M{n}", str(n), f"{n}.5", states[n % 3], "true" if n % 2 else "false", "007"]
        for n in range(90)
    ]
    for line in lines:
        line.append("" if line[2] == "7" else "x y")
    header = ["Time (UTC)", "Machine-Name", "class", "temp °C", "state", "2nd", "code", "note"]
    path = write_csv(tmp_path / "readings.csv", header, lines)
    made = inferred(path)
    contracts, bads = loaded(tmp_path, path, made)
    assert bads == []
    assert made.time == "Time (UTC)"
    assert types(contracts) == {
        "machine_name": "str",
        "class_": "int",
        "temp_c": "float",
        "state": "one of 'fail', 'ok', 'warn'",
        "n2nd": "bool",
        "code": "str",
        "note": "str | None",
    }
    assert "unit °C?" in made.text
    assert made.columns["temp_c"] == "temp °C"


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    table = pa.table(
        {
            "time": [datetime(2026, 1, 1, tzinfo=UTC)] * 3,
            "day": [date(2026, 1, 1)] * 3,
            "price": [Decimal("1.5"), None, Decimal(2)],
            "weight": [1.0, float("nan"), 2.0],
            "tags": [["a"], [], ["b"]],
            "place": [{"x": 1}, {"x": 2}, {"x": 3}],
            "never": pa.array([None] * 3, pa.string()),
        }
    )
    path = tmp_path / "readings.parquet"
    pq.write_table(table, path)
    contracts, bads = loaded(tmp_path, path, inferred(path))
    assert bads == []
    assert types(contracts) == {
        "day": "date",
        "price": "float | None",
        "weight": "float | None",
        "tags": "list[str]",
        "place": "dict[str, any]",
        "never": "any",
    }


def test_lines_of_json_may_mix_types_and_lack_fields(tmp_path: Path) -> None:
    path = tmp_path / "readings.ndjson"
    path.write_text(
        '{"time": "2026-01-01", "n": 1, "f": 1, "mixed": "a"}\n{"time": "2026-01-02", "n": 2, "f": 1.5, "mixed": 7}\n'
        '{"time": "2026-01-03T04:05:06Z", "n": 3, "f": 2, "mixed": null, "late": [1, 2.5]}\n'
    )
    contracts, bads = loaded(tmp_path, path, inferred(path))
    assert bads == []
    assert types(contracts) == {
        "n": "int",
        "f": "float",
        "mixed": "int | str | None",
        "late": "list[float] | None",
    }


ODD_NAMES = ["class", "str", "dt", "Any", "_id", "é", "1", "None", "Field"]
CELL = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=True).map(str),
    st.sampled_from(["", " ", "true", "No", "2026-01-01", "2026-01-01T00:00:00+02:00", "0", "1", "007", "1e3", "NaN"]),
    st.sampled_from([" padded ", "a|b", "int", "'", '"', "\\", "…", "a, b"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=6),
)


@pytest.mark.slow
@given(st.data())
def test_whatever_the_cells_are_the_contract_loads_and_accepts_them(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("csv")
    header = data.draw(
        st.lists(
            st.one_of(
                st.sampled_from(["class", "str", "dt", "Any", "_id", "é", "1", "None", "Field"]), st.text(max_size=5)
            ),
            min_size=1,
            max_size=4,
            unique=True,
        ).filter(lambda names: all(name.strip() and name.isprintable() and "=" not in name for name in names))
    )
    kinds = data.draw(
        st.lists(st.sampled_from([CELL, st.integers().map(str)]), min_size=len(header), max_size=len(header))
    )
    lines = data.draw(st.lists(st.tuples(*kinds), min_size=1, max_size=5))
    header = ["when it was", *header]
    path = write_csv(folder / "rows.csv", header, [["2026-01-01", *line] for line in lines])
    made = infer((row for row, _ in read(path)), "reading", text=True)
    made = msgspec.structs.replace(made, time="when it was")
    _, bads = loaded(folder, path, made)
    assert bads == []
