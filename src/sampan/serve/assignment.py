"""What a rollout wants of an endpoint: whom the candidate answers, and what is told of it between hub and processes."""

from typing import Final, Literal, TypeAlias

import msgspec

from sampan.base.errors import Usage
from sampan.serve.bundle import Bundle, DecisionFacts

CHAMPION: Final = "champion"
CANDIDATE: Final = "candidate"

# Why the candidate, though it was its turn, did not answer; "error: ..." says what it raised.
TIMEOUT: Final = "timeout"
QUEUE: Final = "queue"
DOWN: Final = "down"
OTHERS: Final = "other reasons"
_REASONS: Final = 50  # that are told apart; a rule can name what it was asked about in each
LOADING: Final = "loading"  # for the first time since the hub began, and not for too long yet: no fault of its
CRASH: Final = "crash"
ENDED: Final = "ended"  # of a shadow: the endpoint was switched or stopped first
ERROR: Final = "error: "

CandidateStanding: TypeAlias = Literal["starting", "serving", "down"]


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout's stage. ``bundle``: the candidate's digest; ``share``: of the entities, from 0 to 1, whom it answers;
    ``shadow``: it sees what the champion answers, without effect; of the entities, those of ``sample``."""

    rollout: str
    stage: int
    bundle: str
    salt: str
    share: float = 0.0
    shadow: bool = False
    sample: float = 1.0


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """What the champion's process is told. ``inputs``: of the candidate's model; ``rules``: what its decision declares;
    ``socket``: where its process listens, empty for the connection there is, or none; ``loading``: there is none yet as
    it is being loaded, which is no fault of its. ``timeout`` in seconds."""

    assignment: Assignment
    version: str
    inputs: tuple[str, ...]
    timeout: float
    queue: int
    socket: str = ""
    loading: bool = False
    rules: DecisionFacts | None = None


class News(msgspec.Struct, kw_only=True):
    """How the candidate has done, as the champion's process sees it: answers, and why there was none, how often.

    ``stuck``: for how many seconds what was asked first has not been answered. Of a shadow that follows the log:
    ``behind``: predictions that it has not come to; ``asking``: the one that it is at, where that is told.
    """

    answered: int = 0
    fallbacks: dict[str, int] = {}
    shadowed: int = 0
    missed: dict[str, int] = {}
    connected: bool = False
    stuck: float = 0.0
    behind: int = 0
    asking: str = ""

    def with_counts_of(self, before: "News") -> "News":
        """The same, with what another process had counted before."""
        return msgspec.structs.replace(
            self,
            answered=before.answered + self.answered,
            fallbacks=_added(before.fallbacks, self.fallbacks),
            shadowed=before.shadowed + self.shadowed,
            missed=_added(before.missed, self.missed),
        )


class CandidateState(msgspec.Struct, frozen=True, kw_only=True):
    """How the candidate of an endpoint is doing. Counts are since it was assigned; those of an instant before a killed
    champion may be missing."""

    state: CandidateStanding
    version: str
    bundle: str
    pid: int | None
    restarts: int
    error: str
    rollout: str
    stage: int
    share: float
    shadow: bool
    answered: int = 0
    fallbacks: dict[str, int] = {}
    shadowed: int = 0
    missed: dict[str, int] = {}
    crashing: str = ""  # that its process ends over and over, and how


def check(endpoint: str, assignment: Assignment, champion: Bundle, candidate: Bundle) -> None:
    """Raises Usage unless clients can be answered by either: the same kind of prediction, the same classes, rules about
    the same entity."""
    attempted = f"Let {candidate.version} answer beside {champion.version} on {endpoint}"
    if not assignment.rollout or not 0 <= assignment.share <= 1:
        raise Usage(
            attempted, f"rollout {assignment.rollout!r} with the share {assignment.share}", "A share is 0 to 1."
        )
    if champion.digest == assignment.bundle:
        raise Usage(attempted, "it is what the endpoint serves already", "Begin with another version or other rules.")
    now, then = champion.model.signature, candidate.model.signature
    if (now.output, now.classes) != (then.output, then.classes):
        said = [
            f"{one.output} of {', '.join(map(str, one.classes))}" if one.classes else one.output for one in (now, then)
        ]
        raise Usage(
            attempted, f"one gives {said[0]}, the other {said[1]}", "Clients must be able to read both: deploy it."
        )
    about = [one.decision.entity if one.decision is not None else None for one in (champion, candidate)]
    if about[0] != about[1]:
        said = ["no rules" if one is None else f"rules about {one or 'nobody'}" for one in about]
        advice = "Deploy rules about the same entity first."
        if about[0] is None:
            advice = "Begin it without rules, --decision none, or deploy rules about the same entity first."
        raise Usage(attempted, f"one has {said[0]}, the other {said[1]}", advice)
    capped = [
        one.decision for one in (champion, candidate) if one.decision is not None and one.decision.cap is not None
    ]
    if len({one.currency for one in capped}) > 1:
        said = [one.currency or "no currency" for one in capped]
        raise Usage(
            attempted,
            f"one caps what is at risk in {said[0]}, the other in {said[1]}, and there is one total",
            "Declare both caps in the same currency, or deploy it.",
        )


def alike(one: Bundle, other: Bundle) -> bool:
    """Whether clients can read the answers of either, and both are about the same entity."""
    first, second = (
        (each.model.signature.output, each.model.signature.classes, each.decision.entity if each.decision else None)
        for each in (one, other)
    )
    return first == second


def count(counts: dict[str, int], reason: str, more: int = 1) -> None:
    """Count a reason without what differs each time; of many that still differ, the later ones under one name."""
    name = reason.partition(":")[0]
    if name not in counts and len(counts) >= _REASONS:
        name = OTHERS
    counts[name] = counts.get(name, 0) + more


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {reason: one.get(reason, 0) + other.get(reason, 0) for reason in {**one, **other}}
