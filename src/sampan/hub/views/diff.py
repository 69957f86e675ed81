"""What differs between two runs, of the flow or logged: code, environment, data, parameters, metrics."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sampan.base.errors import Damaged, NotFound, Usage
from sampan.flow.plan import stored_of
from sampan.flow.values import decode
from sampan.hub.code_diff import State, code_diff
from sampan.hub.compared import input_rows, inputs_of
from sampan.hub.differences import (
    Change,
    CodeChange,
    DataChange,
    Differences,
    Side,
    changes,
    environments,
    numbers,
    python_of,
    requirements,
)
from sampan.hub.parts import Parts, Query
from sampan.hub.urls import Urls
from sampan.hub.views.experiments import micros
from sampan.runs.explanations import Explanation, Explanations
from sampan.runs.records import Run as FlowRun
from sampan.runs.records import Runs, StepRun
from sampan.track.limits import shown
from sampan.track.records import Run as LoggedRun

_COMMIT: Final = "mlflow.source.git.commit"
_SHORTEST: Final = 4
_FOLDERS: Final = 20
_TEXT: Final = 1_000_000
_LISTS: Final = "`sampan runs list` and /experiments show what there is."


class DiffPage(msgspec.Struct):
    """Context of ``diff.html``. Without two runs it asks for them. ``explained``: the last explanation of these two."""

    before: str
    after: str
    found: Differences | None
    explained: Explanation | None = None


def diff(parts: Parts, query: Query) -> DiffPage:
    """What differs between two runs. Raises NotFound, Usage."""
    before, after = (str(query.get(name) or "").strip() for name in ("before", "after"))
    if not (before and after):
        return DiffPage(before, after, None)
    one, other = _find(parts, before), _find(parts, after)
    if isinstance(one, FlowRun) and isinstance(other, FlowRun):
        explained = Explanations(parts.db).last(one.id, other.id)
        return DiffPage(one.id, other.id, flow_differences(parts, one, other), explained)
    if isinstance(one, LoggedRun) and isinstance(other, LoggedRun):
        return DiffPage(one.id, other.id, logged_differences(parts, one, other))
    attempted = f"Compare {shown(before)} with {shown(after)}"
    raise Usage(attempted, "one is a run of the flow, the other was logged", "Name two of a kind.")


def _find(parts: Parts, text: str) -> FlowRun | LoggedRun:
    """A run by its id, or a beginning of it that no other has. Raises NotFound."""
    attempted = f"Find the run {shown(text)}"
    flow: FlowRun | None = None
    try:
        flow = Runs(parts.db).get(text)
    except NotFound as error:
        if "more than one" in error.obstacle:
            raise
    logged = parts.tracking.comparing.beginning(text) if len(text) >= _SHORTEST else []
    if len(logged) + (flow is not None) > 1:
        raise NotFound(attempted, "more than one run begins so", "Give more of its id.")
    if flow is not None:
        return flow
    if not logged:
        raise NotFound(attempted, "there is none", _LISTS)
    return parts.tracking.runs.get(logged[0])


# -- runs of the flow


def flow_differences(parts: Parts, before: FlowRun, after: FlowRun) -> Differences:
    """What differs between two runs of the flow, by their manifests."""
    pair = (before, after)
    made = [one.manifest.get("steps") or {} for one in pair]
    codes = [{name: step.get("code") for name, step in steps.items() if step.get("code")} for steps in made]
    parameters = [
        {
            f"{name}.{key}": value
            for name, step in steps.items()
            for key, value in (step.get("parameters") or {}).items()
        }
        for steps in made
    ]
    records = Runs(parts.db)
    steps = [records.steps(one.id) for one in pair]
    ended = [one.id for one, known in zip(pair, made, strict=True) if not known]
    notes = {"code": f"Run {ended[0]} did not come to its end: its steps are not recorded."} if ended else {}
    return Differences(
        before=_flow_side(before),
        after=_flow_side(after),
        code=_flow_code(parts, before, after, changes(*codes) if not ended else []),
        environment=changes(*environments(before.manifest, after.manifest)),
        data=[*_events(before, after), *_files(before, after), *_tables(parts, *steps)],
        parameters=changes(*parameters) if not ended else [],
        metrics=changes(*(_flow_metrics(parts, records, one) for one in steps)),
        notes=notes,
    )


def _flow_side(run: FlowRun) -> Side:
    return Side(run.id, "flow", run.target or "everything", run.state, run.started, Urls.run(run.id))


def _flow_code(parts: Parts, before: FlowRun, after: FlowRun, steps: list[Change]) -> CodeChange:
    states, lost = [], ""
    for run in (before, after):
        patch = b""
        if digest := run.manifest.get("patch"):
            try:
                patch = parts.models.blobs.get(str(digest))
            except (NotFound, Damaged):
                lost = f"the uncommitted changes of run {run.id} are no longer at hand"
        states.append(State(run.git or "", patch))
    text, said = ("", "") if states[0] == states[1] else code_diff(parts.folder.root, *states)
    files = changes(*(run.manifest.get("untracked") or {} for run in (before, after)))
    if not all((before.git, after.git)) and not said:  # what was committed in between is neither gone nor new
        files = []  # and the text tells of all others
    return CodeChange(
        before=before.git or "",
        after=after.git or "",
        uncommitted=(bool(before.manifest.get("patch")), bool(after.manifest.get("patch"))),
        steps=steps,
        files=files,
        text=text,
        said=lost or said,
    )


def _events(before: FlowRun, after: FlowRun) -> list[DataChange]:
    read = [one.manifest.get("inputs") or {} for one in (before, after)]
    found = []
    for name in sorted({*read[0], *read[1]}):
        a, b = (one.get(name) or {} for one in read)
        if a.get("digest") != b.get("digest"):
            one = DataChange(name=name, kind="events", before=a.get("digest"), after=b.get("digest"))
            one.rows_before, one.rows_after = a.get("count"), b.get("count")
            found.append(one)
    return found


def _files(before: FlowRun, after: FlowRun) -> list[DataChange]:
    """Files that steps read."""
    a, b = (
        {
            name: digest
            for one in (run.manifest.get("recipes") or {}).values()
            for name, digest in one.get("files", {}).items()
        }
        for run in (before, after)
    )
    return [DataChange(name=one.name, kind="file", before=one.before, after=one.after) for one in changes(a, b)]


def _tables(parts: Parts, before: Sequence[StepRun], after: Sequence[StepRun]) -> list[DataChange]:
    """The tables that came out otherwise, row by row as far as both states are at hand."""
    a, b = (
        {one.name: one.digest for one in steps if one.kind in ("table", "step") and one.digest.startswith("t")}
        for steps in (before, after)
    )
    return [_table(parts, name, a.get(name), b.get(name)) for name in sorted({*a, *b}) if a.get(name) != b.get(name)]


def _table(parts: Parts, name: str, before: str | None, after: str | None) -> DataChange:
    found = DataChange(name=name, kind="table", before=before, after=after)
    try:
        found.rows = parts.lake.diff(name, before, after)
        found.rows_before, found.rows_after = found.rows.rows_before, found.rows.rows_after
    except (NotFound, Damaged) as error:
        found.said = f"its rows cannot be compared: {error.obstacle}"
    return found


def _flow_metrics(parts: Parts, records: Runs, steps: Sequence[StepRun]) -> dict[str, float]:
    """Metrics of the models that a run's steps gave, and the numbers that steps gave as plain values."""
    versions = {one.key: one for one in parts.models.list() if one.key}
    plain = [one for one in steps if one.kind == "step" and one.digest.startswith("v1-")]
    results = records.results([one.key for one in steps if one.kind == "model" or one in plain])
    found: dict[str, float] = {}
    for step in steps:
        if (
            step.kind == "model"
        ):  # a version of the same content is one of another step's key; a result may be cleaned up
            model = stored_of(results[step.key]).model if step.key in results else None
            made = model if model is not None else versions.get(step.key)
            metrics = made.metrics if made is not None else {}
            found |= {f"{step.name}.{name}": value for name, value in numbers("", metrics).items()}
    for step in plain:
        stored = stored_of(results[step.key]) if step.key in results else None
        if stored is not None and stored.inline is not None:
            found |= numbers(step.name, decode(stored.inline))
    return {name.replace("..", "."): value for name, value in found.items()}


