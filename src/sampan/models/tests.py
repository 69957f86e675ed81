"""Results of a model's suite: what a version was asked, on which data, and whether it held. Rows are only ever added.

A suite is a file of the workspace, ``suites/MODEL.toml``. A result says by digests which text of it was run, and on
which snapshots of which tables, so that it can be told later whether it still speaks of what is there now.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgspec

from sampan.base.clock import Clock
from sampan.base.digests import digest_file
from sampan.base.errors import NotFound
from sampan.base.ids import new_id
from sampan.store.database import Database

State: TypeAlias = Literal["passed", "failed", "not enough evidence"]
PASSED: Final = "passed"
FAILED: Final = "failed"
SHORT: Final = "not enough evidence"
Tables: TypeAlias = Callable[[], Mapping[str, str]]
"""Gives the snapshot of each table."""
_EVER: Final = 1 << 62


class Shown(msgspec.Struct, frozen=True):
    """A row that did not hold: its features, the prediction; of a changed row the changed features and its prediction,
    where the truth is known that, and why it did not hold."""

    features: dict[str, Any]
    prediction: Any
    changed: dict[str, Any] = {}
    then: Any = None
    truth: Any = None
    said: str = ""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one test. ``figure`` is held against ``demand``, on ``rows`` rows, ``seen`` of which the version was
    trained on (None: not known). ``cases``: the worst of those that did not hold."""

    name: str
    kind: str
    state: State
    figure: float | str | None = None
    demand: str
    rows: int = 0
    seen: int | None = None
    said: str = ""
    cases: tuple[Shown, ...] = ()


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a suite. ``data``: snapshot of each table that was read; ``table``: on ``branch`` the
    one that holds the rows, ``rows`` in all, ``seen`` of them those that the version was trained on."""

    ref: str
    suite: str
    path: str
    branch: str = "main"
    table: str = ""
    target: str = ""
    where: str = ""
    rows: int = 0
    seen: int | None = None
    data: dict[str, str] = {}
    outcomes: tuple[Outcome, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every test held; one without enough evidence did not."""
        return bool(self.outcomes) and all(one.state == PASSED for one in self.outcomes)

    @property
    def failing(self) -> tuple[str, ...]:
        """Names of the tests that did not hold, those without enough evidence among them."""
        return tuple(one.name for one in self.outcomes if one.state != PASSED)


class SuiteResult(msgspec.Struct, frozen=True):
    """One run of a suite as it was written down. ``suite``: digest of its file; ``data``: table → snapshot."""

    id: str
    model: str
    number: int
    suite: str
    data: dict[str, str]
    passed: bool
    failing: tuple[str, ...]
    report: Report
    actor: str
    created: int

    @property
    def ref(self) -> str:
        return f"{self.model}@{self.number}"


