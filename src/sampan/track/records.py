"""What is known of logged runs. Times are milliseconds since 1970, as clients give them."""

from typing import Final

import msgspec

RUNNING: Final = "RUNNING"
#: How a run stands.
ENDED: Final = ("FINISHED", "FAILED", "KILLED")
STATUSES: Final = (RUNNING, "SCHEDULED", *ENDED)
NAME_TAG: Final = "mlflow.runName"
CONTEXT_TAG: Final = "mlflow.data.context"
INPUT: Final = "input"
OUTPUT: Final = "output"


class Experiment(msgspec.Struct, frozen=True):
    """A named set of runs."""

    id: int
    name: str
    created: int
    updated: int
    deleted: int | None
    tags: dict[str, str]


class Metric(msgspec.Struct, frozen=True):
    """One value of a metric. ``model``, ``dataset`` and ``digest``: which logged model it measures, on what."""

    key: str
    value: float
    time: int
    step: int = 0
    model: str = ""
    dataset: str = ""
    digest: str = ""
    run: str = ""


class Curve(msgspec.Struct, frozen=True):
    """A metric to be drawn: places and values. A place is a step, or if ``timed`` milliseconds since the first point;
    ``points`` there are in all, ``odd`` of which are no numbers that can be drawn."""

    drawn: list[tuple[int, float]]
    timed: bool
    points: int
    odd: int


class Dataset(msgspec.Struct, frozen=True):
    """What a run read."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


class Input(msgspec.Struct, frozen=True):
    """A dataset as a run used it, for training or for validation, say."""

    dataset: Dataset
    tags: dict[str, str]


class Link(msgspec.Struct, frozen=True):
    """A logged model that went into a run, or came out of it at a step."""

    model: str
    step: int = 0


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One logged run, with the newest value of each of its metrics."""

    id: str
    experiment: int
    name: str
    user: str
    status: str
    started: int
    ended: int | None
    deleted: int | None
    metrics: list[Metric]
    params: dict[str, str]
    tags: dict[str, str]
    inputs: list[Input] = []
    used: list[Link] = []
    made: list[Link] = []


class LoggedModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a run logged, or that is measured without one."""

    id: str
    experiment: int
    name: str
    kind: str
    run: str
    status: str
    created: int
    updated: int
    deleted: int | None
    params: dict[str, str]
    tags: dict[str, str]
    metrics: list[Metric]


class File(msgspec.Struct, frozen=True):
    """An artifact, or a folder of artifacts (without size and digest), by its path below its owner."""

    path: str
    size: int | None
    sha256: str = ""

    @property
    def is_folder(self) -> bool:
        return self.size is None
