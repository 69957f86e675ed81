"""Contracts as Python text: what ``sampan contract infer`` and ``import`` print, to be put into ``contracts.py``."""

import builtins
import keyword
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sampan.log.declare import snake_case

#: Names that annotations use: a field of the same name with a default would hide them from the fields below it.
_USED: Final = frozenset({"Annotated", "Any", "Event", "Field", "Literal", "dt", "msgspec", "uuid"})
_NO_NAMES: Final = _USED | frozenset(dir(builtins)) | frozenset(dir(msgspec.Struct))


class Line(msgspec.Struct, frozen=True):
    """One field. ``key`` is its name in JSON; ``default`` is Python text, None for a required field."""

    key: str
    annotation: str
    default: str | None = None
    comment: str = ""


class Shape(msgspec.Struct, frozen=True):
    """One class: a contract, or a struct within one. ``options`` stand on the class line as they are."""

    name: str
    lines: tuple[Line, ...]
    base: str = "Event"
    options: tuple[str, ...] = ()
    doc: str = ""


def python_name(key: str, taken: Iterable[str] = ()) -> str:
    """A field's name made of any text: ``temp °C`` → ``temp_c``. Never one that is taken, or means something else."""
    plain = unicodedata.normalize("NFKD", key).encode("ascii", "ignore").decode()
    name = re.sub(r"\W+", "_", snake_case(plain)).strip("_").lower() or "field"
    if name[0].isdigit():
        name = f"n{name}"
    if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in _NO_NAMES:
        name = f"{name}_"
    number, made, known = 1, name, set(taken)
    while made in known:
        number += 1
        made = f"{name}_{number}"
    return made


def class_name(text: str) -> str:
    """A class's name made of any text: ``order lines`` → ``OrderLines``."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    words = [word for word in re.split(r"[\W_]+", plain) if word]
    name = "".join(word[0].upper() + word[1:] for word in words) or "Thing"
    if name[0].isdigit() or name in _USED or hasattr(builtins, name) or keyword.iskeyword(name):
        name = f"A{name}" if name[0].isdigit() else f"{name}Event"
    return name


def module_text(shapes: Iterable[Shape], head: Iterable[str] = ()) -> str:
    """A module that declares these classes, and begins with remarks."""
    bodies = [_class_text(shape) for shape in shapes]
    body = "\n\n\n".join(bodies)
    lines = [f"# {_one_line(text)}".rstrip() for text in head]
    imports = ["import datetime as dt"] if "dt." in body else []
    imports += ["import uuid"] if "uuid." in body else []
    names = [name for name in ("Annotated", "Any", "Literal") if re.search(rf"\b{name}\b", body)]
    blocks = ["\n".join([*imports, *([f"from typing import {', '.join(names)}"] if names else [])])]
    own = ["import msgspec"] if "msgspec." in body else []
    known = [name for name in ("Event", "Field") if re.search(rf"\b{name}\b", body)]
    blocks.append("\n".join([*own, f"from sampan import {', '.join(known)}"]))
    text = "\n\n".join(block for block in ["\n".join(lines), *blocks] if block)
    return f"{text}\n\n\n{body}\n"


def _class_text(shape: Shape) -> str:
    text = [f"class {shape.name}({', '.join([shape.base, *shape.options])}):"]
    if doc := shape.doc.strip():
        text += [f"    {literal(doc)}", ""]
    taken: list[str] = []
    for line in shape.lines:
        name = line.key
        if not _fits(name) or name in taken:
            name = python_name(line.key, taken)
        taken.append(name)
        text.append(f"    {name}: {line.annotation}{_value(line, name)}{_said(line.comment)}")
    return "\n".join(text if shape.lines else [*text, "    pass"])


def _fits(name: str) -> bool:
    plain = name.isidentifier() and name.isascii() and not name.startswith("_")
    return plain and not keyword.iskeyword(name) and name not in _NO_NAMES


def _value(line: Line, name: str) -> str:
    factory = line.default is not None and line.default not in ("[]", "{}") and line.default[0] in "[{"
    given = []
    if factory:
        given.append(f"default_factory=lambda: {line.default}")
    elif line.default is not None and name != line.key:
        given.append(f"default={line.default}")
    if name != line.key:
        given.append(f"name={literal(line.key)}")
    if given:
        return f" = msgspec.field({', '.join(given)})"
    return "" if line.default is None else f" = {line.default}"


def _said(comment: str) -> str:
    return f"  # {_one_line(comment)}" if comment else ""


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def literal(value: Any) -> str:
    """A plain value as Python text, with double quotes as this project writes them."""
    text = repr(value)
    if isinstance(value, str) and text[0] == "'" and '"' not in text:
        return f'"{text[1:-1]}"'
    return text
