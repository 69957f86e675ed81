"""Contracts and JSON Schema: both refuse the same, and what one of them cannot say is told, not guessed."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.base.errors import BadContract
from sampan.log.contracts import Contracts
from sampan.log.schema import export, read_schema

SHOP = '''
from datetime import datetime
from typing import Annotated, Any, Literal
import msgspec
from sampan import Event, Field

class Place(msgspec.Struct):
    x: float
    y: float = 0.0

class OrderLine(Event, version=3, owner="sales@shop", type="line"):
    """One line."""
    invoice: Annotated[str, Field(min_length=1, pattern="^[0-9]+$", description="its number")]
    pieces: Annotated[int, Field(unit="pieces", ge=1, lt=100)]
    price: Annotated[float | None, Field(unit="GBP")] = None
    discount: Annotated[float, Field(ge=0, le=1)] | None = None
    customer: Annotated[str | None, Field(subject=True)] = None
    email: Annotated[str | None, Field(personal=True)] = None
    country: Literal["UK", "EIRE"] = "UK"
    shelf: Literal[1, 2] | None = 1
    tags: Annotated[list[str], Field(max_length=3)] = []
    props: dict[str, int] = {}
    place: Place | None = None
    at: datetime | None = None
    anything: Any = None
    paid: bool = False
'''


def load(folder: Path, text: str) -> Contracts:
    (folder / "contracts.py").write_text(text)
    return Contracts.load(folder / "contracts.py")


@pytest.fixture
def exported(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(export(load(tmp_path, SHOP).contract("line"))))
    return found


def test_an_export_is_a_schema_that_says_what_the_contract_says(exported: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(exported)
    assert (exported["x-type"], exported["x-version"], exported["x-owner"]) == ("line", 3, "sales@shop")
    properties = exported["properties"]
    assert properties["pieces"]["x-unit"] == "pieces"
    assert (properties["email"]["x-personal"], properties["customer"]["x-subject"]) == (True, True)
    assert {"type": "string", "format": "date-time"} in properties["at"]["anyOf"]
    assert exported["required"] == ["invoice", "pieces"]


def test_what_was_exported_is_imported_as_the_same_contract(tmp_path: Path, exported: dict[str, Any]) -> None:
    made = read_schema(exported, "other")
    again = load(tmp_path, made.text)
    assert made.remarks == ()
    before, after = load(tmp_path, SHOP).get("line"), again.get("line")
    (tmp_path / "contracts.py").write_text(made.text)
    assert after.owner == before.owner
    assert [field.name for field in after.fields] == [field.name for field in before.fields]
    assert after.fields == before.fields
    twice = json.loads(json.dumps(export(again.contract("line"))))
    assert twice == {**exported, "title": "Line"}


VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 120),
        st.floats(-2, 120, allow_nan=False).filter(lambda v: v != int(v)),
        st.sampled_from(["", "1", "536365", "UK", "EIRE", "x"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["x", "y", "z"]), inner, max_size=3)
    ),
    max_leaves=4,
)
NAMES = ["invoice", "pieces", "price", "discount", "country", "shelf", "tags", "props", "place", "anything", "paid"]
SOUND = {"invoice": "536365", "pieces": 6}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, jsonschema.Draft202012Validator]:
    contract = load(tmp_path_factory.mktemp("both"), SHOP).contract("line")
    return contract.cls, jsonschema.Draft202012Validator(json.loads(json.dumps(export(contract))))


@settings(max_examples=400)
@given(changes=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2), lacks=st.sampled_from([None, *SOUND]))
def test_contract_and_schema_accept_and_refuse_the_same(both: Any, changes: dict[str, Any], lacks: str | None) -> None:
    cls, validator = both
    data = {key: value for key, value in {**SOUND, **changes}.items() if key != lacks}
    try:
        msgspec.json.decode(msgspec.json.encode(data), type=cls)
        accepted = True
    except msgspec.ValidationError:
        accepted = False
    assert accepted == validator.is_valid(data), data


DRAFT_7 = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "order placed",
    "type": "object",
    "required": ["order id", "total", "address", "class"],
    "additionalProperties": False,
    "properties": {
        "order id": {"type": "string", "format": "uuid"},
        "total": {"type": "number", "exclusiveMinimum": 0, "description": "Gross", "x-unit": "EUR"},
        "address": {"$ref": "#/definitions/address"},
        "class": {"enum": ["a", "b", None]},
        "mail": {"type": "string", "format": "email"},
        "either": {"oneOf": [{"type": "string"}, {"type": "object"}]},
        "both": {"allOf": [{"type": "string"}, {"minLength": 3}]},
        "when": {"type": ["string", "null"], "format": "date-time"},
        "list": {"type": "array", "items": [{"type": "string"}], "uniqueItems": True, "default": []},
        "level": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
        "odd": {"enum": [1, "two"]},
        "unsaid": {"minimum": 3},
    },
    "if": {"required": ["mail"]},
    "definitions": {
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "next": {"$ref": "#/definitions/address"}},
            "required": ["street"],
        }
    },
}


def test_a_draft_7_schema_becomes_a_contract_and_what_is_not_said_is_told(tmp_path: Path) -> None:
    made = read_schema(DRAFT_7, "file")
    contract = load(tmp_path, made.text).contract("order_placed")
    sound = {
        "order id": "6f2c1c9e-5d6b-4e0a-9c0f-0a3b8a1f2d11",
        "total": 1.5,
        "address": {"street": "Quay"},
        "class": None,
        "when": "2026-01-01T00:00:00Z",
    }
    contract.read(sound, 1)
    for wrong in ({"total": 0}, {"address": {}}, {"class": "c"}, {"level": 9}, {"order id": "x"}):
        with pytest.raises(msgspec.ValidationError):
            contract.read({**sound, **wrong}, 1)
    assert (contract.spec.field("total") or contract.spec.fields[0]).unit == "EUR"
    told = "\n".join(made.remarks)
    for part in ("email", "allOf", "uniqueItems", "items for each place", "additionalProperties", "part of itself"):
        assert part in told, part
    for place in ("odd", "unsaid"):
        assert f"#/properties/{place}: " in told
    assert all(f"# Not said here: {remark}" in made.text for remark in made.remarks)


@pytest.mark.parametrize("schema", [[], True, {"type": "string"}, {"type": "object"}, {"$ref": "#/nowhere"}])
def test_what_is_no_schema_of_an_object_is_refused(schema: Any) -> None:
    with pytest.raises(BadContract):
        read_schema(schema, "x")


SCHEMAS = st.recursive(
    st.one_of(
        st.booleans(),
        st.sampled_from(
            [
                {},
                {"type": "string", "maxLength": 3, "pattern": "["},
                {"type": "integer", "minimum": 1.5, "maximum": 4},
                {"type": ["number", "null"], "exclusiveMaximum": 3, "maximum": 9},
                {"enum": ["a", "b"]},
                {"const": True},
                {"type": "string", "format": "date", "default": "2026-01-01"},
                {"$ref": "#/properties/a"},
                {"type": "array", "default": [1]},
                {"description": "quo\"te\n's \\ {x}", "type": "string", "default": "'\"\n"},
                {"anyOf": [{"type": "string"}, {"enum": ["a"]}, {"type": "null"}]},
            ]
        ),
    ),
    lambda inner: st.one_of(
        inner.map(lambda one: {"type": "array", "items": one}),
        inner.map(lambda one: {"type": "object", "additionalProperties": one}),
        st.lists(inner, min_size=1, max_size=3).map(lambda ones: {"anyOf": ones}),
        st.dictionaries(st.sampled_from(["a", "b c", "class", "__init__"]), inner, max_size=2).map(
            lambda ones: {"type": "object", "properties": ones, "title": "x\n#"}
        ),
    ),
    max_leaves=5,
)


PAIR = {"type": "object", "properties": {"a": {"type": "integer"}}, "title": "x"}


@pytest.mark.parametrize(
    "choice",
    [
        {"anyOf": [PAIR, PAIR]},
        {"additionalProperties": {"anyOf": [PAIR, PAIR]}, "type": "object"},
        {"anyOf": [{"type": "array", "items": PAIR}, {"type": "array", "items": PAIR}]},
    ],
)
def test_a_choice_of_two_objects_is_told_and_not_checked(choice: Any) -> None:
    made = read_schema({"type": "object", "properties": {"a": choice}}, "thing")
    assert any("a choice that cannot be checked" in remark for remark in made.remarks)


@pytest.mark.slow
@given(properties=st.dictionaries(st.sampled_from(["a", "b", "é 1", "_id", "str"]), SCHEMAS, max_size=3))
def test_whatever_the_schema_says_the_contract_loads(
    tmp_path_factory: pytest.TempPathFactory, properties: dict[str, Any]
) -> None:
    made = read_schema({"type": "object", "properties": properties}, "thing x")
    contract = load(tmp_path_factory.mktemp("schema"), made.text).contract("thing_x")
    assert [field.name for field in contract.spec.fields] == list(properties)
