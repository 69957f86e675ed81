"""A run as OpenLineage tells it (spec 2-0-2): a job for the flow, one for each step within it, what they read and made.

The beginnings are sent as they happen, the ends when the run has ended: what a step made counts only once the run has
published it, and a run that a check held back made nothing that anybody should find. A branch is a namespace of its
own, so that nobody takes a trial's tables for main's; events are those of the log, which does not branch.
"""

import subprocess
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from sampan import __version__
from sampan.base.clock import Clock, iso
from sampan.base.errors import NotFound
from sampan.flow.columns import ALL, Columns
from sampan.flow.graph import CHECK, MODEL, Node
from sampan.flow.outcome import Progress
from sampan.flow.plan import FAILED, RAN, WARNED
from sampan.flow.workspace import Workspace
from sampan.lake.history import MAIN
from sampan.runs.records import INTERRUPTED, RUNNING, SUCCEEDED, Run, Runs, StepRun

if TYPE_CHECKING:
    from sampan.lake.lake import Lake, Snapshot

PRODUCER: Final = f"https://github.com/sampan-ml/sampan/tree/v{__version__}"
_SPEC: Final = "https://openlineage.io/spec"
_EVENT: Final = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FLOW: Final = "flow"
_TABLE: Final = "t1-"
_MESSAGE: Final = 2_000
#: What the spec calls each facet, and in which of its versions.
_FACETS: Final = {
    "parent": "1-2-0/ParentRunFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "processing_engine": "1-1-1/ProcessingEngineRunFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "sourceCodeLocation": "1-1-0/SourceCodeLocationJobFacet",
    "sql": "1-1-0/SQLJobFacet",
    "schema": "1-2-0/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "datasetType": "1-0-1/DatasetTypeDatasetFacet",
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
}
_ENDS: Final = {SUCCEEDED: "COMPLETE", RAN: "COMPLETE", WARNED: "COMPLETE", FAILED: "FAIL", INTERRUPTED: "ABORT"}
_DONE: Final = (RAN, WARNED, FAILED)


class Sender(Protocol):
    """Whoever takes events; it must not wait or raise."""

    def send(self, event: Mapping[str, Any]) -> None: ...


class Story:
    """What one run does, sent as it is heard. ``columns`` reads where columns come from; it is asked at the end."""

    def __init__(
        self, sender: Sender, namespace: str, runs: Runs, lake: "Lake", clock: Clock, columns: Callable[[], Columns]
    ) -> None:
        self._sender, self._namespace, self._runs, self._lake = sender, namespace, runs, lake
        self._clock, self._columns = clock, columns
        self._run: Run | None = None
        self._state = ""
        self._began: dict[str, int] = {}
        self._ended: dict[str, int] = {}

    def hear(self, event: Progress) -> None:
        """Something happened in the run."""
        if event.part:
            return
        now = self._clock.micros()
        if not event.step:
            if event.state == "started":
                self._run = self._runs.get(event.run)
                self._send("START", "", now, self._job(""), _engine())
            self._state = event.state
        elif event.state == RUNNING and event.step not in self._began:
            self._began[event.step] = now
            self._send("START", event.step, now, self._job(event.step))
        elif event.state in _DONE:
            self._ended[event.step] = now

    def end(self, folder: Any) -> None:
        """Tell how the run and its steps ended. ``folder`` is the workspace's."""
        if self._run is None or self._state not in _ENDS:
            return
        run = self._run = self._runs.get(self._run.id)
        steps = {step.name: step for step in self._runs.steps(run.id)}
        made = _Made(self._space, self._namespace, run, steps, self._lake, Workspace(folder), self._columns)
        now = self._clock.micros()
        for name in sorted(self._began, key=lambda name: self._ended.get(name, now)):
            step = steps[name]
            state = step.state if name in self._ended else INTERRUPTED
            facets = _error(step.error.removeprefix("!"), made.language(name)) if state == FAILED else {}
            outputs = made.outputs(name) if run.state == SUCCEEDED and state == RAN else []
            at = self._ended.get(name, now)
            self._send(_ENDS[state], name, at, self._job(name, made.job(name)), facets, made.inputs(name), outputs)
        facets = {**_engine(), **(_error(run.error, "Python") if run.error else {})}
        self._send(_ENDS[self._state], "", now, self._job(""), facets)

    # -- within

    @property
    def _space(self) -> str:
        assert self._run is not None
        return self._namespace if self._run.branch == MAIN else f"{self._namespace}@{self._run.branch}"

    def _id(self, step: str = "") -> str:
        """A run's id as the spec wants it; gone on with after it was interrupted, it is another run there."""
        assert self._run is not None
        text = f"{self._namespace}/{self._run.id}/{self._run.manifest.get('resumed', 0)}/{step}"
        return str(uuid.uuid5(uuid.NAMESPACE_URL, text))

    def _job(self, step: str, facets: Mapping[str, Any] | None = None) -> dict[str, Any]:
        name = f"{_FLOW}.{step}" if step else _FLOW
        kind = {} if step else _facet("jobType", processingType="BATCH", integration="SAMPAN", jobType="FLOW")
        return {"namespace": self._space, "name": name, "facets": {**kind, **(facets or {})}}

    def _send(
        self,
        type: str,
        step: str,
        at: int,
        job: dict[str, Any],
        facets: Mapping[str, Any] | None = None,
        inputs: Iterable[Any] = (),
        outputs: Iterable[Any] = (),
    ) -> None:
        assert self._run is not None
        parent = {"run": {"runId": self._id()}, "job": {"namespace": self._space, "name": _FLOW}}
        told = {**(_facet("parent", **parent) if step else {}), **_ours(self._run), **(facets or {})}
        self._sender.send(
            {
                "eventType": type,
                "eventTime": iso(at),
                "run": {"runId": self._id(step), "facets": told},
                "job": job,
                "inputs": list(inputs),
                "outputs": list(outputs),
                "producer": PRODUCER,
                "schemaURL": _EVENT,
            }
        )


