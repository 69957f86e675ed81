"""A version on its way to an alias: what it is, what speaks for it, what people say, what is missing."""

from typing import Final

import msgspec

from sampan.base.errors import NotFound
from sampan.base.ids import whole
from sampan.hub.parts import Parts, Query, may, who
from sampan.hub.uses import about, code_of
from sampan.hub.views.models import Measure, compared
from sampan.models.aliases import check_alias
from sampan.models.approvals import WITHDRAWN
from sampan.release.policy import Demand, read_policy
from sampan.release.promotion import Proof, Voice
from sampan.release.promotion import promotion as look_up
from sampan.team.roles import APPROVE, DEPLOY

_USUAL: Final = "champion"


class PromotionPage(msgspec.Struct, kw_only=True):
    """Context of ``promotion.html``. ``current``: the version that the alias names now, empty for none; ``measures``
    stand beside its own. ``again``: the alias has named this version before, and may go back to it."""

    ref: str
    model: str
    about: str
    alias: str
    aliases: list[str]
    demand: Demand | None
    current: str
    token: int
    ready: bool
    missing: tuple[str, ...]
    proofs: tuple[Proof, ...]
    voices: tuple[Voice, ...]
    again: bool
    measures: list[Measure]
    created: int
    mine: str
    can_approve: bool
    can_promote: bool


def promotion(parts: Parts, query: Query) -> PromotionPage:
    """Where a version stands. ``to`` names the alias; left out, the first that the policy guards. Raises NotFound."""
    number = whole(query["number"])
    if number is None:
        raise NotFound("Promote a version", f"{query['number'][:60]!r} is no version number", "Write MODEL@NUMBER.")
    version = parts.models.get(f"{query['model']}@{number}")
    guarded = read_policy(parts.folder.root).guarded(version.model)
    alias = str(query.get("to") or next(iter(guarded), _USUAL))
    check_alias(f"Promote {version.ref}", alias)
    found = look_up(parts, version.ref, alias)
    before = parts.models.get(found.current) if found.current and found.current != version.ref else None
    me = who(query)
    own = next((one.verdict for one in found.voices if one.actor == me and not one.void), "")
    known = {*guarded, alias, *(one.alias for one in parts.models.aliases.list(version.model))}
    return PromotionPage(
        ref=version.ref,
        model=version.model,
        about=about(code_of(parts.folder.root, version.model)),
        alias=alias,
        aliases=sorted(known),
        demand=found.demand,
        current=found.current,
        token=found.token,
        ready=found.ready,
        missing=found.missing,
        proofs=found.proofs,
        voices=found.voices,
        again=found.again,
        measures=compared(version, before),
        created=version.created,
        mine="" if own == WITHDRAWN else own,
        can_approve=may(query, APPROVE),
        can_promote=may(query, DEPLOY),
    )
