"""The workspace's repair rules: its own Python files in ``repairs/``, in git. The hub takes no code from anybody else.

Reading a file's docstring runs nothing; a rule runs in a process of its own (``sampan.log.trial``).
"""

import ast
import re
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.errors import NotFound

FOLDER: Final = "repairs"


class Rule(msgspec.Struct):
    """One file. ``says``: the first line of its docstring, or of its function's; ``trouble``: why it is no rule."""

    name: str
    digest: str
    says: str
    text: str
    trouble: str = ""


def rules(root: Path) -> list[Rule]:
    """All rules there are."""
    folder = root / FOLDER
    return [_rule(path) for path in sorted(folder.glob("*.py"))] if folder.is_dir() else []


def find(root: Path, name: str) -> tuple[Path, Rule]:
    """A rule by its file's name, which is looked up and never becomes a path. Raises NotFound."""
    for rule in rules(root):
        if rule.name == name:
            return root / FOLDER / rule.name, rule
    raise NotFound(f"Find the rule {name[:60]!r}", f"{FOLDER}/ has none of that name", "/quarantine lists them.")


def _rule(path: Path) -> Rule:
    raw = path.read_bytes()
    text = raw.decode("utf-8", "replace")
    rule = Rule(path.name, digest_bytes(raw), "", text)
    try:
        tree = ast.parse(raw)
    except (SyntaxError, ValueError) as error:
        rule.trouble = f"line {getattr(error, 'lineno', '?')}: {getattr(error, 'msg', error)}"
        return rule
    fix = next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "fix"), None)
    if fix is None:
        rule.trouble = "it has no function `fix`"
        return rule
    rule.says = (ast.get_docstring(tree) or ast.get_docstring(fix) or "").partition("\n")[0]
    return rule


def starter(reason: str, path: str | None, type: str | None, example: str) -> tuple[str, str]:
    """A file name and a beginning for a rule about one reason, to copy and complete."""
    steps = [step for step in (path or "$").removeprefix("$").split(".") if step]
    plain = bool(steps) and all(re.fullmatch(r"\w+", step) for step in steps)
    name = re.sub(r"\W+", "_", f"{type or 'events'}_{steps[-1] if plain else 'as_sent'}").strip("_").lower()[:60]
    where = f" at {path}" if path not in (None, "$") else ""
    lines = [
        '"""Say here what is wrong, and why this is what was meant."""',
        "",
        "",
        "def fix(event: dict, reason: str) -> dict | None:",
        f"    if reason != {reason + where!r}:",
        "        return None  # another rule's",
    ]
    if plain:
        place = "event" + "".join(f"[{step!r}]" for step in steps[:-1])
        lines += [
            f"    data = {place}",
            f"    value = data.get({steps[-1]!r})" + (f"  # such as {_one_line(example)}" if example else ""),
            "    if value is None:",
            "        return None  # nobody can tell what was meant: it stays",
            f"    data[{steps[-1]!r}] = value  # write what was meant",
        ]
    else:
        lines += ["    # what is no JSON object comes as {'raw': '<its text>'}", "    # write what was meant"]
    return f"{name}.py", "\n".join([*lines, "    return event", ""])


def _one_line(text: str) -> str:
    return ascii(text)[1:-1][:60]
