"""What a worker is told: where a node's inputs lie, its parameters and limits, the modules it will want."""

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.base.errors import SampanError
from sampan.flow.graph import MODEL, TABLE, Node
from sampan.flow.job import PYTHON, SQL, SQL_CHECK, Input, Job, Stored
from sampan.flow.key import seed_of
from sampan.flow.outcome import log_path
from sampan.flow.pool import Task
from sampan.flow.slots import Slots, memory_of
from sampan.flow.state import Means, NodeState, Order
from sampan.lake.draft import TableDraft
from sampan.lake.query import TableSource
from sampan.store.blobs import Blobs

_SQL_MODULES: Final = ["duckdb", "pyarrow", "pyarrow.parquet", "sampan.lake.write", "sampan.lake.digest"]
_FRAME_MODULES: Final = ["pyarrow", "sampan.lake.write", "sampan.lake.read", "sampan.lake.digest", "duckdb"]
_FRAMES: Final = {"pandas", "pyarrow", "duckdb", "numpy", "polars"}
_PRELOADED: Final = {"pandas", "pyarrow", "duckdb", "numpy", "scipy", "sklearn", "lightgbm"}
"""Packages that may be imported before a fork; Polars, for one, starts threads that a fork would lose."""
_SEEDED: Final = ("numpy", "torch")

SPLITTING: Final = ["pyarrow", "pyarrow.compute", "duckdb", "sampan.lake.read", "sampan.lake.digest"]
"""Modules that splitting and joining tables takes."""


class Jobs:
    """Makes the jobs of one run."""

    def __init__(self, means: Means, order: Order, states: Mapping[str, NodeState], slots: Slots) -> None:
        self.data = means.folder.data
        self.blobs = Blobs(self.data / "blobs")
        self._lake = Blobs(self.data / "lake")
        self._root, self._log = means.folder.root, means.log
        self._order, self._states, self._slots = order, states, slots
        self._workspace = order.workspace
        self._tells = means.tells

    def task(self, node: Node, job: Job, part: str = "") -> Task:
        """A job with its limits."""
        return Task(job, (node.name, part), node.options.get("timeout"), self._memory(node) or None)

    def _memory(self, node: Node) -> int:
        """Bytes that a node may take: what it declared, or all that the run has."""
        return memory_of(node) or self._slots.memory

    def modules(self, node: Node) -> list[str]:
        """Modules to import before the fork: what a node's arguments and its module need."""
        if node.query:
            return _SQL_MODULES
        named = {one.annotation.partition(".")[0] for one in node.parameters} | {node.returns.partition(".")[0]}
        loads = self._workspace.reach(node).loads
        return [
            *(_FRAME_MODULES if named & _FRAMES else ()),
            *(name for name in loads if name.partition(".")[0] in _PRELOADED),
        ]

    def job(self, node: Node, inputs: list[Input], key: str, part: str = "", kind: str = "") -> Job:
        """What a worker needs to know to run a node, or one part of it."""
        log = log_path(self.data, self._order.id, node.name, part)
        log.parent.mkdir(parents=True, exist_ok=True)
        common: dict[str, Any] = {
            "step": node.name,
            "part": part,
            "node": node.kind,
            "root": str(self._root),
            "data": str(self.data),
            "log": str(log),
            "inputs": inputs,
            "threads": int(node.options.get("cpus") or self._slots.total),
            "memory": self._memory(node),
            "cpus": self._slots.affinity(node),
        }
        if kind:
            return Job(kind=kind, options={"each": node.each}, **common)
        if node.query:
            text = node.text(self._root)
            return Job(kind=SQL if node.kind == TABLE else SQL_CHECK, sql=text, path=node.path, **common)
        workspace = self._workspace
        packages = {name.lower() for name in workspace.packages.versions(workspace.reach(node).imports)}
        options = {
            "kind": node.options.get("kind", "binary"),
            "order_by": node.options.get("order_by") or [],
            "positional": [one.name for one in node.parameters if one.positional],
            "seeded": [name for name in _SEEDED if name in packages],
        }
        return Job(
            kind=PYTHON,
            module=node.module,
            parameters=workspace.sets.get(node.name, {}),
            options=options,
            seed=seed_of(key, node.options.get("seed")),
            files=[*workspace.declared_files(node)],
            environment=self._told(node),
            metrics=node.kind == MODEL and not part and self._order.logging,
            **common,
        )

    def _told(self, node: Node) -> dict[str, str]:
        """Where MLflow's client in a step logs to; nothing where the environment says so already."""
        if self._tells is None or "MLFLOW_TRACKING_URI" in os.environ:
            return {}
        uses = any(name.partition(".")[0] == "mlflow" for name in self._workspace.reach(node).imports)
        return dict(self._tells(uses))

    def inputs_of(self, node: Node) -> list[Input]:
        """Where a node's arguments lie."""
        return [self.input_of(name) for name in node.needs]

    def input_of(self, name: str) -> Input:
        """Where one argument lies."""
        if name in self._workspace.graph.events:
            if self._log is None:
                raise SampanError(f"Read events of {name}", "there is no log")
            source = self._log.source(name, self._order.position, self._order.known_by)  # type: ignore[arg-type]
            return Input(name, log=msgspec.Raw(msgspec.msgpack.encode(source)))
        stored = self._states[name].stored
        assert stored is not None
        if stored.table is not None:
            return Input(name, table=self.source(name, stored))
        return Input(name, stored=stored)

    def source(self, name: str, stored: Stored) -> TableSource:
        """A stored table, to be read."""
        assert stored.table is not None
        files = tuple(str(self._lake.path(file.sha256)) for file in stored.table.files)
        format = stored.table.files[0].format if stored.table.files else "parquet"
        return TableSource(name, files, format, stored.table.fields)

    def table_of(self, name: str) -> TableDraft | None:
        """The table that a node of this run gave; None for all else."""
        stored = self._states[name].stored if name in self._states else None
        return stored.table if stored is not None else None

    def elements_of(self, name: str) -> Stored | None:
        """The stored value of a node of this run that is no table; None for all else."""
        stored = self._states[name].stored if name in self._states else None
        return stored if stored is not None and stored.table is None else None
