"""What came of a model's suite, as the pages of its versions show it."""

from collections.abc import Mapping, Sequence
from functools import cache

import msgspec

from sampan.base.errors import SampanError
from sampan.hub.parts import Parts
from sampan.lake.history import MAIN
from sampan.models.suites import parse
from sampan.models.tests import Report, SuiteResult, SuiteResults, suite_path, suite_state


class Ran(msgspec.Struct):
    """A time that a suite was run against a version."""

    passed: bool
    failing: list[str]
    tests: int
    rows: int
    seen: int | None
    table: str
    data: dict[str, str]
    suite: str
    seconds: float
    actor: str
    created: int


class Tested(msgspec.Struct, kw_only=True):
    """Where a version stands. ``newest``: the report of the last time, ``stale`` or not; ``unread``: why the suite of
    now cannot be read; ``has_suite``: whether there is one now."""

    state: str
    said: str
    names: list[str]
    newest: Report | None
    history: list[Ran]
    has_suite: bool
    unread: str = ""


def tested(parts: Parts, ref: str, then: int | None) -> Tested:
    """What is known of a version and its suite, or was at an instant."""
    results, root = SuiteResults(parts.db), parts.folder.root
    model, _, number = ref.rpartition("@")
    found = suite_state(results, root, ref, lambda: parts.lake.names(parts.lake.ref_at(MAIN, then)), then)
    path, unread = suite_path(root, model), ""
    if then is None and path.is_file():
        try:
            parse(path.read_bytes(), f"suites/{model}.toml")
        except SampanError as error:
            unread = error.obstacle
    return Tested(
        state=found.state,
        said=found.said,
        names=list(found.names),
        newest=found.result.report if found.result is not None else None,
        history=[_ran(one) for one in results.list(model, int(number), then)],
        has_suite=path.is_file(),
        unread=unread,
    )


def standings(parts: Parts, refs: Sequence[str], then: int | None) -> dict[str, str]:
    """Where each of many versions stands, in a word."""

    @cache
    def tables() -> Mapping[str, str]:
        return parts.lake.names(parts.lake.ref_at(MAIN, then))

    return SuiteResults(parts.db).standings(parts.folder.root, refs, tables, then)


def _ran(one: SuiteResult) -> Ran:
    told = one.report
    return Ran(
        one.passed,
        list(one.failing),
        len(told.outcomes),
        told.rows,
        told.seen,
        told.table,
        one.data,
        one.suite,
        told.seconds,
        one.actor,
        one.created,
    )
