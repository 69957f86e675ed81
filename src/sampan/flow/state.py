"""What a run is asked for, what it works with, and where each of its nodes stands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from sampan.base.clock import Clock
from sampan.base.settings import Folder, Settings
from sampan.flow.graph import Node
from sampan.flow.job import Stored
from sampan.flow.outcome import Progress
from sampan.flow.plan import Decision
from sampan.flow.workspace import Workspace
from sampan.lake.history import MAIN
from sampan.runs.records import Run, Runs
from sampan.store.database import Database

if TYPE_CHECKING:
    from sampan.lake.lake import Lake
    from sampan.log.log import Log
    from sampan.log.position import Position
    from sampan.models.registry import Models

#: What MLflow's client in a step is told, as environment variables; given whether the step is known to use it.
Tells: TypeAlias = Callable[[bool], Mapping[str, str]]

WAITING = "waiting"
READY = "ready"
RETRYING = "retrying"


@dataclass(frozen=True)
class Means:
    """What an engine was opened with."""

    folder: Folder
    db: Database
    lake: "Lake"
    log: "Log | None"
    models: "Models | None"
    clock: Clock
    settings: Settings
    runs: Runs
    tells: Tells | None = None


@dataclass(frozen=True)
class Order:
    """What one run is asked for. ``before`` is the run as it was found, if it is resumed. ``noting``: a check that
    refuses is noted, and what it guards goes on. ``known_by``: of the events before the position only those that
    could be used at that instant (microseconds). ``publishing``: its models get numbers and its tables appear on the
    branch; else it is a run for its results alone, and the branch is but a name. ``logging``: metrics of its models are
    logged for experiments."""

    id: str
    target: str | None
    workspace: Workspace
    position: "Position | None" = None
    on_event: Callable[[Progress], None] | None = None
    actor: str = ""
    reason: str = ""
    mixed: tuple[str, ...] = ()
    branch: str = MAIN
    noting: bool = False
    known_by: int | None = None
    publishing: bool = True
    logging: bool = True
    before: Run | None = None


class NodeState:
    """A node on its way through a run."""

    def __init__(self, node: Node, waits: set[str]) -> None:
        self.node, self.waits = node, waits
        self.state = WAITING
        self.why = ""
        self.decision: Decision | None = None
        self.attempt = 0
        self.not_before = 0.0
        self.seconds = 0.0
        self.memory = 0
        self.error = ""
        self.started: int | None = None
        self.warnings: list[str] = []
        self.stored: Stored | None = None
        self.digest = ""
        self.parts = 0
        self.parts_ran = 0


class Ends(Protocol):
    """Who wants to know how a node ended."""

    def succeed(self, state: NodeState, stored: Stored, seen: dict[str, str]) -> None:
        """It gave a result, or is a check that only warns; ``seen`` are the files it read without declaring them."""

    def fail(self, state: NodeState, error: str, advice: str, retry: bool = False) -> None:
        """It gave none. An error that begins with ``!`` is no verdict of a check."""
