"""What a replay expects and what it found, as commands, pages and files tell it."""

from typing import Any

import msgspec

from sampan.lake.diff import TableDiff
from sampan.serve.counterfactual import Counterfactual


class Moment(msgspec.Struct, frozen=True):
    """A time when another bundle came into force: the model is derived once more as it would have been by then."""

    endpoint: str
    version: str
    time: int
    position: str
    model: str


class ReplayStep(msgspec.Struct, frozen=True):
    """One step of the plan for the whole log; ``certain``: false where an equal input may still spare it."""

    name: str
    kind: str
    state: str
    why: str
    seconds: float
    certain: bool


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a replay will do. ``cached`` is the share of all steps whose results are there already; ``seconds`` and
    ``cost`` are learned from the runs on record."""

    code: str
    position: str
    base: str
    """The commit that it is compared with."""
    events: int
    decisions: int
    steps: tuple[ReplayStep, ...]
    moments: tuple[Moment, ...]
    cached: float
    seconds: float
    cost: float
    currency: str
    changed: tuple[str, ...]
    """Definitions that are others than those of the base, and files of rules that are others than those in force."""
    learned: float = 1.0
    """The factor, from replays on record, that ``seconds`` holds."""
    definition: str = ""
    """A digest of all of this code: who goes on with the replay, or approves it, must have the same."""


class Effect(msgspec.Struct, frozen=True):
    """Something that would have reached the world, and was written down instead: ``deployment`` or ``refusal``."""

    kind: str
    about: str
    text: str
    time: int | None = None


class Figure(msgspec.Struct, frozen=True):
    """A number that is another: a metric of a model."""

    model: str
    metric: str
    before: float | None
    after: float | None


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What would have been different. ``newer``: events that came since the tables it is compared with were made;
    ``versions``: what the models come out as, ``reorder@3``."""

    run: str
    state: str
    seconds: float
    expected: float
    steps: dict[str, int]
    tables: tuple[TableDiff, ...] = ()
    figures: tuple[Figure, ...] = ()
    decisions: tuple[Counterfactual, ...] = ()
    effects: tuple[Effect, ...] = ()
    newer: int = 0
    deriving: float = 0.0
    """Seconds that its runs took."""
    deciding: float = 0.0
    """Seconds that taking the decisions again took. What is left of ``seconds`` went into comparing."""
    notes: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    error: str = ""


def sentence(report: dict[str, Any]) -> str:
    """A replay in one sentence."""
    if not report:
        return "It has not come to its end."
    if report["state"] != "succeeded":
        return f"It has not come to its end: {report['error'].partition(chr(10))[0]}"
    differ = [table["name"] for table in report["tables"]]
    said = (
        [f"{len(differ)} tables come out otherwise"]
        if len(differ) > 1
        else [f"{one} comes out otherwise" for one in differ]
    )
    for one in report["decisions"]:
        if one["obstacle"]:
            said.append(f"decisions of {one['endpoint']} could not be taken again")
        elif one["decisions"]:
            more = one["difference"]
            said.append(
                f"{one['differ']:,} of {one['answered']:,} decisions of {one['endpoint']} would have been others, worth"
                f" {abs(more):,.2f} {one['currency']} {'more' if more >= 0 else 'less'}"
            )
    quiet = all(
        not (one["obstacle"] or one["differ"] or one["difference"] or one["unanswered"]) for one in report["decisions"]
    )
    if not differ and not report["figures"] and quiet:
        return "Nothing would have been different."
    return "; ".join(said) + "."
