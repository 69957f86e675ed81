"""What a run would do, and why: keys from the bottom of the graph upwards, looked up among the results.

The same decisions drive a run; there they are taken again as results come in, so that an equal output stops the wave.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.digests import digest_value
from sampan.flow.files import Files
from sampan.flow.graph import Node
from sampan.flow.job import Stored
from sampan.flow.key import KeyParts, differences
from sampan.flow.workspace import Workspace
from sampan.runs.records import Result, Runs
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    from sampan.log.log import Log
    from sampan.log.position import Position

RAN = "ran"
CACHED = "cached"
WARNED = "warned"
FAILED = "failed"
BLOCKED = "blocked"


class PlannedStep(msgspec.Struct, frozen=True):
    """One step of a plan. ``certain``: false where an equal output upstream may still spare it."""

    name: str
    kind: str
    state: str
    why: str
    digest: str = ""
    seconds: float = 0.0
    certain: bool = True
    needs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True):
    """What ``sampan run`` would do. In a plan ``ran`` means: would run; ``seconds`` is what it took last time."""

    target: str
    steps: tuple[PlannedStep, ...]
    commit: str | None
    git: str | None
    position: str
    sets: dict[str, Any]
    publishes: tuple[str, ...] = ()
    """Tables whose result is there, and is another than main has: after a commit of main was undone."""

    def json(self) -> dict[str, Any]:
        """The form of ``sampan plan --json``, that of a run with no id."""
        steps = [
            {
                "name": step.name,
                "kind": step.kind,
                "state": step.state,
                "why": step.why,
                "digest": step.digest or None,
                "seconds": step.seconds,
                "certain": step.certain,
                "needs": list(step.needs),
                "flags": list(step.flags),
            }
            for step in self.steps
        ]
        return {"run": None, "state": "planned", "commit": self.commit, "git": self.git, "steps": steps} | {
            "publishes": list(self.publishes)
        }


class Decision(msgspec.Struct, frozen=True):
    """A node's key for known inputs, the result at it if there is one, and why it runs if there is none."""

    key: str
    parts: KeyParts
    result: Result | None
    stored: Stored | None
    why: str