# -- logged runs


def logged_differences(parts: Parts, before: LoggedRun, after: LoggedRun) -> Differences:
    """What differs between two logged runs, as far as it was logged."""
    pair = (before, after)
    commits = [one.tags.get(_COMMIT, "") for one in pair]
    places = [_place(parts, one) for one in pair]
    states = [State(commit) for commit in commits]
    text, said = code_diff(parts.folder.root, *states) if commits[0] != commits[1] else ("", "")
    notes = {}
    if not all(commits):
        said, notes["code"] = "", _missing("a commit", pair, commits)
    if not all(places):
        notes["environment"] = _missing("a requirements.txt", pair, places)
    if not all(one.inputs for one in pair):
        notes["data"] = _missing("a dataset", pair, [one.inputs for one in pair])
    sources = [{name: one.tags[name] for name in _SOURCE if name in one.tags} for one in pair]
    metrics = [{one.key: one.value for one in run.metrics} for run in pair]
    return Differences(
        before=_logged_side(before),
        after=_logged_side(after),
        code=CodeChange(before=commits[0], after=commits[1], files=changes(*sources), text=text, said=said),
        environment=changes(*places) if all(places) else [],
        data=_datasets(parts, before, after),
        parameters=changes(before.params, after.params),
        metrics=changes(*metrics),
        notes=notes,
    )