class _Made:
    """What the steps of a run read and made, as jobs and datasets."""

    def __init__(
        self,
        space: str,
        log: str,
        run: Run,
        steps: Mapping[str, StepRun],
        lake: "Lake",
        workspace: Workspace,
        columns: Callable[[], Columns],
    ) -> None:
        self._space, self._log, self._run, self._steps, self._lake = space, log, run, steps, lake
        self._nodes, self._events, self._root = workspace.graph.nodes, workspace.graph.events, workspace.folder.root
        self._columns = columns
        self._read: Columns | None = None
        self._place: tuple[str, Path] | None = None

    def language(self, name: str) -> str:
        node = self._nodes.get(name)
        return "SQL" if node is not None and node.query is not None else "Python"

    def job(self, name: str) -> dict[str, Any]:
        """Facets of a step's job: what kind it is, its query, and where its source lies."""
        facets = _facet("jobType", processingType="BATCH", integration="SAMPAN", jobType=self._steps[name].kind.upper())
        node = self._nodes.get(name)
        if node is None:
            return facets
        facets |= self._source(node)
        if node.query is not None:
            text = node.text(self._root)
            facets |= _facet("sql", query=text, dialect="duckdb")
        return facets

    def inputs(self, name: str) -> list[dict[str, Any]]:
        return [self._input(need) for need in self._steps[name].needs]

    def outputs(self, name: str) -> list[dict[str, Any]]:
        step = self._steps[name]
        if step.kind == CHECK or not step.digest:
            return []
        snapshot = self._snapshot(step.digest)
        found = self._dataset(name, snapshot)
        if snapshot is not None:
            found["facets"] |= self._lineage(name, snapshot)
            found["outputFacets"] = _facet(
                "outputStatistics", rowCount=snapshot.rows, size=snapshot.bytes, fileCount=len(snapshot.files)
            )
        return [found]

    def _input(self, name: str) -> dict[str, Any]:
        if name not in self._events:
            step = self._steps.get(name)
            return self._dataset(name, self._snapshot(step.digest) if step is not None else None)
        state = self._run.manifest.get("inputs", {}).get(name, {})
        fields = [{"name": one} for one in self._known_columns().names(name) or ()]
        facets = _facet("datasetType", datasetType="STREAM")
        facets |= _facet("schema", fields=fields) if fields else {}
        facets |= _facet("version", datasetVersion=state["digest"]) if state.get("digest") else {}
        counted = _facet("inputStatistics", rowCount=state["count"]) if "count" in state else {}
        return {"namespace": self._log, "name": name, "facets": facets, "inputFacets": counted}

    def _dataset(self, name: str, snapshot: "Snapshot | None") -> dict[str, Any]:
        step = self._steps.get(name)
        kind = "TABLE" if snapshot is not None else "MODEL" if step is not None and step.kind == MODEL else "VALUE"
        facets = _facet("datasetType", datasetType=kind)
        if step is not None and step.digest:
            facets |= _facet("version", datasetVersion=step.digest)
        if snapshot is not None:
            facets |= _facet("schema", fields=[{"name": one, "type": type} for one, type in snapshot.fields])
        return {"namespace": self._space, "name": name, "facets": facets}

    def _snapshot(self, digest: str) -> "Snapshot | None":
        if not digest.startswith(_TABLE):
            return None
        try:
            return self._lake.snapshot(digest)
        except NotFound:
            return None

    def _lineage(self, name: str, snapshot: "Snapshot") -> dict[str, Any]:
        """Where each column comes from, if the query's text tells."""
        columns = self._known_columns()
        if name not in columns or columns.whole(name):
            return {}
        facts = {column: columns.fact(name, column) for column, _ in snapshot.fields}
        by = sorted({ref for fact in facts.values() for ref in fact.by if ref[1] != ALL})
        fields = {
            column: {"inputFields": [self._field(*ref, "DIRECT") for ref in fact.of if ref[1] != ALL]}
            for column, fact in facts.items()
        }
        return _facet("columnLineage", fields=fields, dataset=[self._field(*ref, "INDIRECT") for ref in by])

    def _field(self, name: str, column: str, how: str) -> dict[str, Any]:
        space = self._log if name in self._events else self._space
        return {"namespace": space, "name": name, "field": column, "transformations": [{"type": how}]}

    def _known_columns(self) -> Columns:
        if self._read is None:
            self._read = self._columns()
        return self._read

    def _source(self, node: Node) -> dict[str, Any]:
        if not self._run.git:
            return {}
        if self._place is None:
            self._place = _repository(self._root)
        remote, top = self._place
        path = (self._root / node.path).relative_to(top).as_posix()
        web = _web(remote)
        where = f"{web}/blob/{self._run.git}/{path}" if web else (self._root / node.path).as_uri()
        more = {"repoUrl": remote} if remote else {}
        return _facet("sourceCodeLocation", type="git", url=where, path=path, version=self._run.git, **more)


