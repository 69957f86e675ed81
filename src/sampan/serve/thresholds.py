"""Thresholds as they stand in the text of ``decisions.py``: what each is by default, and a patch that changes it.

The text is read, never imported: the hub does not run a workspace's rules.
"""

import ast
import difflib
from collections.abc import Mapping
from typing import Any

from sampan.base.errors import Refused
from sampan.serve.decisions import Threshold


def defaults(sources: Mapping[str, bytes], function: str) -> dict[str, Threshold]:
    """The defaults of a decision's thresholds that are written as plain values, by name."""
    return {name: value for _, _, name, value in _found(sources, function)}


def patch(sources: Mapping[str, bytes], function: str, changes: Mapping[str, Threshold]) -> str:
    """A unified diff that gives thresholds other defaults; empty if they have them. Raises Refused for one whose
    default is no plain value."""
    places = {name: (path, node, value) for path, node, name, value in _found(sources, function)}
    attempted = f"Make a patch for {function}"
    edits: dict[str, list[tuple[ast.expr, Threshold]]] = {}
    for name, wanted in changes.items():
        if name not in places:
            said = f"no default of {name!r} is written as a plain value in the rules of this workspace"
            raise Refused(attempted, said, "Change it by hand.")
        path, node, value = places[name]
        if value != wanted or type(value) is not type(wanted):
            edits.setdefault(path, []).append((node, wanted))
    return "".join(_diff(path, sources[path].decode(), found) for path, found in sorted(edits.items()))


def _found(sources: Mapping[str, bytes], function: str) -> list[tuple[str, ast.expr, str, Any]]:
    """(file, the default's node, name, value) of each threshold of a function of that name."""
    found: list[tuple[str, ast.expr, str, Any]] = []
    for path, text in sources.items():
        if not path.endswith(".py"):
            continue
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError):
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == function and node.decorator_list:
                spec = node.args
                places = [*spec.posonlyargs, *spec.args]
                pairs = [*zip(places[len(places) - len(spec.defaults) :], spec.defaults, strict=True)]
                pairs += [(a, d) for a, d in zip(spec.kwonlyargs, spec.kw_defaults, strict=True) if d is not None]
                for argument, default in pairs:
                    try:
                        value = ast.literal_eval(default)
                    except ValueError:
                        continue
                    if isinstance(value, bool | int | float | str):
                        found.append((path, default, argument.arg, value))
    return found


def _diff(path: str, text: str, edits: list[tuple[ast.expr, Threshold]]) -> str:
    lines = text.splitlines(keepends=True)
    for node, value in sorted(edits, key=lambda edit: (-edit[0].lineno, -edit[0].col_offset)):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head = lines[first].encode()[: node.col_offset].decode()
        tail = lines[last].encode()[node.end_col_offset :].decode()
        lines[first : last + 1] = [f"{head}{value!r}{tail}"]
    before = text.splitlines(keepends=True)
    made = difflib.unified_diff(before, lines, f"a/{path}", f"b/{path}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in made)
