"""Experiments and their logged runs: a list with columns to choose and a filter, a run with curves and artifacts."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import msgspec

from sampan.base.errors import NotFound
from sampan.base.ids import whole
from sampan.hub.charts import Chart, Series
from sampan.hub.compared import inputs_of
from sampan.hub.parts import Parts, Query, may
from sampan.hub.saved_views import SavedView, saved
from sampan.hub.saved_views import query as saved_query
from sampan.runs.records import Runs as FlowRuns
from sampan.team.roles import LOG
from sampan.track.limits import shown
from sampan.track.records import Curve, Input, Run
from sampan.track.spool import RUN_TAG, STEP_TAG

PER_PAGE: Final = 100
_COLUMNS: Final = 6  # of each kind, where nobody has chosen
_SAID: Final = ("metrics.", "params.", "tags.", "inputs.")  # in which order a name alone is looked for
_MOST_COLUMNS: Final = 40
_DRAWN: Final = 24
_SYSTEM: Final = "system/"
_PARENT: Final = "mlflow.parentRunId"
_NOTE: Final = "mlflow.note.content"
_SCALED: Final = 1000
_FARTHEST: Final = 2**62  # microseconds; clients may say any time, and JSON holds 64 bits


class ExperimentLine(msgspec.Struct):
    """An experiment in the list. Instants are microseconds since 1970."""

    id: int
    name: str
    runs: int
    newest: int | None
    tags: dict[str, str]


class ExperimentList(msgspec.Struct):
    """Context of ``experiments.html``."""

    experiments: list[ExperimentLine]


class LoggedLine(msgspec.Struct):
    """A run in the list; ``values`` has one for each column."""

    id: str
    name: str
    status: str
    user: str
    started: int
    seconds: float | None
    parent: str
    values: list[float | str | None]


class ExperimentPage(msgspec.Struct):
    """Context of ``experiment.html``. ``columns`` are shown; ``known`` are those that the runs of this page have;
    ``here`` is its own query, without the page that it has come to."""

    id: int
    name: str
    tags: dict[str, str]
    deleted: bool
    filter: str
    order: str
    columns: list[str]
    chosen: bool
    known: list[str]
    runs: list[LoggedLine]
    next: str
    views: list[SavedView]
    may_save: bool
    here: str


class MetricLine(msgspec.Struct):
    """A metric of a run: its newest value, and how many there are."""

    name: str
    value: float
    step: int
    points: int


class ArtifactLine(msgspec.Struct):
    """A file or a folder; ``address`` is where the file can be fetched, empty for a folder."""

    path: str
    bytes: int | None
    address: str


class LoggedRun(msgspec.Struct, kw_only=True):
    """Context of ``logged_run.html``. ``folder``: the one whose artifacts are listed; ``flow_run``: the run of the flow
    whose step logged it, if one did."""

    id: str
    name: str
    experiment: int
    experiment_name: str
    status: str
    deleted: bool
    user: str
    started: int
    ended: int | None
    seconds: float | None
    note: str
    params: dict[str, str]
    metrics: list[MetricLine]
    charts: list[Chart]
    undrawn: int
    tags: dict[str, str]
    inputs: list[Input]
    models: list[str]
    parent: str
    children: list[LoggedLine]
    folder: str
    artifacts: list[ArtifactLine]
    flow_run: str = ""
    step: str = ""


def experiments(parts: Parts, query: Query) -> ExperimentList:
    """Experiments, the one with the newest run first."""
    tracking = parts.tracking
    activity = tracking.experiments.activity()
    found = [
        ExperimentLine(
            one.id,
            one.name,
            activity.get(one.id, (0, 0))[0],
            micros(activity[one.id][1]) if one.id in activity else None,
            one.tags,
        )
        for one in tracking.search.experiments(limit=1000).found
    ]
    return ExperimentList(sorted(found, key=lambda one: -(one.newest or 0)))


def experiment(parts: Parts, query: Query) -> ExperimentPage:
    """The runs of an experiment: those that a filter finds, in an order, with the columns that were chosen."""
    tracking = parts.tracking
    one = tracking.experiments.get(experiment_number(query))
    filter, order = str(query.get("filter") or "").strip(), str(query.get("order") or "").strip()
    page = tracking.search.runs(
        [one.id],
        filter,
        orders=[order] if order else [],
        limit=PER_PAGE,
        token=str(query.get("after") or ""),
    )
    runs: list[Run] = page.found
    wanted = chosen_columns(query, runs)
    columns = wanted or default_columns(runs)
    return ExperimentPage(
        one.id,
        one.name,
        one.tags,
        one.deleted is not None,
        filter,
        order,
        columns,
        bool(wanted),
        _known(runs),
        [line(run, columns) for run in runs],
        page.next,
        saved(one.tags),
        may(query, LOG) and one.deleted is None,
        saved_query("", {"filter": filter, "order": order, "columns": ", ".join(wanted)}),
    )


def logged_run(parts: Parts, query: Query) -> LoggedRun:
    """A logged run: parameters, metrics and their curves, inputs, artifacts."""
    tracking = parts.tracking
    run = tracking.runs.get(str(query["run"]))
    if run.experiment != experiment_number(query):
        raise NotFound("Look at a logged run", f"{shown(run.id)} is of experiment {run.experiment}")
    points = tracking.runs.points(run.id)
    several = sorted((name for name, count in points.items() if count > 1), key=lambda name: (_system(name), name))
    folder = str(query.get("path") or "").strip("/")
    children = tracking.search.runs([run.experiment], f"tags.`{_PARENT}` = '{run.id}'", limit=PER_PAGE).found
    return LoggedRun(
        id=run.id,
        name=run.name,
        experiment=run.experiment,
        experiment_name=tracking.experiments.get(run.experiment).name,
        status=run.status,
        deleted=run.deleted is not None,
        user=_user(run),
        started=micros(run.started),
        ended=None if run.ended is None else micros(run.ended),
        seconds=_took(run),
        note=run.tags.get(_NOTE, ""),
        params=dict(sorted(run.params.items())),
        metrics=[
            MetricLine(metric.key, metric.value, metric.step, points.get(metric.key, 1))
            for metric in sorted(run.metrics, key=lambda metric: (_system(metric.key), metric.key))
        ],
        charts=[_chart(name, tracking.runs.curve(run.id, name)) for name in several[:_DRAWN]],
        undrawn=len(several[_DRAWN:]),
        tags={name: value for name, value in sorted(run.tags.items()) if name != _NOTE},
        inputs=run.inputs,
        models=list(dict.fromkeys(link.model for link in run.made)),
        parent=run.tags.get(_PARENT, ""),
        children=[line(child, []) for child in children],
        folder=folder,
        artifacts=[
            ArtifactLine(file.path, file.size, "" if file.is_folder else _address(run, file.path))
            for file in tracking.artifacts.list(run.id, folder)
        ],
        flow_run=_flow_run(parts, run),
        step=run.tags.get(STEP_TAG, ""),
    )


def _flow_run(parts: Parts, run: Run) -> str:
    """The flow's run that a logged run names, if there is one: anybody may write a tag."""
    with suppress(NotFound):
        return FlowRuns(parts.db).get(run.tags.get(RUN_TAG, "")).id
    return ""