def _facet(facet: str, /, **values: Any) -> dict[str, Any]:
    version, _, kind = _FACETS[facet].partition("/")
    url = f"{_SPEC}/facets/{version}/{kind}.json#/$defs/{kind}"
    return {facet: {"_producer": PRODUCER, "_schemaURL": url, **values}}


def _ours(run: Run) -> dict[str, Any]:
    """What only Sampan knows of a run: how to find it there, and the state of the log that it read."""
    known = {
        "run": run.id,
        "branch": run.branch,
        "target": run.target,
        "position": run.position,
        "root": run.root,
        "commit": run.commit_id,
        "patch": run.manifest.get("patch"),
    }
    url = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunFacet"
    said = {name: value for name, value in known.items() if value}
    return {"sampan_run": {"_producer": PRODUCER, "_schemaURL": url, **said}}


def _engine() -> dict[str, Any]:
    return _facet("processing_engine", version=__version__, name="Sampan")


def _error(message: str, language: str) -> dict[str, Any]:
    return _facet("errorMessage", message=message[:_MESSAGE] or "it failed", programmingLanguage=language)


def _repository(root: Path) -> tuple[str, Path]:
    """The address that a repository was cloned from, without who may, and the folder that it lies in."""
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    try:
        asked = subprocess.run(
            ["git", "config", "--get", "remote.origin.url"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", top
    return without_secret(asked.stdout.strip()), top


def without_secret(remote: str) -> str:
    """A repository's address without a user's name and password."""
    parts = urlsplit(remote)
    if not parts.scheme or "@" not in parts.netloc:
        return remote
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _web(remote: str) -> str:
    """Where a browser finds a repository; empty if that cannot be told."""
    text = remote.removesuffix(".git")
    if text.startswith(("https://", "http://")):
        return text
    user, at, rest = text.removeprefix("ssh://").partition("@")
    host, colon, path = rest.partition(":") if not text.startswith("ssh://") else rest.partition("/")
    return f"https://{host}/{path}" if at and colon and user and path else ""
