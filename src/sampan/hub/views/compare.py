"""Logged runs side by side: what differs in them, and plots over all of them. The address holds all that was chosen."""

from typing import Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.hub.compared import METRICS, PARAMS, SYSTEM, Row, boxes, curves, parallel, rows_of, scatter
from sampan.hub.differences import Differences
from sampan.hub.parts import Parts, Query, may
from sampan.hub.plots import Plot
from sampan.hub.saved_views import SavedView, query, saved
from sampan.hub.views.diff import logged_differences
from sampan.hub.views.experiments import chosen_columns, default_columns, experiment_number, line
from sampan.team.roles import LOG
from sampan.track.comparing import MOST
from sampan.track.limits import shown
from sampan.track.records import Run

#: Up to so many runs stand beside each other; more are listed below each other.
BESIDE: Final = 12
_ROWS: Final = 1000
_GROUPS: Final = 30


class ComparedRun(msgspec.Struct):
    """A run that is compared; ``values`` has one for each column."""

    id: str
    name: str
    status: str
    user: str
    started: int
    seconds: float | None
    values: list[float | str | None]


class Comparison(msgspec.Struct, kw_only=True):
    """Context of ``compare.html``. ``rows`` are those that differ, unless ``all`` are asked for; ``alike`` were left
    out for being the same everywhere, ``undrawn`` because there are too many. ``here`` is this page's own query, and
    ``other`` the same with or without what is alike. ``more``: the filter finds more runs than are compared.
    ``made_from``: of two runs, what differs in code, environment and data."""

    id: int
    name: str
    filter: str
    order: str
    picked: list[str]
    columns: list[str]
    chosen: bool
    known: list[str]
    all: bool
    metric: str
    x: str
    by: str
    metrics: list[str]
    params: list[str]
    runs: list[ComparedRun]
    beside: bool
    more: bool
    rows: list[Row]
    alike: int
    undrawn: int
    plots: list[Plot]
    made_from: Differences | None
    views: list[SavedView]
    may_save: bool
    here: str
    other: str


def compare(parts: Parts, query_: Query) -> Comparison:
    """Runs of an experiment side by side: those that are named, or the first that a filter finds."""
    tracking = parts.tracking
    one = tracking.experiments.get(experiment_number(query_))
    filter, order = str(query_.get("filter") or "").strip(), str(query_.get("order") or "").strip()
    named = [id for text in query_.get("run") or [] for id in str(text).split(",") if id]
    more = False
    if named:
        runs = tracking.comparing.runs(named)
        for run in runs:
            if run.experiment != one.id:
                raise NotFound("Compare runs", f"{shown(run.id)} is of experiment {run.experiment}", _ELSEWHERE)
    else:
        page = tracking.search.runs([one.id], filter, orders=[order] if order else [], limit=MOST)
        runs, more = tracking.comparing.runs([run.id for run in page.found]), bool(page.next)
    rows = rows_of(runs)
    differing = [row for row in rows if row.differs]
    wanted = chosen_columns(query_, runs)
    columns = wanted or default_columns(runs)
    everything = query_.get("all") == "1"
    shown_rows = rows if everything else differing
    metric = str(query_.get("metric") or "") or _measured(runs, differing, rows)
    x = str(query_.get("x") or "") or _across(differing, metric)
    by = str(query_.get("by") or "") or _groups(differing, len(runs))
    given: dict[str, Any] = {name: query_.get(name) or "" for name in ("metric", "x", "by")}
    given |= {"run": [run.id for run in runs] if named else [], "filter": filter, "order": order}
    given |= {"columns": ", ".join(wanted), "all": "1" if everything else ""}
    heads = [line(run, columns) for run in runs]
    return Comparison(
        id=one.id,
        name=one.name,
        filter=filter,
        order=order,
        picked=[run.id for run in runs] if named else [],
        columns=columns,
        chosen=bool(wanted),
        known=[row.column for row in rows],
        all=everything,
        metric=metric,
        x=x,
        by=by,
        metrics=[row.name for row in rows if row.kind == METRICS],
        params=[row.name for row in rows if row.kind == PARAMS],
        runs=[ComparedRun(h.id, h.name, h.status, h.user, h.started, h.seconds, h.values) for h in heads],
        beside=len(runs) <= BESIDE,
        more=more,
        rows=shown_rows[:_ROWS],
        alike=len(rows) - len(differing),
        undrawn=max(len(shown_rows) - _ROWS, 0),
        plots=_plots(parts, runs, rows, columns, metric, x, by),
        made_from=logged_differences(parts, *runs) if len(runs) == 2 else None,
        views=saved(one.tags),
        may_save=may(query_, LOG) and one.deleted is None,
        here=query("compare", given),
        other=query("compare", {**given, "all": "" if everything else "1"}),
    )


_ELSEWHERE: Final = "`sampan diff` compares two runs of any experiments."


def _plots(
    parts: Parts, runs: list[Run], rows: list[Row], columns: list[str], metric: str, x: str, by: str
) -> list[Plot]:
    """Curves, points, parallel axes and boxes, as far as there is what they show."""
    at = {row.column: row for row in rows}
    measured = at.get(f"{METRICS}.{metric}")
    if measured is None:
        says = f"None of the runs has a metric {shown(metric)}." if metric else "None of the runs has a metric."
        return [Plot(title=metric or "Metrics", says=says)]
    drawn = parts.tracking.comparing.curves([run.id for run in runs], metric)
    found = [curves(metric, runs, drawn)] if any(len(one.drawn) > 1 for one in drawn.values()) else []
    if (across := at.get(x)) is not None:
        found.append(scatter(across, measured, runs))
    found.append(parallel([at[name] for name in columns if name in at], measured, runs))
    if (groups := at.get(f"{PARAMS}.{by}")) is not None:
        found.append(boxes(groups, measured))
    return found


def _measured(runs: list[Run], *choices: list[Row]) -> str:
    """The metric that is drawn where nobody has chosen: one with steps, if there is one, that most runs have."""
    stepped = {one.key for run in runs for one in run.metrics if one.step}
    for rows in choices:
        fitting = [row for row in rows if row.kind == METRICS and not row.name.startswith(SYSTEM)]
        if fitting:
            return min(fitting, key=lambda row: (row.name not in stepped, row.missing)).name
    return ""


def _across(rows: list[Row], metric: str) -> str:
    """What a metric is drawn against where nobody has chosen: the parameter with most values, or another metric."""
    params = [row for row in rows if row.kind == PARAMS]
    if params:
        return max(params, key=lambda row: row.distinct).column
    metrics = (row for row in rows if row.kind == METRICS and row.name != metric and not row.name.startswith(SYSTEM))
    return next((row.column for row in metrics), "")


def _groups(rows: list[Row], runs: int) -> str:
    """What groups runs where nobody has chosen: the parameter with fewest values, if those are shared."""
    params = [row for row in rows if row.kind == PARAMS and 1 < row.distinct <= min(_GROUPS, runs // 2)]
    return min(params, key=lambda row: row.distinct).name if params else ""
