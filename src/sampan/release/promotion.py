"""Whether an alias may name a version: what the policy asks for, what there is of it, and what is missing.

Nothing is stored here but what people said. Evidence is looked up each time, so it cannot be older than it looks: an
approval counts as long as the data that the version was made from, and the results of its tests, are those that its
author could see.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.base.words import counted
from sampan.lake.history import MAIN
from sampan.models.approvals import APPROVED, REJECTED, Approval, Approvals, Seen
from sampan.models.golden_checks import GoldenChecks
from sampan.models.rebuilds import Rebuilds
from sampan.models.version import Version
from sampan.release.policy import Demand, Policy, read_policy
from sampan.release.records import RolloutRecords
from sampan.release.shadows import ShadowRecords
from sampan.release.stages import ENDS
from sampan.runs.records import Runs
from sampan.runs.replays import APPROVED as REPLAY_APPROVED
from sampan.runs.replays import DONE, Replays

if TYPE_CHECKING:
    from sampan.base.clock import Clock
    from sampan.base.settings import Folder
    from sampan.lake.lake import Lake
    from sampan.models.registry import Models
    from sampan.models.tests import SuiteState
    from sampan.store.database import Database

_DAY: Final = 86_400_000_000
_REPLAYS: Final = 200  # the newest that are looked through


class Sees(Protocol):
    """What is looked at here."""

    @property
    def folder(self) -> "Folder": ...
    @property
    def clock(self) -> "Clock": ...
    @property
    def db(self) -> "Database": ...
    @property
    def lake(self) -> "Lake": ...
    @property
    def models(self) -> "Models": ...
    def test_state(self, ref: str) -> "SuiteState": ...


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of evidence. ``says`` in words what there is of it, or what is missing; ``link`` leads to it."""

    kind: str
    good: bool
    says: str
    link: str = ""
    at: int | None = None


