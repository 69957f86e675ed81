"""Contracts as JSON Schema (2020-12), and JSON Schema (draft 7 to 2020-12) as contracts.

What a schema says and a contract cannot is not guessed: it is left out and said in a remark. What a contract says and
JSON Schema has no word for stands in ``x-`` keywords: ``x-unit x-personal x-subject x-owner x-version x-type``.
"""

import datetime as dt
import re
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Union

import msgspec
from msgspec import inspect

from sampan.base.errors import BadContract
from sampan.base.ids import is_name
from sampan.log.contracts import Contract
from sampan.log.declare import Field, snake_case
from sampan.log.writing import Line, Shape, class_name, literal, module_text

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DEEPEST: Final = 20
_FORMATS: Final = {
    "date-time": "dt.datetime", "date": "dt.date", "time": "dt.time", "duration": "dt.timedelta", "uuid": "uuid.UUID",
}  # fmt: skip
_NUMBER: Final = {"minimum": "ge", "exclusiveMinimum": "gt", "maximum": "le", "exclusiveMaximum": "lt"}
_KNOWN: Final = frozenset({
    "$schema", "$id", "$comment", "$ref", "$defs", "$anchor", "definitions", "title", "description", "default",
    "examples", "type", "enum", "const", "anyOf", "oneOf", "allOf", "properties", "required", "additionalProperties",
    "items", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "multipleOf", "contentEncoding",
    *_NUMBER, "x-unit", "x-personal", "x-subject", "x-owner", "x-version", "x-type", "deprecated", "readOnly",
    "writeOnly",
})  # fmt: skip


# -- out


def export(contract: Contract) -> dict[str, Any]:
    """The newest version of a contract as a JSON Schema of an event's ``data``."""
    (top,), parts = msgspec.json.schema_components((contract.cls,), ref_template="#/$defs/{name}")
    name = str(top["$ref"]).rpartition("/")[2]
    body = dict(parts.pop(name))
    info = inspect.type_info(contract.cls)
    assert isinstance(info, inspect.StructType)
    properties = {key: dict(value) for key, value in body.get("properties", {}).items()}
    for field in info.fields:
        said = contract.spec.field(field.encode_name)
        assert said is not None
        own = properties[field.encode_name]
        _formats(own, field.type)
        own |= {"x-unit": said.unit} if said.unit is not None else {}
        own |= {"x-personal": True} if said.personal else {}
        own |= {"x-subject": True} if said.subject else {}
    found: dict[str, Any] = {"$schema": DIALECT, **body, "properties": properties}
    found |= {"x-type": contract.type, "x-version": contract.version}
    if contract.spec.owner:
        found["x-owner"] = contract.spec.owner
    if parts:
        found["$defs"] = parts
    return found


def _formats(schema: dict[str, Any], kind: inspect.Type) -> None:
    """Say ``format`` where a time may lack its offset, which msgspec leaves open."""
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        for part, one in zip(schema.get("anyOf", ()), kind.types, strict=False):
            _formats(part, one)
    elif isinstance(kind, inspect.DateTimeType):
        schema["format"] = "date-time"
    elif isinstance(kind, inspect.TimeType):
        schema["format"] = "time"


# -- in


class Imported(msgspec.Struct, frozen=True):
    """A contract's text, and what of the schema it does not say."""

    text: str
    type: str
    remarks: tuple[str, ...]


def read_schema(schema: Any, name: str) -> Imported:
    """A contract that says what a JSON Schema says. ``name`` is used where the schema has neither x-type nor title.

    Raises BadContract for what is no schema of an object.
    """
    if not isinstance(schema, dict):
        raise BadContract("Import a JSON Schema", "it is no object", "Give a file that holds one schema.")
    return _Reader(schema).read(name)


class _Part(msgspec.Struct):
    """One annotation without its outermost ``| None``: as text, and as the type that the text means."""

    text: str
    bounds: dict[str, Any]
    null: bool = False
    type: Any = Any


