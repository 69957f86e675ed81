"""Thresholds of an endpoint, to be edited, and proposals: what others would have done, who approves them."""

from typing import Any

import msgspec

from sampan.base.errors import BadWorkspace, Refused, SampanError
from sampan.base.sources import collect
from sampan.hub.parts import Parts, Query, as_of, begun, may, who
from sampan.models.approvals import WITHDRAWN
from sampan.release.proposals import Proposal, Proposals, Standing, standing
from sampan.release.rollouts import read_rollouts
from sampan.serve.counterfactual import Counterfactual, in_words
from sampan.serve.decisions import ENTRY
from sampan.serve.endpoints import Endpoint, Endpoints
from sampan.serve.thresholds import defaults, patch
from sampan.team.roles import APPROVE, DEPLOY, PROPOSE


class ProposalLine(msgspec.Struct):
    """A proposal in a list. ``sentence`` says in words what it would have changed."""

    proposal: Proposal
    state: str
    sentence: str


class ProposalList(msgspec.Struct):
    """Context of ``proposals.html``."""

    proposals: list[ProposalLine]
    endpoints: list[str]
    as_of: int | None = None


class ThresholdLine(msgspec.Struct):
    """One threshold in force. ``default`` is what ``decisions.py`` of the workspace says now; None where it is not
    written there as a plain value."""

    name: str
    value: Any
    default: Any
    kind: str


class ThresholdsPage(msgspec.Struct, kw_only=True):
    """Context of ``thresholds.html``."""

    endpoint: str
    version: str
    decision: str
    thresholds: list[ThresholdLine]
    proposals: list[ProposalLine]
    days: int
    can_try: bool
    as_of: int | None = None


class ProposalPage(msgspec.Struct, kw_only=True):
    """Context of ``proposal.html``. ``answers``: how many a trial has, and of how many; ``planned``: whether
    ``rollouts.toml`` has a plan for the endpoint; ``patch``: what brings ``decisions.py`` in line, or why none can be
    made."""

    proposal: Proposal
    standing: Standing
    effect: Counterfactual | None
    answers: tuple[int, int] | None
    sentence: str
    planned: bool
    patch: str
    mine: str
    can_propose: bool
    can_approve: bool
    can_ship: bool
    as_of: int | None = None


def proposals(parts: Parts, query: Query) -> ProposalList:
    """Proposals that approval was asked for, the newest first; as of a time, as they stood then."""
    then = as_of(query)
    asked = [one for one in Proposals(parts.db, parts.clock).list(by=then) if one.asked is not None]
    names = [one.name for one in Endpoints(parts.db, parts.models, parts.clock).list(then) if one.spec.decision]
    return ProposalList([_line(parts, one, then) for one in asked], names, then)


def thresholds(parts: Parts, query: Query) -> ThresholdsPage:
    """The thresholds of an endpoint, and what was proposed of late; or as it was at a time. Raises NotFound."""
    then = as_of(query)
    endpoints = Endpoints(parts.db, parts.models, parts.clock)
    now = endpoints.get(query["name"], then)
    bundle = endpoints.bundle(now.bundle)
    found: list[ThresholdLine] = []
    if bundle.decision is not None:
        declared = _declared(parts, now) if then is None else {}
        kinds = {bool: "tick", int: "whole", float: "number", str: "text"}
        found = [
            ThresholdLine(name, value, declared.get(name), kinds[type(value)])
            for name, value in bundle.decision.thresholds.items()
        ]
    lines = [_line(parts, one, then) for one in Proposals(parts.db, parts.clock).list(now.name, then)[:20]]
    return ThresholdsPage(
        endpoint=now.name,
        version=now.spec.version,
        decision=now.spec.decision,
        thresholds=found,
        proposals=lines,
        days=30,
        can_try=then is None and may(query, PROPOSE),
        as_of=then,
    )


def proposal(parts: Parts, query: Query) -> ProposalPage:
    """One proposal: what it would have changed, who says what, and what is missing; or as it stood at a time."""
    then = as_of(query)
    records = Proposals(parts.db, parts.clock)
    found = records.get(query["proposal"])
    begun(f"the proposal {found.id}", found.created, then)
    found = records.get(found.id, then)
    stands = _standing(parts, found, then)
    effect = _effect(found)
    me = who(query)
    own = next((one.verdict for one in stands.voices if one.actor == me), "")
    return ProposalPage(
        proposal=found,
        standing=stands,
        effect=effect,
        answers=parts.trials().get(found.id) if effect is None and then is None else None,
        sentence=_sentence(effect),
        planned=_planned(parts, found.endpoint),
        patch=_patch(parts, found),
        mine="" if own == WITHDRAWN else own,
        can_propose=then is None and may(query, PROPOSE),
        can_approve=then is None and may(query, APPROVE),
        can_ship=then is None and may(query, DEPLOY),
        as_of=then,
    )


def _line(parts: Parts, one: Proposal, then: int | None) -> ProposalLine:
    return ProposalLine(one, _standing(parts, one, then).state, _sentence(_effect(one)))


def _effect(one: Proposal) -> Counterfactual | None:
    return msgspec.convert(one.effect, Counterfactual) if one.tried is not None else None


def _sentence(effect: Counterfactual | None) -> str:
    return "It is being tried on the past." if effect is None else in_words(effect)


def _standing(parts: Parts, found: Proposal, then: int | None) -> Standing:
    now = Endpoints(parts.db, parts.models, parts.clock).find(found.endpoint, then)
    return standing(parts, found, now.bundle if now is not None else "", then)


def _declared(parts: Parts, now: Endpoint) -> dict[str, Any]:
    return dict(defaults(_sources(parts), now.spec.decision))


def _sources(parts: Parts) -> dict[str, bytes]:
    try:
        return collect(parts.folder.root, ENTRY)
    except BadWorkspace:
        return {}


def _planned(parts: Parts, endpoint: str) -> bool:
    try:
        return endpoint in read_rollouts(parts.folder.root).of
    except SampanError:
        return False


def _patch(parts: Parts, found: Proposal) -> str:
    try:
        return patch(_sources(parts), found.decision, found.thresholds)
    except Refused as error:
        return f"# {error.obstacle}"