class SuiteState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version stands with the suite of its model, as it is now.

    ``state``: ``none`` (the model has no suite), ``untested`` (the version was never asked), ``stale`` (suite or data
    are not those of the newest result: ``names`` are ``suite`` and the tables), ``failed`` (``names``: the tests),
    ``passed``. ``result`` is the newest that is of suite and data as they are, else the newest. ``said`` is a sentence
    for people.
    """

    state: Literal["none", "untested", "stale", "failed", "passed"]
    names: tuple[str, ...] = ()
    said: str = ""
    result: SuiteResult | None = None


class SuiteResults:
    """The results of a workspace's versions. Writing needs the writable records."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, report: Report, *, actor: str, clock: Clock) -> SuiteResult:
        """Write a result down."""
        model, _, number = report.ref.rpartition("@")
        facts = (report.suite, report.data, report.passed, report.failing)
        made = SuiteResult(new_id(clock), model, int(number), *facts, report, actor, clock.micros())
        plain = {name: getattr(made, name) for name in SuiteResult.__struct_fields__}
        row = [_text(value) if name in _ENCODED else value for name, value in plain.items()]
        with self._db.transaction() as records:
            records.execute(f"INSERT INTO suite_results VALUES ({', '.join('?' * len(row))})", row)
        return made

    def list(self, model: str, number: int, by: int | None = None, limit: int = 20) -> Sequence[SuiteResult]:
        """Results of a version, the newest first; ``by``: those that there were at that instant."""
        rows = self._db.rows(
            "SELECT * FROM suite_results WHERE model = ? AND number = ? AND created <= ?"
            " ORDER BY created DESC, rowid DESC LIMIT ?",
            (model, number, _EVER if by is None else by, limit),
        )
        return [_result(row) for row in rows]

    def standings(self, root: Path, refs: Iterable[str], tables: Tables, by: int | None = None) -> dict[str, str]:
        """The state of each of many versions in a word, as ``suite_state`` tells it of one."""
        rows = self._db.rows(
            "SELECT model, number, suite, data, passed, max(rowid) FROM suite_results WHERE created <= ?"
            " GROUP BY model, number, suite, data ORDER BY max(rowid) DESC",
            (_EVER if by is None else by,),
        )
        results: dict[str, list[Any]] = {}
        for row in rows:
            results.setdefault(f"{row['model']}@{row['number']}", []).append(row)
        digests: dict[str, str] = {}
        found = {}
        for ref in refs:
            model, known = ref.rpartition("@")[0], results.get(ref, [])
            if model not in digests:
                digests[model] = suite_digest(root, model)
            if not digests[model] and (by is None or not known):
                found[ref] = "none"
            elif not known:
                found[ref] = "untested"
            else:
                told = ((row, msgspec.json.decode(row["data"])) for row in known)
                fits = (row for row, data in told if not _changed(row["suite"], data, digests[model], tables, by))
                fit = next(fits, None)
                found[ref] = "stale" if fit is None else PASSED if fit["passed"] else FAILED
        return found

    def fitting(self, ref: str, suite: str, tables: Tables, by: int | None = None) -> SuiteResult | None:
        """The newest result of a version that its suite and data are still as they were for; else the newest."""
        model, _, number = ref.rpartition("@")
        known = self.list(model, int(number), by, limit=100)
        fits = (one for one in known if not _changed(one.suite, one.data, suite, tables, by))
        return next(fits, known[0] if known else None)


def suite_path(root: Path, model: str) -> Path:
    """Where the suite of a model is, or would be: its name is a plain one, so it leads nowhere else."""
    return root / "suites" / f"{model}.toml"


def suite_digest(root: Path, model: str) -> str:
    """The digest of the text of a model's suite; empty without one."""
    with suppress(OSError):
        return digest_file(suite_path(root, model))
    return ""


def suite_state(results: SuiteResults, root: Path, ref: str, tables: Tables, by: int | None = None) -> SuiteState:
    """Where a version stands; ``tables`` gives the snapshot of each table that a suite reads now.

    ``by``: where it stood at an instant. What its suite said then is not known: only data may have changed since.
    """
    model = ref.rpartition("@")[0]
    now = suite_digest(root, model)
    newest = results.fitting(ref, now, tables, by)
    if not now and (by is None or newest is None):
        return SuiteState(state="none", said=f"{model} has no suite: suites/{model}.toml would be it.", result=newest)
    if newest is None:
        return SuiteState(state="untested", said=f"{ref} was never tested: `sampan model test {ref}`.")
    changed = _changed(newest.suite, newest.data, now, tables, by)
    if changed:
        what = " and ".join(f"the table {name}" if name != "suite" else "the suite" for name in changed)
        said = f"{what[0].upper()}{what[1:]} changed since: `sampan model test {ref}`."
        return SuiteState(state="stale", names=tuple(changed), said=said, result=newest)
    if not newest.passed:
        said = f"Did not hold: {', '.join(newest.failing) or 'it has no tests'}."
        return SuiteState(state="failed", names=newest.failing, said=said, result=newest)
    count = len(newest.report.outcomes)
    said = f"All {count} tests hold." if count > 1 else "Its one test holds."
    return SuiteState(state="passed", said=said, result=newest)


def _changed(suite: str, data: Mapping[str, str], now: str, tables: Tables, by: int | None) -> list[str]:
    """What is not any more as it was for a result: ``suite``, and names of tables."""
    changed = ["suite"] if by is None and now != suite else []
    if data:
        there: Mapping[str, str] = {}
        with suppress(NotFound):  # there was no commit yet
            there = tables()
        changed += [name for name, snapshot in data.items() if there.get(name) != snapshot]
    return changed


_ENCODED: Final = ("data", "failing", "report")


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _result(row: Any) -> SuiteResult:
    values = {name: row[name] for name in SuiteResult.__struct_fields__}
    values |= {name: msgspec.json.decode(row[name]) for name in _ENCODED}
    return msgspec.convert({**values, "passed": bool(row["passed"])}, SuiteResult)
