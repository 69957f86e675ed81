"""Who makes and reads what, as the newest runs recorded it: no code is read or imported for it."""

import ast
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import msgspec

from sampan.base.ids import is_name
from sampan.base.settings import Folder
from sampan.runs.records import StepRun, step_then
from sampan.store.database import Database

_EVER = 1 << 62
_NO_STEPS = ("contracts.py", "decisions.py")


class Use(msgspec.Struct):
    """A step, check, model or endpoint that reads something. ``state`` is what became of it last, ``why`` in words."""

    name: str
    kind: str
    state: str
    why: str
    run: str


class Uses:
    """The flow as it ran last on main: the steps of the newest run of everything, and of the runs of a target since."""

    def __init__(self, db: Database, by: int | None = None) -> None:
        """``by``: as it had run last at that instant."""
        rows = db.rows(
            "SELECT s.*, r.finished FROM run_steps AS s JOIN runs AS r ON r.id = s.run"
            " WHERE s.part = '' AND r.branch = 'main'"
            " AND r.started >= coalesce((SELECT max(started) FROM runs WHERE target = '' AND branch = 'main'"
            " AND started <= ?1), 0) AND r.started <= ?1 ORDER BY r.started, r.rowid, s.rowid",
            (_EVER if by is None else by,),
        )
        self.steps: dict[str, StepRun] = {}
        for row in rows:
            values = {name: row[name] for name in StepRun.__struct_fields__}
            values["needs"] = tuple(msgspec.json.decode(row["needs"]))
            self.steps.pop(row["name"], None)  # the newest comes last
            step = StepRun(**values)
            going = by is not None and (row["finished"] is None or row["finished"] > by)
            self.steps[row["name"]] = step_then(step, by) if going and by is not None else step

    def needs(self, name: str) -> tuple[str, ...]:
        """What a step reads."""
        return self.steps[name].needs if name in self.steps else ()

    def readers(self, name: str) -> list[Use]:
        """What reads something itself."""
        return [self._use(step) for step in self.steps.values() if name in step.needs]

    def below(self, name: str, kind: str) -> list[Use]:
        """What is made of something, directly or not, and is of a kind."""
        found: dict[str, StepRun] = {}
        todo = [name]
        while todo:
            at = todo.pop()
            for step in self.steps.values():
                if at in step.needs and step.name not in found:
                    found[step.name] = step
                    todo.append(step.name)
        return [self._use(step) for step in found.values() if step.kind == kind]

    def above(self, names: Iterable[str]) -> set[str]:
        """Everything that something is made of; what is no step is a kind of event."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            for need in self.needs(todo.pop()):
                if need not in found:
                    found.add(need)
                    todo.append(need)
        return found

    @staticmethod
    def _use(step: StepRun) -> Use:
        error = step.error.splitlines()
        return Use(step.name, step.kind, step.state, error[0] if error else step.why, step.run)


class Code(msgspec.Struct):
    """The text that makes something, as it stands in the workspace now."""

    path: str
    line: int
    language: str
    text: str


def code_of(root: Path, name: str) -> Code | None:
    """The query or function of a name; None if the workspace has none of that name any more."""
    if not is_name(name):
        return None
    query = root / "tables" / f"{name}.sql"
    if query.is_file():
        return Code(f"tables/{name}.sql", 1, "sql", query.read_text("utf-8", "replace"))
    for path in sorted(root.glob("*.py")):
        if path.name not in _NO_STEPS:
            found = _functions(path, path.stat().st_mtime_ns).get(name)
            if found is not None:
                return Code(path.name, found[0], "python", found[1])
    from sampan.flow.dbt import dbt_file

    shown = dbt_file(Folder(root), name)
    return Code(shown, 1, "sql", (root / shown).read_text("utf-8", "replace")) if shown else None


def about(code: Code | None) -> str:
    """The first sentence of what the author wrote about it: a comment at the top of a query, or a docstring."""
    if code is None:
        return ""
    if code.language == "sql":
        lines = []
        for line in code.text.splitlines():
            if not line.startswith("--"):
                break
            lines.append(line.lstrip("- ").strip())
        text = " ".join(lines)
    else:
        _, _, rest = code.text.partition('"""')
        text = " ".join(rest.partition('"""')[0].split())
    end = text.find(". ")
    return text if end < 0 else text[: end + 1]


@lru_cache(maxsize=64)
def _functions(path: Path, stamp: int) -> dict[str, tuple[int, str]]:
    """The functions of a file: line and text of each, decorators included."""
    text = path.read_text("utf-8", "replace")
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return {}
    lines = text.splitlines()
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            found[node.name] = (node.lineno, "\n".join(lines[first - 1 : node.end_lineno]))
    return found
