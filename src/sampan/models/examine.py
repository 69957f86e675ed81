"""Asks a version what its suite demands, on the rows of a table. Runs in a process of its own: it loads a model.

``python -m sampan.models.examine`` reads an errand on its standard input and writes what it found, or the error.
"""

import os
import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from sampan.base.errors import Damaged, SampanError
from sampan.lake.query import TableSource
from sampan.models.asked import Asked, Bools, Floats
from sampan.models.formats import load
from sampan.models.measures import higher
from sampan.models.suites import Case, Direction, Invariance, Minimum, Perturbation, Suite, case_name
from sampan.models.tests import FAILED, PASSED, SHORT, Outcome, Shown, State
from sampan.models.version import Version
from sampan.store.blobs import Blobs

_WORST: Final = 5
_NOTHING: Final = 1e-9  # a change so small is none: sums come out otherwise in the last digits


class Errand(msgspec.Struct, kw_only=True):
    """What to ask. ``sources``: the tables that the suite reads; ``trained``: the one that the version was trained on,
    as it was; ``same``: it is the ``table`` itself; ``group``: the column that tells the lists of a ranking apart."""

    version: Version
    blobs: str
    suite: Suite
    sources: dict[str, TableSource]
    trained: TableSource | None = None
    same: bool = False
    table: str = ""
    target: str = ""
    group: str = ""


class Examined(msgspec.Struct):
    """What came of it: rows in all, those of them that the version was trained on, and each test."""

    rows: int = 0
    seen: int | None = None
    outcomes: tuple[Outcome, ...] = ()


class Answer(msgspec.Struct):
    """What the process says: one of the two."""

    found: Examined | None = None
    error: dict[str, str] | None = None


def examine(errand: Errand) -> Examined:
    """Run all tests of a suite. Raises BadQuery for SQL that does not run, Usage for what the version cannot be asked,
    Damaged for files that are not those that were frozen."""
    predictor = load(errand.version, Blobs(Path(errand.blobs)))
    asked = Asked(
        errand.version, predictor, errand.sources, errand.table, errand.target, errand.group, errand.suite.where
    )
    suite, outcomes = errand.suite, []
    with asked:
        if suite.on_rows:
            asked.read(errand.trained, errand.same, unseen=suite.unseen, truth=suite.measured)
        if suite.minimum:
            outcomes += _metrics(asked, "minimum", "minimum", asked.alive, suite.minimum, suite.min_rows)
        for part in suite.slice:
            mask = asked.where(part.name, part.where)
            enough = part.min_rows or suite.min_rows
            outcomes += _metrics(asked, part.name, "slice", mask, part.minimum, enough)
        outcomes += [_change(asked, one, one.min_rows or suite.min_rows) for one in suite.changes]
        outcomes += [_case(asked, one, case_name(one, at)) for at, one in enumerate(suite.case)]
        return Examined(int(asked.alive.sum()), asked.count_seen(asked.alive), tuple(outcomes))


# -- metrics on the whole and on slices


def _metrics(asked: Asked, name: str, kind: str, part: Bools, minimum: Minimum, enough: int) -> list[Outcome]:
    """One test for each metric of a part of the rows; only rows whose truth is known count."""
    mask = part & asked.known
    rows, seen = int(mask.sum()), asked.count_seen(mask)
    asked.check_metrics(name, minimum)
    odd = mask & ~asked.finite
    figures = asked.figures(mask) if rows >= enough and not odd.any() else {}
    outcomes = []
    for metric, bound in minimum.items():
        low = higher(metric) is False
        demand = f"at {'most' if low else 'least'} {bound:g}"
        figure, said = figures.get(metric), ""
        state: State = FAILED
        if rows < enough:
            state, said = SHORT, f"{rows:,} rows whose outcome is known, where {enough:,} are wanted"
        elif odd.any():
            said = f"{int(odd.sum()):,} of {rows:,} rows got no finite prediction"
        elif figure is None:
            state, said = SHORT, f"{metric} is not defined on these rows, for instance because all had one outcome"
        elif figure <= bound if low else figure >= bound:
            state = PASSED
        worst = odd if odd.any() else mask
        cases = asked.worst(worst, asked.loss, _WORST) if state == FAILED else ()
        outcomes.append(
            Outcome(
                name=f"{name} {metric}",
                kind=kind,
                state=state,
                figure=figure,
                demand=demand,
                rows=rows,
                seen=seen,
                said=said,
                cases=cases,
            )
        )
    return outcomes


# -- what a change of the inputs does


