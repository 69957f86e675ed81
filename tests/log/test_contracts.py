"""Contracts: what they say, what a change of them breaks, and how a wrong one is refused."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sampan.base.clock import ManualClock, SystemClock
from sampan.base.errors import BadContract
from sampan.log.compare import compare
from sampan.log.contracts import Contracts
from sampan.log.registry import registered
from sampan.store.database import Database

HEAD = "from typing import Annotated, Literal\nfrom sampan import Event, Field, upcast\n\n"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "records.db", writable=True)
    yield database
    database.close()


def contracts(folder: Path, text: str) -> Contracts:
    path = folder / "contracts.py"
    path.write_text(HEAD + text)
    return Contracts.load(path)


def test_a_workspace_without_contracts_has_the_built_in_ones(tmp_path: Path) -> None:
    assert Contracts.load(tmp_path / "contracts.py").types() == ["outcome", "prediction", "review", "shadow"]


def test_a_contract_says_its_types_units_bounds_and_descriptions(tmp_path: Path) -> None:
    text = (
        'class Paid(Event, version=3):\n    pence: Annotated[int, Field(unit="GBX", ge=0, description="gross")] = 1\n'
    )
    spec = contracts(tmp_path, text).get("paid")
    assert (spec.version, spec.fields[0].type, spec.fields[0].unit) == (3, "int", "GBX")
    assert (spec.fields[0].bounds, spec.fields[0].description, spec.fields[0].required) == ({"ge": 0}, "gross", False)


BEFORE = """class Paid(Event, version=1):
    pounds: Annotated[float, Field(unit="GBP", ge=0)]
    note: str | None = None
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("after", "named"),
    [
        ("class Paid(Event, version=1):\n    note: str | None = None\n", "'pounds' is gone"),
        (BEFORE.replace("float", "str").replace(", ge=0", ""), "'pounds' was float, is str"),
        (BEFORE.replace("GBP", "EUR"), "'pounds' was in GBP, is in EUR"),
        (BEFORE.replace("ge=0", "ge=1"), "'pounds' has ge=1, had 0"),
        (BEFORE.replace('"GBP", ge=0', '"GBP", ge=0, le=9'), "'pounds' has le=9, had none"),
        (BEFORE.replace("note: str | None = None", "note: str | None"), "'note' was optional, is required"),
        (BEFORE + "    till: str\n", "'till' is new and required"),
        (BEFORE.replace('unit="GBP"', 'unit="GBP", personal=True'), "'pounds'"),
    ],
)
def test_a_breaking_change_without_a_new_version_is_refused_and_names_the_field(
    tmp_path: Path, db: Database, after: str, named: str
) -> None:
    contracts(tmp_path, BEFORE).register(db, SystemClock())
    with pytest.raises(BadContract) as refused:
        contracts(tmp_path, after).register(db, SystemClock())
    assert named in str(refused.value)
    assert "version=2" in str(refused.value)
    contracts(tmp_path, after.replace("version=1", "version=2")).register(db, SystemClock())


@pytest.mark.parametrize(
    "after",
    [
        BEFORE + "    till: str | None = None\n",
        BEFORE.replace("ge=0", "ge=-1"),
        BEFORE.replace(", ge=0", ""),
        BEFORE.replace("GBP", "GBP", 1).replace("ge=0)]", "ge=0)] | None"),
        BEFORE.replace("    note", '    """Doc."""\n    note'),
    ],
)
def test_a_change_that_refuses_nobody_needs_no_new_version(tmp_path: Path, db: Database, after: str) -> None:
    contracts(tmp_path, BEFORE).register(db, SystemClock())
    contracts(tmp_path, after).register(db, SystemClock())


def test_a_version_never_goes_back(tmp_path: Path, db: Database) -> None:
    contracts(tmp_path, BEFORE.replace("version=1", "version=2")).register(db, SystemClock())
    with pytest.raises(BadContract, match="version 2 was in force"):
        contracts(tmp_path, BEFORE).register(db, SystemClock())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class Paid(Event, version=0):\n    a: int\n", "line 4"),
        ("class Paid(Event):\n    a: int = Field(ge=0)\n", "Annotated"),
        ("class Paid(Event):\n    a: nonsense\n", "nonsense"),
        ("class Paid(Event)\n    a: int\n", "line 4"),
        ("raise RuntimeError('boom')\n", "line 4: RuntimeError: boom"),
        ("class Paid(Event):\n    a: int\nclass Other(Event, type='paid'):\n    b: int\n", "both declare"),
        (
            "S = Annotated[str, Field(subject=True)]\nclass Paid(Event):\n    a: S\n    b: S\n",
            "a and b",
        ),
        ("class Paid(Event):\n    a: Annotated[str, Field(subject=True, personal=True)]\n", "opaque id"),
        ("class Paid(Event):\n    a: int\n@upcast(Paid, since=1)\ndef _(data): return data\n", "version 1"),
    ],
)
def test_a_wrong_contract_gets_one_clear_message(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadContract) as refused:
        contracts(tmp_path, text)
    assert said in str(refused.value)


def test_contracts_are_read_afresh_when_their_file_changed(tmp_path: Path) -> None:
    contracts(tmp_path, "class Paid(Event):\n    a: int\n")
    assert [field.name for field in contracts(tmp_path, "class Paid(Event):\n    b: int\n").get("paid").fields] == ["b"]


def test_a_contract_says_who_answers_for_it(tmp_path: Path) -> None:
    text = 'class Paid(Event, version=2, owner="sales@shop"):\n    pence: int\nclass Sent(Event):\n    a: int\n'
    found = contracts(tmp_path, text)
    assert (found.get("paid").owner, found.get("sent").owner) == ("sales@shop", "")
    with pytest.raises(BadContract, match="names nobody"):
        contracts(tmp_path, 'class Paid(Event, owner=""):\n    a: int\n')


def test_the_registry_keeps_every_version_and_when_it_came_and_changed(tmp_path: Path, db: Database) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    contracts(tmp_path, BEFORE).register(db, clock)
    clock.advance(timedelta(seconds=60))
    contracts(tmp_path, BEFORE + "    till: str | None = None\n").register(db, clock)
    clock.advance(timedelta(seconds=60))
    contracts(tmp_path, BEFORE.replace("version=1", "version=2").replace("GBP", "EUR")).register(db, clock)
    first, second = registered(db)["paid"]
    assert [field.name for field in first.spec.fields] == ["pounds", "note", "till"]
    assert first.changed == first.registered + 60_000_000
    assert (second.spec.version, second.registered - first.registered, second.changed) == (2, 120_000_000, None)
    contracts(tmp_path, BEFORE.replace("version=1", "version=2").replace("GBP", "EUR")).register(db, clock)
    assert registered(db, "paid")["paid"][1].changed is None


def test_each_difference_says_for_whom_it_breaks_and_what_to_do(tmp_path: Path) -> None:
    old = contracts(tmp_path, BEFORE).get("paid")
    after = BEFORE.replace("GBP", "EUR").replace("ge=0", "ge=-1").replace("note: str | None = None", "till: str")
    found = compare(old, contracts(tmp_path, after).get("paid"))
    assert [(change.field, change.breaks) for change in found] == [
        ("pounds", ("producer", "reader")),
        ("note", ("reader",)),
        ("till", ("producer",)),
        ("pounds", ()),
    ]
    assert all(change.advice for change in found)
