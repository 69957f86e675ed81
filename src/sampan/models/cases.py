"""Adding a case to a suite: at the end of its file, which stays byte for byte as people wrote it."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sampan.base.errors import BadWorkspace, Conflict, NotFound, Usage
from sampan.base.files import write_durably
from sampan.models.suites import case_name, parse
from sampan.models.tests import suite_path

_EXPECTED: Final = re.compile(
    r"\s*(?P<word>at least|>=|≥|at most|<=|≤|equals|==?|class)\s*(?P<value>.+?)(\s+for\s+(?P<of>.+?))?\s*\Z"
)
_KEYS: Final = {
    **dict.fromkeys(("at least", ">=", "≥"), "at_least"),
    **dict.fromkeys(("at most", "<=", "≤"), "at_most"),
    **dict.fromkeys(("equals", "=", "=="), "equals"),
    "class": "class",
}
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+\Z")


def expected(texts: tuple[str, ...]) -> dict[str, Any]:
    """What ``at least 0.5``, ``<= 0.2``, ``equals 3``, ``class yes`` or ``at least 0.9 for large`` say, as keys of a
    case. Raises Usage for what says nothing of it."""
    found: dict[str, Any] = {}
    for text in texts:
        said = _EXPECTED.match(text)
        attempted, advice = "Expect of a case", "at least X, at most X, equals X, or class LABEL; X for CLASS."
        if said is None:
            raise Usage(attempted, f"{text!r} says no bound", advice)
        key, value = _KEYS[said["word"]], said["value"].strip()
        if key in found:
            raise Usage(attempted, f"{text!r} says {key} again", "Each bound once.")
        if key == "class":
            found[key] = f"{value} for {said['of']}" if said["of"] else value
            continue
        try:
            found[key] = float(value)
        except ValueError:
            raise Usage(attempted, f"{value!r} in {text!r} is no number", advice) from None
        if said["of"] and found.setdefault("of", said["of"]) != said["of"]:
            raise Usage(attempted, f"bounds for {found['of']} and {said['of']}", "One class a case.")
    return found


def add_case(root: Path, model: str, case: Mapping[str, Any]) -> Path:
    """Append a case to the suite of a model, making the file if there is none. ``case``: keys of ``suites.Case``, a
    value that is missing among the features as None. Raises BadWorkspace for a suite, or a case, that does not read;
    Conflict for one that is there already."""
    path, shown = suite_path(root, model), f"suites/{model}.toml"
    attempted = f"Add a case to {shown}"
    try:
        before = path.read_bytes()
    except FileNotFoundError:
        before = f"# What every version of {model} must hold: `sampan model test {model}`.\n".encode()
    else:
        text = before.decode("utf-8", "replace")
        if any(line.split("#")[0].strip() for line in text.splitlines()):
            suite = parse(before, shown)
            names = {case_name(one, at) for at, one in enumerate(suite.case)}
            if case.get("name") in names:
                raise Conflict(attempted, f"it holds {case['name']!r} already", "Change it there, or give a --name.")
    gap = b"" if before.endswith(b"\n") else b"\n"
    try:
        after = before + gap + b"\n" + _text(attempted, case).encode()
    except UnicodeEncodeError as error:
        raise BadWorkspace(attempted, f"{error.object[:60]!r} is no text that a file can hold") from None
    parse(after, shown)
    path.parent.mkdir(exist_ok=True)
    write_durably(path, after)
    return path


def features_of(attempted: str, text: str) -> dict[str, Any]:
    """Features given by hand as JSON. Raises Usage."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Usage(attempted, f"--features is no JSON: {error}", """For instance: '{"orders": 3}'""") from None
    if not isinstance(found, dict) or not found:
        raise Usage(attempted, "--features is no object with values", """For instance: '{"orders": 3}'""")
    return found


def check_features(attempted: str, features: Mapping[str, Any], wanted: list[str]) -> None:
    """Raises NotFound for a feature that the model does not take, or that is missing."""
    if odd := [name for name in features if name not in wanted]:
        raise NotFound(attempted, f"the model takes no {odd[0]!r}", f"It takes: {', '.join(wanted)}.")
    if missing := [name for name in wanted if name not in features]:
        raise NotFound(attempted, f"the feature {missing[0]!r} is missing", "Give all; null for a value nobody knows.")


def _text(attempted: str, case: Mapping[str, Any]) -> str:
    lines = ["[[case]]"]
    for key, value in case.items():
        if key != "features" and value not in (None, ""):
            lines.append(f"{key} = {_value(attempted, key, value)}")
    lines.append("[case.features]")
    lines += [f"{_key(key)} = {_value(attempted, key, value)}" for key, value in case["features"].items()]
    return "\n".join(lines) + "\n"


def _key(key: str) -> str:
    return key if _BARE.match(key) else _quoted(key)


def _value(attempted: str, key: str, value: Any) -> str:
    if value is None:
        return "nan"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            value = float(value)
        return repr(value) if math.isfinite(value) else "nan" if value != value else "inf" if value > 0 else "-inf"
    if isinstance(value, str):
        return _quoted(value)
    advice = "Write it by hand."
    if isinstance(value, dict | list):
        advice = (
            "Cases hold plain values; models of tensors and files are compared by golden requests and in the shadow."
        )
    raise BadWorkspace(attempted, f"{key} holds {str(value)[:60]!r}, which is no plain value", advice)


def _quoted(text: str) -> str:
    """A text as TOML: JSON's escapes, and that of DEL, which JSON leaves alone."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