def _change(asked: Asked, one: Perturbation | Invariance | Direction, enough: int) -> Outcome:
    """One change of the rows. Only rows that it makes different count: others would hold whatever the model does."""
    changed = asked.changed(one.name, one.set, one.where)
    before, after = asked.predicted[changed.rows], changed.predicted
    if isinstance(one, Direction):
        place = asked.place(one.name, one.of)
        moved = (after - before)[:, place] * (1 if one.must_not == "rise" else -1)
        by = f" by more than {one.tolerance:g}" if one.tolerance > _NOTHING else ""
        bound, word, kind = one.tolerance, f"must not {one.must_not}{by}", "direction"
    else:
        moved = np.abs(after - before).max(axis=1) if len(after) else np.zeros(0)
        bound = one.max_change if isinstance(one, Perturbation) else one.tolerance
        kind = "perturbation" if isinstance(one, Perturbation) else "invariance"
        word = f"change by at most {bound:g}" if bound > _NOTHING else "must not change"
    held = np.nan_to_num(moved, nan=np.inf) <= bound + 1e-12
    rows, share = len(moved), float(held.mean()) if len(moved) else None
    state: State = SHORT if share is None or rows < enough else PASSED if share >= one.share else FAILED
    few = f"{rows:,} rows that it makes different, where {enough:,} are wanted"
    return Outcome(
        name=one.name,
        kind=kind,
        state=state,
        figure=share,
        demand=f"{_percent(one.share)} of rows {word}",
        rows=rows,
        seen=asked.count_seen(changed.rows),
        said=few if state == SHORT else _moved(moved, held),
        cases=asked.worst_changes(changed, moved, ~held, _WORST) if state == FAILED else (),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.6g} %" if share < 1 else "all"


def _moved(moved: Floats, held: Bools) -> str:
    lost = int((~np.isfinite(moved)).sum())
    if lost:
        return f"{lost:,} rows got no finite prediction"
    most = max(float(moved.max()), 0.0)
    return f"{int((~held).sum()):,} of {len(held):,} rows did not hold; the most it moved is {most:.4g}"


# -- cases that are remembered


def _case(asked: Asked, case: Case, name: str) -> Outcome:
    """A case that does not fit the version's inputs any more is no pass, and no failure either."""
    features = {key: None if value != value else value for key, value in case.features.items()}
    predicted, errors = asked.predict([features])
    demand = ", ".join(_demands(case))
    if errors:
        return Outcome(name=name, kind="case", state=SHORT, demand=demand, said=f"cannot be asked: {errors[0]}")
    output = predicted[0]
    said = list(_broken(asked, case, name, output))
    shown, finite = asked.plain(output), np.isfinite(output).all()
    by_label = case.class_ is not None or isinstance(shown, dict)
    figure = None if not finite else str(asked.label(output)) if by_label else float(output[0])
    state: State = FAILED if said else PASSED
    cases = (Shown(features, shown, said="; ".join(said)),) if state == FAILED else ()
    source = f" ({case.source})" if case.source else ""
    return Outcome(
        name=name,
        kind="case",
        state=state,
        figure=figure,
        demand=demand,
        rows=1,
        said=f"{case.reason}{source}",
        cases=cases,
    )


def _demands(case: Case) -> list[str]:
    of = f" for {case.of}" if case.of is not None else ""
    bounds = {"at least": case.at_least, "at most": case.at_most, "equal to": case.equals}
    found = [f"{word} {bound:g}{of}" for word, bound in bounds.items() if bound is not None]
    return [*found, *([f"class {case.class_}"] if case.class_ is not None else [])]


def _broken(asked: Asked, case: Case, name: str, output: Floats) -> list[str]:
    """What of a case's demands does not hold."""
    found = []
    if not np.isfinite(output).all():
        return ["the prediction is not a finite number"]
    if case.class_ is not None:
        wanted, label = asked.known_label(name, case.class_), asked.label(output)
        if wanted != label:
            found.append(f"class {label}, not {wanted}")
    if case.at_least is None and case.at_most is None and case.equals is None:
        return found
    asked.check_bounds(name, (case.at_least, case.at_most, case.equals))
    value = float(output[asked.place(name, case.of)])
    if case.at_least is not None and value < case.at_least:
        found.append(f"{value:.4g} is less than {case.at_least:g}")
    if case.at_most is not None and value > case.at_most:
        found.append(f"{value:.4g} is more than {case.at_most:g}")
    if case.equals is not None and abs(value - case.equals) > case.tolerance:
        found.append(f"{value:.6g} is not {case.equals:g}")
    return found


def main() -> None:
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answer
    said = Answer()
    try:
        said.found = examine(msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Errand))
    except SampanError as failed:
        said.error = failed.body()["error"]
    except Exception as failed:  # noqa: BLE001 - the edge of this process; the caller turns it into a message
        said.error = Damaged("Run a suite", f"{type(failed).__name__}: {failed}").body()["error"]
    with answer:
        answer.write(msgspec.msgpack.encode(said))


if __name__ == "__main__":
    main()
