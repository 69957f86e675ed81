"""The fields of contracts as ``contracts.py`` writes them: read for a run's manifest, never imported."""

import ast
from collections.abc import Mapping
from pathlib import Path

import msgspec

Contracts = Mapping[str, Mapping[str, str]]


class ContractChange(msgspec.Struct, frozen=True):
    """A field of a contract that is written otherwise on a branch than on main: ``new``, ``gone`` or ``changed``."""

    type: str
    field: str
    how: str
    main: str | None
    branch: str | None


def contract_fields(root: Path, classes: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Type of event to its fields, each with its annotation as text. ``classes``: type to the name of its class."""
    try:
        tree = ast.parse((root / "contracts.py").read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return {}
    found = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    return {type: _fields(name, found, ()) for type, name in classes.items() if name in found}


def _fields(name: str, classes: Mapping[str, ast.ClassDef], within: tuple[str, ...]) -> dict[str, str]:
    """Those of the classes that it is made from first, as Python does."""
    node = classes[name]
    fields: dict[str, str] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes and base.id not in within:
            fields |= _fields(base.id, classes, (*within, name))
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            fields[line.target.id] = ast.unparse(line.annotation)
    return fields


def contract_changes(main: Contracts, branch: Contracts) -> tuple[ContractChange, ...]:
    """Every field that differs."""
    found = []
    for type in sorted({*main, *branch}):
        one, other = main.get(type, {}), branch.get(type, {})
        for field in dict.fromkeys((*one, *other)):
            was, now = one.get(field), other.get(field)
            if was != now:
                how = "new" if was is None else "gone" if now is None else "changed"
                found.append(ContractChange(type, field, how, was, now))
    return tuple(found)
