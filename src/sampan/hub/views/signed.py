"""Who has signed a version, and whether that counts, as pages show it. As of a time: the signatures that there were,
by the keys that are trusted now."""

import msgspec

from sampan.base.errors import SampanError
from sampan.hub.parts import Parts
from sampan.models.signatures import Signatures
from sampan.models.signing import OFF, content_of, read_trust
from sampan.models.version import Version, VersionDraft


class SignedLine(msgspec.Struct):
    """One signature. ``name``: what sampan.toml calls its key, empty where it names none; ``holds``: it is one of this
    content, name and number by that key."""

    key: str
    name: str
    holds: bool
    actor: str
    reason: str
    at: int


class SignedPart(msgspec.Struct, kw_only=True):
    """Where a version stands. ``mode``: what the setting require_signature says, empty where it cannot be read."""

    mode: str
    valid: bool
    by: list[str]
    said: str
    signatures: list[SignedLine]


def signed(parts: Parts, ref: str, version: Version | VersionDraft, then: int | None) -> SignedPart:
    """Where a version, or what a bundle carries of it, stands under ``MODEL@NUMBER``."""
    model, _, number = ref.rpartition("@")
    found = Signatures(parts.db, parts.clock).list(model, int(number), then)
    try:
        trust = read_trust(parts.folder)
    except SampanError as error:
        lines = [SignedLine(one.key, "", False, one.actor, one.reason, one.at) for one in found]
        return SignedPart(mode="", valid=False, by=[], said=f"{error.attempted}: {error.obstacle}", signatures=lines)
    standing, digest = trust.standing(ref, version, found), content_of(version)
    lines = []
    for one in found:
        name = trust.keys[one.key].name if one.key in trust.keys else ""
        holds = trust.holds(one, model, int(number), digest)
        lines.append(SignedLine(one.key, name, holds, one.actor, one.reason, one.at))
    return SignedPart(mode=trust.mode, valid=standing.valid, by=list(standing.by), said=standing.said, signatures=lines)


def in_words(part: SignedPart) -> str:
    """The same for a line about an endpoint; empty where nobody asks for signatures and there is none."""
    return "" if part.mode == OFF and not part.signatures else part.said
