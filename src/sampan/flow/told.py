"""Lineage in sentences: what a person wants to know of each thing on the way back, ids short enough to compare."""

from collections.abc import Callable
from typing import Any, Final

from sampan.base.words import some

_CODE: Final = 4
_MEASURES: Final = 6
_COLUMNS: Final = 6


def tell(kind: str, facts: dict[str, Any]) -> list[str]:
    """Sentences about one thing; nothing is said of what is not known."""
    told = _TELLERS.get(kind, _event)(facts)
    return [line for line in told if line]


def figure(value: Any) -> str:
    """A number as it is read: thousands apart, four digits after the point, none that say nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.4f}" if abs(value) < 1000 else f"{value:,.0f}"


def short(text: str | None, keep: int = 12) -> str:
    """The beginning of a digest, its version kept: ``t1-0843f49a8bd1``."""
    prefix, dash, rest = (text or "").partition("-")
    return f"{prefix}-{rest[:keep]}" if dash and len(prefix) <= 3 else (text or "")[:keep]


def _prediction(facts: dict[str, Any]) -> list[str]:
    about = f"about {facts.get('entity') or 'nobody'} at {facts.get('time')}"
    kept = f", {facts['features']} features kept with it" if facts.get("features") else ""
    return [f"said {figure(facts.get('prediction'))} {about}", f"event {facts.get('position')}{kept}"]


def _decision(facts: dict[str, Any]) -> list[str]:
    worth = facts.get("expected") or {}
    money = worth.get("expected") if isinstance(worth, dict) else None
    thresholds = ", ".join(f"{name} = {value}" for name, value in (facts.get("thresholds") or {}).items())
    return [
        f"rule: {facts['rule']}" if facts.get("rule") else "",
        f"expected {money:,.2f} {worth.get('currency') or ''}".rstrip() if isinstance(money, int | float) else "",
        f"decisions.py: {facts['function']}({thresholds})" if facts.get("function") else "",
        f"bundle {short(facts['bundle'])}" if facts.get("bundle") else "",
    ]


def _version(facts: dict[str, Any]) -> list[str]:
    plain = {
        name: value
        for name, value in (facts.get("metrics") or {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    measured = ", ".join(f"{name} {figure(value)}" for name, value in list(plain.items())[:_MEASURES])
    return [f"{facts.get('kind')} model, {facts.get('format')}, content {short(facts.get('digest'))}", measured]


def _result(facts: dict[str, Any]) -> list[str]:
    rows = facts.get("rows")
    if facts.get("snapshot"):
        what = f"{figure(rows)} rows, snapshot {short(facts['snapshot'])}"
    else:
        what = f"result {short(facts.get('digest'))}"
    by = f", made by run {facts['run']}" if facts.get("run") else ""
    code = {name: digest for name, digest in (facts.get("code") or {}).items() if " " not in digest}
    named = [f"{name} {short(digest)}" for name, digest in sorted(code.items(), key=lambda one: _place(one[0], facts))]
    parameters = ", ".join(f"{name} = {value}" for name, value in (facts.get("parameters") or {}).items())
    files = ", ".join(f"{name} {short(digest)}" for name, digest in (facts.get("files") or {}).items())
    return [
        what + by,
        f"code {some(named, _CODE)}" if named else "",
        f"with {parameters}" if parameters else "",
        f"files {files}" if files else "",
    ]


def _place(name: str, facts: dict[str, Any]) -> tuple[bool, str]:
    """The step's own function first, then what it calls."""
    return name.rpartition(".")[2] != facts.get("name"), name


def _run(facts: dict[str, Any]) -> list[str]:
    git = f"code {short(facts['git'])} in git" if facts.get("git") else "its code was not in git"
    patch = f", with uncommitted changes (patch {short(facts['patch'])})" if facts.get("patch") else ""
    published = f", published as commit {facts['commit']}" if facts.get("commit") else ""
    machine = [facts.get("python"), f"sampan {facts['sampan']}" if facts.get("sampan") else None]
    where = f", root {short(facts['root'])}" if facts.get("root") else ""
    return [
        f"{facts.get('state')}, by {facts.get('by') or 'somebody'} at {facts.get('started')}{published}",
        git + patch,
        ", ".join(str(one) for one in (*machine, facts.get("os"), facts.get("cpu")) if one),
        f"read the log up to {facts['position']}{where}" if facts.get("position") else "",
        f"resumed with other code: {len(facts['mixed'])} differences" if facts.get("mixed") else "",
    ]


def _events(facts: dict[str, Any]) -> list[str]:
    if "known_by" in facts:
        many = f"{figure(facts.get('events', 0))}{' or more' if facts.get('more') else ''}"
        return [f"{many} known by {facts['known_by']}, the newest first"]
    where = f", root {short(facts['root'])}" if facts.get("root") else ""
    return [
        f"{figure(facts.get('events'))} events, content {short(facts.get('digest'))}",
        f"up to log position {facts.get('position')}{where}",
    ]


def _column(facts: dict[str, Any]) -> list[str]:
    whole = f", taken whole: {facts['whole']}" if facts.get("whole") else ""
    return [f"{facts.get('path')}{whole}", f"rows decided by {some(facts['by'], _COLUMNS)}" if facts.get("by") else ""]


def _field(facts: dict[str, Any]) -> list[str]:
    return []


def _event(facts: dict[str, Any]) -> list[str]:
    said = facts.get("data")
    told = ", ".join(f"{name} {value}" for name, value in said.items()) if isinstance(said, dict) else ""
    return [f"{facts.get('time')}, at {facts.get('position')}", told if len(told) <= 150 else told[:149] + "…"]


_TELLERS: Final[dict[str, Callable[[dict[str, Any]], list[str]]]] = {
    "prediction": _prediction,
    "decision": _decision,
    "version": _version,
    "run": _run,
    "events": _events,
    "column": _column,
    "field": _field,
    **dict.fromkeys(("table", "step", "model", "check", "part"), _result),
}
