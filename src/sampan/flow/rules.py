"""What the rules in ``decisions.py`` read: fields of a record, by name. The file is read, never imported."""

import ast
from pathlib import Path

import msgspec


class Rule(msgspec.Struct, frozen=True):
    """One decision function: the model that it stands behind, and the fields that it reads. ``whole``: it hands the
    record on, so that it may read any field."""

    name: str
    model: str
    line: int
    reads: tuple[str, ...]
    whole: bool = False


def read_rules(path: Path) -> list[Rule]:
    """The rules of a file; none if there is no such file, or if it does not parse (deploying says why)."""
    try:
        tree = ast.parse(path.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and _called(call) == "decision":
                    found.append(_rule(node, {one.arg: one.value for one in call.keywords if one.arg}))
    return found


def _called(call: ast.Call) -> str:
    of = call.func
    return of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""


def _rule(function: ast.FunctionDef, options: dict[str, ast.expr]) -> Rule:
    arguments = [*function.args.posonlyargs, *function.args.args]
    record = arguments[1].arg if len(arguments) > 1 else ""
    reads: dict[str, None] = {}
    known: set[int] = set()
    for node in ast.walk(function):
        field: ast.expr | None = None
        if isinstance(node, ast.Subscript):
            of, field = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
            of, field = node.func.value, node.args[0] if node.args else None
        else:
            continue
        if isinstance(of, ast.Name) and of.id == record and (name := _text(field)):
            reads[name] = None
            known.add(id(of))
    whole = any(
        isinstance(node, ast.Name) and node.id == record and id(node) not in known
        for statement in function.body
        for node in ast.walk(statement)
    )
    context = options.get("context")
    listed = context.elts if isinstance(context, ast.Tuple | ast.List) else []
    for value in (*listed, options.get("entity")):
        if name := _text(value):
            reads[name] = None
    return Rule(function.name, _text(options.get("model")), function.lineno, tuple(reads), whole)


def _text(node: ast.expr | None) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