class Voice(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says of the version. ``void`` tells why it does not count, if it does not."""

    actor: str
    groups: tuple[str, ...]
    verdict: str
    reason: str
    at: int
    void: str = ""

    @property
    def counts(self) -> bool:
        return not self.void and self.verdict == APPROVED


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version stands on its way to an alias. ``demand`` is None where no policy guards the alias;
    ``current``: the version that it names now; ``again``: it has named this one before, and may go back to it."""

    ref: str
    alias: str
    demand: Demand | None
    current: str
    token: int
    proofs: tuple[Proof, ...] = ()
    voices: tuple[Voice, ...] = ()
    missing: tuple[str, ...] = ()
    again: bool = False
    policy: str = ""

    @property
    def ready(self) -> bool:
        return not self.missing

    def evidence(self) -> tuple[str, ...]:
        """What speaks for it, as the alias's history keeps it."""
        if self.demand is None:
            return ()
        if self.again:
            return (f"{self.alias} has named it before",)
        said = [f"approved by {one.actor}" for one in self.voices if one.counts]
        return (*said, *(one.says for one in self.proofs if one.good), f"policy {self.policy[:12]}")


def promotion(sees: Sees, ref: str, alias: str) -> Promotion:
    """Where a version stands. Raises NotFound, and BadSetting for a policy that cannot be read."""
    version = sees.models.get(ref)
    policy = read_policy(sees.folder.root)
    demand = policy.demanded(version.model, alias)
    held = sees.models.aliases.find(version.model, alias)
    current, token = ("", 0) if held is None else (held.ref, held.token)
    voices = tuple(_voices(sees, version, alias, policy, demand))
    if demand is None:
        return Promotion(ref=version.ref, alias=alias, demand=None, current=current, token=token, voices=voices)
    proofs = tuple(_proofs(sees, version, demand))
    again = demand.back and _named_before(sees, version, alias)
    lacking = () if again or current == version.ref else tuple(missing(demand, proofs, voices))
    return Promotion(
        ref=version.ref,
        alias=alias,
        demand=demand,
        current=current,
        token=token,
        proofs=proofs,
        voices=voices,
        missing=lacking,
        again=again,
        policy=policy.digest,
    )


def proof(sees: Sees, ref: str, kind: str) -> Proof:
    """What there is of one kind of evidence: tests, golden, replay or rebuild. Raises NotFound."""
    return _LOOKED_UP[kind](sees, sees.models.get(ref))


def seen(sees: Sees, version: Version) -> Seen:
    """What there is to be seen of a version now."""
    result = sees.test_state(version.ref).result
    return Seen(_data(sees, version), result.id if result is not None else "")


def _data(sees: Sees, version: Version) -> dict[str, str]:
    """The snapshots on main of the tables that a version was made from."""
    result = Runs(sees.db).result(version.key) if version.key else None
    if result is None:
        return {}
    on_main = sees.lake.names(MAIN)
    return {name: on_main[name] for name in sorted(result.parts.get("inputs", {})) if name in on_main}


# -- what there is


def _voices(sees: Sees, version: Version, alias: str, policy: Policy, demand: Demand | None) -> Iterator[Voice]:
    now = seen(sees, version)
    author = _author(sees, version)
    for one in Approvals(sees.db, sees.clock).standing(version.model, version.number, alias):
        void = _void(one, now)
        if not void and demand is not None and not demand.author_counts and one.actor == author:
            void = "made the version: the policy asks for others"
        yield Voice(
            actor=one.actor,
            groups=policy.groups_of(one.actor),
            verdict=one.verdict,
            reason=one.reason,
            at=one.at,
            void=void,
        )


def _void(one: Approval, now: Seen) -> str:
    if one.verdict != APPROVED:
        return ""
    changed = sorted(name for name in {*one.seen.data, *now.data} if one.seen.data.get(name) != now.data.get(name))
    if changed:
        return f"void: {', '.join(changed)} changed since"
    return "void: tested again since" if one.seen.tests != now.tests else ""


def _author(sees: Sees, version: Version) -> str:
    if version.actor or version.run is None:
        return version.actor
    try:
        return Runs(sees.db).get(version.run).actor
    except NotFound:
        return ""


def _named_before(sees: Sees, version: Version, alias: str) -> bool:
    return any(
        one.alias == alias and one.number == version.number and not one.refused
        for one in sees.models.aliases.history(version.model)
    )


def _proofs(sees: Sees, version: Version, demand: Demand) -> Iterator[Proof]:
    for kind in demand.evidence:
        yield _LOOKED_UP[kind](sees, version)
    if demand.shadow:
        yield _shadow(sees, version, demand.days)


def _tests(sees: Sees, version: Version) -> Proof:
    state = sees.test_state(version.ref)
    at = state.result.created if state.result is not None else None
    good = state.state == "passed"
    return Proof(kind="tests", good=good, says=state.said, link=f"{_page(version)}#tests", at=at)


def _golden(sees: Sees, version: Version) -> Proof:
    tried = GoldenChecks(sees.db).list(version.model, version.number, limit=1)
    if not tried:
        said = f"its golden requests were not asked again: `sampan model golden {version.ref}`"
        return Proof(kind="golden", good=False, says=said)
    report = tried[0].report
    said = f"{report.different:,} of {counted(report.cases, 'golden request')} get another answer"
    return Proof(
        kind="golden",
        good=report.same,
        says=f"{counted(report.cases, 'golden request')} get the same answer" if report.same else said,
        link=f"{_page(version)}#golden",
        at=tried[0].created,
    )


def _replay(sees: Sees, version: Version) -> Proof:
    for one in Replays(sees.db).list(_REPLAYS):
        if one.state in (DONE, REPLAY_APPROVED) and version.ref in one.report.get("versions", ()):
            said = f"replay {one.id[:10]} of {iso(one.finished or one.started)[:10]}"
            return Proof(kind="replay", good=True, says=said, link=f"/replays/{one.id}", at=one.finished)
    return Proof(kind="replay", good=False, says="no replay has made it: `sampan replay`, before it is on main")


def _shadow(sees: Sees, version: Version, days: int) -> Proof:
    """Of its rollouts and its shadows beside any the one that was longest in the shadow of another version."""
    records = RolloutRecords(sees.db, sees.clock)
    longest, link = 0, ""
    for one in records.list():
        if one.versions[1] == version.ref and one.plan.stage[0].shadow:
            lines = records.lines(one)
            until = next((line.at for line in lines if line.stage or line.phase in ENDS), sees.clock.micros())
            if until - one.began > longest:
                longest, link = until - one.began, f"/rollouts/{one.id}"
    for other in ShadowRecords(sees.db, sees.clock).list():
        lasted = (other.ended or sees.clock.micros()) - other.began
        if other.version == version.ref and lasted > longest:
            longest, link = lasted, f"/shadows/{other.id}"
    been = counted(longest // _DAY, "day") if longest >= _DAY else "less than a day"
    said = (
        f"{been} in the shadow, {days:,} asked"
        if link
        else f"no shadow of it is on record; {counted(days, 'day')} asked"
    )
    return Proof(kind="shadow", good=bool(link) and longest >= days * _DAY, says=said, link=link)


def _rebuild(sees: Sees, version: Version) -> Proof:
    tried = Rebuilds(sees.db).list(version.model, version.number, limit=1)
    link = f"{_page(version)}#rebuilds"
    if not tried:
        return Proof(kind="rebuild", good=False, says=f"nobody has rebuilt it: `sampan reproduce {version.ref}`")
    said = f"rebuilt {iso(tried[0].created)[:10]}: {tried[0].level}"
    return Proof(kind="rebuild", good=tried[0].good, says=said, link=link, at=tried[0].created)


_LOOKED_UP: Final = {"tests": _tests, "golden": _golden, "replay": _replay, "rebuild": _rebuild}


def _page(version: Version) -> str:
    return f"/models/{version.model}/{version.number}"


# -- what is missing


def missing(demand: Demand, proofs: Sequence[Proof], voices: Sequence[Voice]) -> Iterator[str]:
    """What is still asked for, in words."""
    yield from (f"{one.kind}: {one.says}" for one in proofs if not one.good)
    for one in voices:
        if one.verdict == REJECTED:
            yield f"{one.actor} rejects it: {one.reason}"
    counting = [one for one in voices if one.counts]
    lacking = list(_lacking(demand, counting))
    yield from lacking
    if lacking:
        yield from (f"the approval by {one.actor} does not count; {one.void}" for one in voices if one.void)


def _lacking(demand: Demand, counting: Sequence[Voice]) -> Iterator[str]:
    for name, count in demand.groups.items():
        there = sum(name in one.groups for one in counting)
        if there < count:
            yield f"{counted(count - there, 'approval')} by {name}"
    if len(counting) < demand.approvals:
        yield f"{counted(demand.approvals, 'approval')} in all, of which {len(counting)} there"