class _Reader:
    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._stand_ins: dict[str, Any] = {}
        self._remarks: list[str] = []
        self._structs: dict[str, Shape] = {}
        self._pointers: dict[str, str] = {}
        self._under_way: list[str] = []

    def read(self, name: str) -> Imported:
        schema = self._merged(self._root, "#")
        if "$ref" in schema:
            rest = {key: value for key, value in self._root.items() if key not in ("$ref", "$defs", "definitions")}
            schema = {**self._resolve(str(schema["$ref"]), "#"), **rest}
        if schema.get("type", "object") != "object" or not isinstance(schema.get("properties"), dict):
            raise BadContract(
                "Import a JSON Schema", "it describes no object with properties", "An event's data is an object."
            )
        kind = schema.get("x-type")
        title = schema.get("title")
        cls = class_name(str(kind or title or name))
        self._structs[cls] = Shape(cls, ())  # keeps the name from a part of it
        lines = self._lines(schema, "#")
        options = [f"version={version}" if isinstance(version := schema.get("x-version"), int) else "version=1"]
        type_ = snake_case(cls)
        if isinstance(kind, str) and is_name(kind) and kind != type_:
            options.append(f"type={literal(kind)}")
            type_ = kind
        if isinstance(owner := schema.get("x-owner"), str) and owner:
            options.append(f"owner={literal(owner)}")
        if schema.get("additionalProperties") is False:
            self._remark("#", "additionalProperties: false refuses other fields; here they are kept with the event")
        doc = schema.get("description")
        shapes = [shape for key, shape in self._structs.items() if key != cls]
        shapes.append(Shape(cls, lines, options=tuple(options), doc=doc if isinstance(doc, str) else ""))
        head = [f"Not said here: {text}" for text in self._remarks]
        return Imported(module_text(shapes, head), type_, tuple(self._remarks))

    def _remark(self, path: str, text: str) -> None:
        said = f"{path}: {text}"
        if said not in self._remarks:
            self._remarks.append(said)

    # -- fields

    def _lines(self, schema: dict[str, Any], path: str) -> tuple[Line, ...]:
        required = schema.get("required") if isinstance(schema.get("required"), list) else []
        lines = []
        for key, raw in schema["properties"].items():
            where = f"{path}/properties/{key}"
            part = self._part(raw, where)
            own = raw if isinstance(raw, dict) else {}
            must = key in (required or [])
            default = None
            if not must:
                default = self._default(own, part, where)
                part.null = part.null or default == "None"
            lines.append(Line(key, self._annotated(own, part, where), default))
        for key in required or []:
            if key not in schema["properties"]:
                lines.append(Line(str(key), "Any"))
                self._remark(path, f"{key!r} is required and not described")
        return tuple(lines)

    def _default(self, schema: dict[str, Any], part: _Part, where: str) -> str:
        if "default" not in schema or schema["default"] is None:
            return "None"
        value = schema["default"]
        try:
            msgspec.convert(value, _typed(part))
        except (msgspec.ValidationError, TypeError):
            self._remark(where, f"its default {value!r:.60} is not of its type")
            return "None"
        if (isinstance(value, dict) and value) or part.text.startswith(("dt.", "uuid.", "bytes")):
            self._remark(where, f"its default {value!r:.60} cannot be written here")
            return "None"
        return literal(value)

    def _annotated(self, schema: dict[str, Any], part: _Part, where: str) -> str:
        said: dict[str, Any] = {}
        for key, name, kind in (
            ("x-unit", "unit", str),
            ("x-personal", "personal", bool),
            ("x-subject", "subject", bool),
            ("description", "description", str),
            ("examples", "examples", list),
        ):
            if isinstance(value := schema.get(key), kind) and value:
                said[name] = value
        if part.null and part.text not in ("None", "Any"):
            inner = _bounded(part.text, part.bounds)
            text = f"{inner} | None"
            return f"Annotated[{text}, {_field(said)}]" if said else text
        return _bounded(part.text, {**said, **part.bounds})

    # -- types

    def _part(self, schema: Any, path: str, depth: int = 0) -> _Part:
        """The annotation of a schema. What cannot be said becomes Any, with a remark."""
        if schema is True or schema == {}:
            return _Part("Any", {})
        if not isinstance(schema, dict) or depth > _DEEPEST:
            self._remark(path, "it admits nothing" if schema is False else "it is no schema, or nested too deeply")
            return _Part("Any", {})
        schema = self._merged(schema, path)
        for key in schema:
            if key not in _KNOWN and not key.startswith("x-"):
                self._remark(path, f"{key} is not checked")
        if "$ref" in schema:
            return self._by_reference(schema, path, depth)
        if "const" in schema:
            return self._values([schema["const"]], path)
        if "enum" in schema:
            return self._values(schema["enum"], path)
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list):
                return self._union(
                    [self._part(one, f"{path}/{key}/{n}", depth + 1) for n, one in enumerate(schema[key])], path
                )
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self._union([self._single(schema, str(kind), path, depth) for kind in kinds], path)
        if kinds is None:
            kinds = "object" if "properties" in schema else "array" if "items" in schema else None
            if kinds is not None:
                self._remark(path, f"its type is not said, taken as {kinds}")
        if kinds is None:
            if set(schema) - {"title", "description", "default", "examples", "$comment"} - _X:
                self._remark(path, "its type is not said")
            return _Part("Any", {})
        return self._single(schema, str(kinds), path, depth)

    def _merged(self, schema: dict[str, Any], path: str) -> dict[str, Any]:
        """With an ``allOf`` of one taken in, as generators write it around a reference."""
        parts = schema.get("allOf")
        if parts is None:
            return schema
        rest = {key: value for key, value in schema.items() if key != "allOf"}
        if isinstance(parts, list) and len(parts) == 1 and isinstance(parts[0], dict):
            return {**parts[0], **rest}
        self._remark(path, "allOf is not checked")
        return rest

    def _single(self, schema: dict[str, Any], kind: str, path: str, depth: int) -> _Part:
        match kind:
            case "null":
                return _Part("None", {}, True, None)
            case "boolean":
                return _Part("bool", {}, type=bool)
            case "integer":
                return _Part("int", self._of_number(schema, kind, path), type=int)
            case "number":
                return _Part("float", self._of_number(schema, kind, path), type=float)
            case "string":
                return self._string(schema, path)
            case "array":
                return self._array(schema, path, depth)
            case "object":
                return self._object(schema, path, depth)
        self._remark(path, f"type {kind!r} is unknown")
        return _Part("Any", {})

    def _of_number(self, schema: dict[str, Any], kind: str, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, name in _NUMBER.items():
            value = schema.get(key)
            if value is True and (near := schema.get(key.removeprefix("exclusive").lower())) is not None:
                found.pop({"gt": "ge", "lt": "le"}[name], None)  # as draft 4 said it
                value = near
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if kind == "integer" and value != int(value):
                self._remark(path, f"{key} {value} is no whole number")
                continue
            found[name] = int(value) if kind == "integer" else value
        for loose, strict, nearer in (("ge", "gt", max), ("le", "lt", min)):
            if loose in found and strict in found:
                keep = strict if nearer(found[loose], found[strict]) == found[strict] else loose
                del found[loose if keep == strict else strict]
        multiple = schema.get("multipleOf")
        if isinstance(multiple, int | float) and not isinstance(multiple, bool) and multiple > 0:
            if kind == "integer" and multiple != int(multiple):
                self._remark(path, f"multipleOf {multiple} is no whole number")
            else:
                found["multiple_of"] = int(multiple) if kind == "integer" else multiple
        return found

    def _string(self, schema: dict[str, Any], path: str) -> _Part:
        bounds = _lengths(schema, "minLength", "maxLength")
        if isinstance(pattern := schema.get("pattern"), str):
            try:
                re.compile(pattern)
                bounds["pattern"] = pattern
            except re.error as error:
                self._remark(path, f"pattern {pattern!r:.60} is none of Python's ({error})")
        form = schema.get("format")
        kind = _FORMATS.get(str(form), "bytes" if schema.get("contentEncoding") == "base64" else "str")
        if form is not None and str(form) not in _FORMATS:
            self._remark(path, f"format {form!r} is not checked")
        if kind != "str" and bounds and not (kind == "bytes" and "pattern" not in bounds):
            self._remark(path, f"{', '.join(bounds)} of a {form or 'binary'} text is not checked")
            bounds = {}
        if kind == "bytes" and bounds:
            self._remark(path, "the length of encoded bytes is not checked")
            bounds = {}
        return _Part(kind, bounds, type=_TEXTS[kind])

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> _Part:
        items = schema.get("items", True)
        if isinstance(items, list):
            self._remark(path, "items for each place are not checked")
            items = True
        inner = self._part(items, f"{path}/items", depth + 1)
        bounds = _lengths(schema, "minItems", "maxItems")
        return _Part(f"list[{_whole(inner)}]", bounds, type=list[_typed(inner)])  # type: ignore[misc]

    def _object(self, schema: dict[str, Any], path: str, depth: int) -> _Part:
        others = schema.get("additionalProperties", True)
        if not isinstance(schema.get("properties"), dict) or not schema["properties"]:
            inner = _Part("Any", {})
            if isinstance(others, dict):
                inner = self._part(others, f"{path}/additionalProperties", depth + 1)
            elif others is False:
                self._remark(path, "additionalProperties: false is not checked")
            if schema.get("required"):
                self._remark(path, "required is not checked")
            return _Part(f"dict[str, {_whole(inner)}]", {}, type=dict[str, _typed(inner)])  # type: ignore[misc]
        if others is not True:
            self._remark(path, "additionalProperties is not checked")
        title = schema.get("title") if isinstance(schema.get("title"), str) else path.rpartition("/")[2]
        name = self._free(class_name(str(title)))
        self._structs[name] = Shape(name, ())
        lines = self._lines(schema, path)
        del self._structs[name]  # what it names comes before it
        doc = schema.get("description") if "/properties/" not in path.rpartition("/$defs/")[0] else ""
        base = "msgspec.Struct"
        self._structs[name] = Shape(name, lines, base, ("kw_only=True",), doc if isinstance(doc, str) else "")
        return _Part(name, {}, type=self._stand_in(name))

    def _stand_in(self, name: str) -> Any:
        """A struct for one that is written: each has its own, so that two of them are a choice that msgspec refuses."""
        if name not in self._stand_ins:
            self._stand_ins[name] = msgspec.defstruct(name, [])
        return self._stand_ins[name]

    def _free(self, name: str) -> str:
        number, made = 1, name
        while made in self._structs:
            number += 1
            made = f"{name}{number}"
        return made

    def _by_reference(self, schema: dict[str, Any], path: str, depth: int) -> _Part:
        pointer = str(schema["$ref"])
        if pointer in self._pointers:
            name = self._pointers[pointer]
            return _Part(name, {}, type=self._stand_in(name))
        if pointer in self._under_way:
            self._remark(path, f"{pointer} is part of itself")
            return _Part("Any", {})
        self._under_way.append(pointer)
        try:
            part = self._part(self._resolve(pointer, path), pointer, depth + 1)
        finally:
            self._under_way.pop()
        if part.text in self._structs:
            self._pointers[pointer] = part.text
        return part

    def _resolve(self, pointer: str, path: str) -> dict[str, Any]:
        found: Any = self._root
        if not pointer.startswith("#"):
            self._remark(path, f"{pointer} lies elsewhere")
            return {}
        for step in pointer.removeprefix("#").strip("/").split("/") if pointer != "#" else ():
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or step not in found:
                self._remark(path, f"{pointer} is not there")
                return {}
            found = found[step]
        return dict(found) if isinstance(found, Mapping) else {}

    def _values(self, values: Any, path: str) -> _Part:
        plain = list(dict.fromkeys(values)) if _hashable(values) else []
        null = None in plain
        rest = [value for value in plain if value is not None]
        if rest and (all(type(v) is str for v in rest) or all(type(v) is int for v in rest)):
            return _Part(f"Literal[{', '.join(map(literal, rest))}]", {}, null, Literal[tuple(rest)])
        if rest and all(type(v) is bool for v in rest):
            if len(rest) == 1:
                self._remark(path, f"only {rest[0]!r} is allowed")
            return _Part("bool", {}, null, bool)
        if null and not rest:
            return _Part("None", {}, True, None)
        self._remark(path, "its values are neither all texts nor all whole numbers")
        return _Part("Any", {})

    def _union(self, parts: list[_Part], path: str) -> _Part:
        null = any(part.null for part in parts)
        rest = [part for part in parts if part.text != "None"]
        texts = list(dict.fromkeys(_bounded(part.text, part.bounds) for part in rest))
        if "Any" in texts:
            return _Part("Any", {})
        if len(texts) == 1:
            return _Part(rest[0].text, rest[0].bounds, null, rest[0].type)
        if not texts:
            return _Part("None", {}, True, None)
        whole = " | ".join(texts)
        kind: Any = _UNION[tuple(_typed(msgspec.structs.replace(part, null=False)) for part in rest)]
        try:
            msgspec.json.Decoder(kind)
        except TypeError as error:
            self._remark(path, f"a choice that cannot be checked ({str(error).split('.')[0]})")
            return _Part("Any", {})
        return _Part(whole, {}, null, kind)


_UNION: Final[Any] = Union
_ANNOTATED: Final[Any] = Annotated  # made at run time, of types that no checker sees
_TEXTS: Final[dict[str, Any]] = {
    "str": str, "bytes": bytes, "dt.datetime": dt.datetime, "dt.date": dt.date, "dt.time": dt.time,
    "dt.timedelta": dt.timedelta, "uuid.UUID": uuid.UUID,
}  # fmt: skip
_X: Final = frozenset({"x-unit", "x-personal", "x-subject", "x-owner", "x-version", "x-type"})


def _whole(part: _Part) -> str:
    text = _bounded(part.text, part.bounds)
    return f"{text} | None" if part.null and part.text not in ("None", "Any") else text


def _typed(part: _Part) -> Any:
    kind: Any = part.type
    if part.bounds:
        kind = _ANNOTATED[kind, Field(**part.bounds)]
    return kind | None if part.null and part.text not in ("None", "Any") else kind


def _bounded(text: str, said: dict[str, Any]) -> str:
    return f"Annotated[{text}, {_field(said)}]" if said else text


def _field(said: dict[str, Any]) -> str:
    return f"Field({', '.join(f'{name}={literal(value)}' for name, value in said.items())})"


def _lengths(schema: dict[str, Any], least: str, most: str) -> dict[str, Any]:
    found = {}
    for key, name in ((least, "min_length"), (most, "max_length")):
        value = schema.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and value == int(value):
            found[name] = int(value)
    return found


def _hashable(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, str | int | float | bool | None) for v in values)