_SOURCE: Final[tuple[str, ...]] = ("mlflow.source.name", "mlflow.source.git.repoURL", "mlflow.source.git.branch")


def _logged_side(run: LoggedRun) -> Side:
    address = Urls.logged_run(run.experiment, run.id)
    return Side(run.id, "logged", run.name, run.status.lower(), micros(run.started), address)


def _missing(what: str, pair: tuple[LoggedRun, LoggedRun], there: Sequence[Any]) -> str:
    names = [run.name for run, one in zip(pair, there, strict=True) if not one]
    return f"Neither run has {what}." if len(names) == 2 else f"{names[0]} has not logged {what}."


def _place(parts: Parts, run: LoggedRun) -> dict[str, str]:
    """Packages and Python as the run's artifacts, or those of the models that it made, name them."""
    found: dict[str, str] = {}
    for owner in (run.id, *dict.fromkeys(link.model for link in run.made)):
        try:
            files = parts.tracking.artifacts.list(owner)
        except NotFound:
            continue
        for folder in [one.path for one in files if one.is_folder][:_FOLDERS]:
            files += parts.tracking.artifacts.list(owner, folder)
        for file in files:
            name = file.path.rpartition("/")[2]
            if file.size is None or file.size > _TEXT or name not in ("requirements.txt", "python_env.yaml"):
                continue
            try:
                text = parts.tracking.artifacts.location(file).read_text("utf-8", "replace")
            except OSError:
                continue
            if name == "requirements.txt":
                found = requirements(text) | found
            elif python := python_of(text):
                found.setdefault("python", python)
    return found


def _datasets(parts: Parts, before: LoggedRun, after: LoggedRun) -> list[DataChange]:
    a, b = inputs_of(before), inputs_of(after)
    rows = [input_rows(one) for one in (before, after)]
    found = []
    for name in sorted({*a, *b}):
        if a.get(name) == b.get(name):
            continue
        one = DataChange(name=name, kind="dataset", before=a.get(name), after=b.get(name))
        if one.before and one.after and parts.lake.present(one.before) and parts.lake.present(one.after):
            one = msgspec.structs.replace(_table(parts, name, one.before, one.after), kind="dataset")
        one.rows_before = one.rows_before if one.rows_before is not None else rows[0].get(name)
        one.rows_after = one.rows_after if one.rows_after is not None else rows[1].get(name)
        found.append(one)
    return found
