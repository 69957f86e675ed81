"""Claims about a version, each held against what there is: on a card they stand with a mark that says so."""

import threading
import time
from collections.abc import Iterator
from typing import Any, Final, Literal, TypeAlias

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import SampanError
from sampan.base.words import counted
from sampan.hub.parts import Parts
from sampan.hub.views.models import VersionPage
from sampan.lake.history import MAIN
from sampan.lake.read import query as ask
from sampan.release.cards import Claim, Written
from sampan.release.promotion import promotion

State: TypeAlias = Literal["holds", "broken", "not known"]
HOLDS: Final = "holds"
BROKEN: Final = "broken"
UNKNOWN: Final = "not known"
_KEPT: Final = 256
_FRESH: Final = 60.0  # seconds that an answer is used again while main stands where it stood

_answers: dict[tuple[str, str, str], tuple[float, "Held"]] = {}
_lock = threading.Lock()


class Held(msgspec.Struct, frozen=True):
    """A claim, and whether it holds. ``says`` why; ``written``: a person made it, in cards/MODEL.toml."""

    text: str
    state: State
    says: str
    link: str = ""
    written: bool = False


def claims(parts: Parts, page: VersionPage, written: Written) -> list[Held]:
    """What can be said of a version, first what Sampan knows by itself, then what people claim."""
    return [*_known(parts, page), *(_asked(parts, one) for one in written.claim)]


def _known(parts: Parts, page: VersionPage) -> Iterator[Held]:
    here = f"/models/{page.model}/{page.number}"
    if page.kind != "unknown":
        suite = parts.test_state(page.ref)
        unknown = (
            suite.state == "stale" and suite.result is not None and suite.result.passed
        )  # it did, of another suite
        broken = suite.state in ("failed", "stale") and not unknown
        state: State = HOLDS if suite.state == "passed" else BROKEN if broken else UNKNOWN
        yield Held("It passes the tests of its model", state, suite.said, f"{here}#tests")
    if page.golden_checks:
        last = page.golden_checks[0]
        said = f"{last.different:,} of {counted(last.cases, 'request')} got another answer, {iso(last.created)[:10]}"
        state = BROKEN if last.different else HOLDS
        yield Held("It answers as it did when it was trained", state, said, f"{here}#golden")
    elif page.golden is not None:
        said = f"nobody has asked again: `sampan model golden {page.ref}`"
        yield Held("It answers as it did when it was trained", UNKNOWN, said, f"{here}#golden")
    if page.run is not None:
        yield _rebuilt(page, here)
    for alias in page.aliases:
        found = promotion(parts, page.ref, alias)
        if found.demand is not None:
            against = [f"{one.actor} rejects it: {one.reason}" for one in found.voices if one.verdict == "rejected"]
            evidence: list[str] = next((c.evidence for c in _moves(parts, page, alias)), [])
            said = "; ".join(against or evidence) or "it was named before there was a policy"
            state = BROKEN if against else HOLDS if evidence else UNKNOWN
            yield Held(f"It is {alias} by the policy", state, said, f"{here}/promote?to={alias}")


def _moves(parts: Parts, page: VersionPage, alias: str) -> Iterator[Any]:
    """The changes that made an alias name a version, the newest first."""
    for one in parts.models.aliases.history(page.model):
        if one.alias == alias and one.number == page.number and not one.refused:
            yield one


def _rebuilt(page: VersionPage, here: str) -> Held:
    text = "It can be made anew from what is kept of it"
    if not page.rebuilds:
        return Held(text, UNKNOWN, f"nobody has tried: `sampan reproduce {page.ref}`", f"{here}#rebuilds")
    last = page.rebuilds[0]
    good = page.rebuilt == last.created
    why = f": {last.said}" if last.said and not good else ""
    return Held(text, HOLDS if good else BROKEN, f"{last.level}, {iso(last.created)[:10]}{why}", f"{here}#rebuilds")


def _asked(parts: Parts, claim: Claim) -> Held:
    """What the question behind a claim answers; not asked again at once while main stands where it stood."""
    head = parts.lake.commit_at(MAIN)
    which = (str(parts.folder.root), claim.query + "\0" + claim.text, head.id if head is not None else "")
    with _lock:
        if (kept := _answers.get(which)) and time.monotonic() < kept[0] + _FRESH:
            return kept[1]
    found = _answer(parts, claim)
    with _lock:
        _answers.pop(which, None)
        _answers[which] = (time.monotonic(), found)
        while len(_answers) > _KEPT:
            del _answers[next(iter(_answers))]
    return found


def _answer(parts: Parts, claim: Claim) -> Held:
    try:
        answer = ask(claim.query, parts.lake, parts.log)
        try:
            rows = answer.fetchmany(2)
        finally:
            answer.close()
    except SampanError as error:
        return Held(claim.text, UNKNOWN, f"its question has no answer: {error.obstacle.splitlines()[0]}", written=True)
    if len(rows) != 1 or len(rows[0]) != 1:
        return Held(claim.text, UNKNOWN, "its question does not give one value", written=True)
    value = rows[0][0]
    if value is True:
        return Held(claim.text, HOLDS, "asked now", written=True)
    if value is False:
        return Held(claim.text, BROKEN, "asked now: false", written=True)
    shown = "nothing" if value is None else repr(value)[:80]
    return Held(claim.text, UNKNOWN, f"its question gives {shown}, neither true nor false", written=True)