class Planner:
    """Decides about nodes for one workspace, one log position and one set of parameters."""

    def __init__(
        self,
        workspace: Workspace,
        runs: Runs,
        data: Path,
        log: "Log | None",
        position: "Position | None",
        known_by: int | None = None,
    ) -> None:
        """``known_by``: of the events before the position only those that could be used at that instant."""
        self.workspace = workspace
        self.runs = runs
        self._lake = Blobs(data / "lake")
        self._blobs = Blobs(data / "blobs")
        self.log = log
        self.position = position
        self._known_by = [] if known_by is None else [known_by]
        self._events: dict[str, str] = {}
        self._seen = Files(workspace.folder.root, None)

    def event_digest(self, type: str) -> str:
        """The digest of all events of a type up to the position, and of the code of its contract."""
        if type not in self._events:
            self._events[type] = self._digest_of(type, *self.event_state(type))
        return self._events[type]

    def event_digest_at(self, type: str, position: "Position") -> str:
        """The same up to an earlier position, as far as the log tells it today."""
        assert self.log is not None
        state = self.log.state(type, position)
        return self._digest_of(type, state.count, state.digest)

    def _digest_of(self, type: str, count: int, digest: str) -> str:
        return digest_value([type, count, digest, self.workspace.event_code(type), *self._known_by])[:32]

    def event_state(self, type: str) -> tuple[int, str]:
        """How many events of a type there are up to the position, and their digest in any order."""
        if self.log is None or self.position is None:
            return 0, ""
        state = self.log.state(type, self.position)
        return state.count, state.digest

    def inputs(self, node: Node, digests: Mapping[str, str]) -> dict[str, str]:
        """The digests of all that a node needs. KeyError if one is not known yet."""
        events = self.workspace.graph.events
        return {name: self.event_digest(name) if name in events else digests[name] for name in node.needs}

    def decide(self, node: Node, digests: Mapping[str, str]) -> Decision:
        """Look a node up by its key."""
        parts = self.workspace.parts(node, self.inputs(node, digests))
        key = parts.key()
        result = self.runs.result(key)
        if result is None:
            return Decision(key, parts, None, None, self.why(node, parts))
        stored = stored_of(result)
        missing = self.missing(stored)
        if missing:
            return Decision(key, parts, None, None, f"its result is gone: {missing}")
        for path, digest in result.seen.items():
            if self._seen.digest(path) != digest:
                return Decision(key, parts, None, None, f"file {path} changed (it was read without being declared)")
        return Decision(key, parts, result, stored, "")

    def why(self, node: Node, parts: KeyParts) -> str:
        """Why there is no result for these key parts, in words."""
        latest = self.runs.latest(node.name)
        if latest is None:
            return "it has no result yet"
        found = differences(latest.parts, msgspec.to_builtins(parts))
        if not found:
            return "its result is gone"
        return "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")

    def missing(self, stored: Stored) -> str:
        """The first file of a result that is not there in its full length; empty if it is whole."""
        if stored.blob is not None and not self._blobs.has(stored.blob):
            return f"blob {stored.blob[:12]} is missing"
        if stored.table is not None:
            for file in stored.table.files:
                path = self._lake.path(file.sha256)
                try:
                    size = path.stat().st_size
                except OSError:
                    return f"file {file.sha256[:12]} is missing"
                if size != file.bytes:
                    return f"file {file.sha256[:12]} has {size} bytes instead of {file.bytes}"
        if stored.model is not None:
            for name, digest in stored.model.files.items():
                if not self._blobs.has(digest):
                    return f"model file {name} is missing"
            for digest in stored.model.held():
                if not self._blobs.has(digest):
                    return f"file {digest[:12]}, derived of the model, is missing"
        return ""

    def plan(self, target: str | None, commit: str | None, git: str | None, position: str) -> Plan:
        """Decide about everything that a run would touch."""
        graph = self.workspace.graph
        digests: dict[str, str] = {}
        steps: list[PlannedStep] = []
        waiting: set[str] = set()
        for name in graph.select(target):
            node = graph.nodes[name]
            flags = tuple(self.workspace.flags(node))
            held = [need for need in node.needs if need in waiting]
            if held:
                waiting.add(name)
                latest = self.runs.latest(name)
                parts = self.workspace.parts(node, dict.fromkeys(node.needs, ""))
                own = [] if latest is None else _own_differences(latest, parts)
                if latest is None:
                    why = "it has no result yet"
                elif own:
                    why = "; ".join(own[:4])
                else:
                    why = f"{' and '.join(held)} may change"
                seconds = 0.0 if latest is None else latest.seconds
                certain = latest is None or bool(own)
                steps.append(PlannedStep(name, node.kind, RAN, why, "", seconds, certain, node.needs, flags))
                continue
            decision = self.decide(node, digests)
            if decision.result is not None:
                digests[name] = decision.result.digest
                step = PlannedStep(
                    name, node.kind, CACHED, "nothing changed", digests[name], 0.0, True, node.needs, flags
                )
                steps.append(step)
                continue
            waiting.add(name)
            latest = self.runs.latest(name)
            seconds = 0.0 if latest is None else latest.seconds
            steps.append(PlannedStep(name, node.kind, RAN, decision.why, "", seconds, True, node.needs, flags))
        self.workspace.save()
        return Plan(target or "", tuple(steps), commit, git, position, dict(self.workspace.sets))


def _own_differences(latest: Result, parts: KeyParts) -> list[str]:
    before = {**latest.parts, "inputs": {}}
    return differences(before, {**msgspec.to_builtins(parts), "inputs": {}})


def stored_of(result: Result) -> Stored:
    """Where a result lies."""
    return msgspec.msgpack.decode(result.value or b"", type=Stored)