def experiment_number(query: Query) -> int:
    """The number of the experiment that an address names. Raises NotFound."""
    text = str(query["experiment"])
    found = whole(text)
    if found is None:
        raise NotFound("Look at an experiment", f"{shown(text)} is no experiment's number", "/experiments lists them.")
    return found


def _system(name: str) -> bool:
    return name.startswith(_SYSTEM)


def _user(run: Run) -> str:
    """Who says to have logged it; clients that do not know say ``unknown``."""
    return run.tags.get("mlflow.user") or ("" if run.user == "unknown" else run.user)


def micros(millis: int) -> int:
    """A client's milliseconds as microseconds that JSON can hold."""
    return max(-_FARTHEST, min(millis * _SCALED, _FARTHEST))


def _took(run: Run) -> float | None:
    return None if run.ended is None else (run.ended - run.started) / _SCALED


def line(run: Run, columns: Iterable[str]) -> LoggedLine:
    """A run as lists show it."""
    metrics = {metric.key: metric.value for metric in run.metrics}
    values: list[float | str | None] = []
    for column in columns:
        kind, _, name = column.partition(".")
        sources: dict[str, dict[str, Any]] = {"metrics": metrics, "params": run.params, "tags": run.tags}
        if kind == "inputs":
            sources[kind] = inputs_of(run)
        values.append(sources.get(kind, {}).get(name))
    parent = run.tags.get(_PARENT, "")
    return LoggedLine(run.id, run.name, run.status, _user(run), micros(run.started), _took(run), parent, values)


def _known(runs: Iterable[Run]) -> list[str]:
    """What runs have, what most of them have first."""
    found: Counter[str] = Counter()
    for run in runs:
        found.update(f"metrics.{metric.key}" for metric in run.metrics)
        found.update(f"params.{name}" for name in run.params)
        found.update(f"tags.{name}" for name in run.tags if not name.startswith("mlflow."))
    return [name for name, _ in sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))]


def chosen_columns(query: Query, runs: list[Run]) -> list[str]:
    """The columns that an address names; ``auc`` alone is ``metrics.auc`` where a run has that, else the parameter."""
    wanted = (name.strip() for name in str(query.get("columns") or "").split(","))
    names = [name for name in dict.fromkeys(wanted) if name][:_MOST_COLUMNS]
    if all(name.startswith(_SAID) for name in names):
        return names
    known = frozenset(_known(runs))
    whole = (next((f"{kind}{name}" for kind in _SAID if f"{kind}{name}" in known), name) for name in names)
    return list(dict.fromkeys(whole))


def default_columns(runs: list[Run]) -> list[str]:
    """What is shown where nobody has chosen: metrics, and the parameters that are not the same in all runs."""
    known = _known(runs)
    metrics = [name for name in known if name.startswith("metrics.") and not _system(name[8:])]
    params = [name for name in known if name.startswith("params.")]
    differing = [name for name in params if len({run.params.get(name[7:]) for run in runs}) > 1]
    return [*metrics[:_COLUMNS], *(differing or params)[:_COLUMNS]]


def _chart(name: str, curve: Curve) -> Chart:
    values = [value for _, value in curve.drawn]
    says = "It has no value that can be drawn."
    if values:
        low, high, last = (f"{value:,.6g}".replace("-", "−") for value in (min(values), max(values), values[-1]))
        says = f"{curve.points:,} values, from {low} to {high}, the last {last}."
    if curve.odd and values:
        says += f" {curve.odd:,} are infinite or no number, and not drawn."
    if curve.points - curve.odd > len(curve.drawn):
        says += " Of each stretch the lowest and the highest value are drawn."
    return Chart(
        title=name,
        says=says,
        x=[f"{place / _SCALED:g}" if curve.timed else str(place) for place, _ in curve.drawn],
        x_name="seconds" if curve.timed else "step",
        series=[Series(name=name, y=list(values))],
        numbered=True,
        digits=6,
    )


def _address(run: Run, path: str) -> str:
    return f"/api/2.0/mlflow-artifacts/artifacts/{run.experiment}/{run.id}/artifacts/{quote(path)}"
