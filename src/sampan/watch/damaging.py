"""Versions of which a file is damaged, so that something was refused, or would be once a process starts anew."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

from sampan.models.damages import Damage
from sampan.watch.alerts import Breach
from sampan.watch.limits import Limits
from sampan.watch.look import Memory, Signal


class Sees(Protocol):
    """What is looked at here."""

    def damages(self) -> Sequence[Damage]: ...


def damaged(sight: Sees, limits: Limits, memory: Memory) -> Iterator[Signal]:
    """Those whose files are still not as they were kept, as far as anybody has asked for them."""
    found: defaultdict[str, list[Damage]] = defaultdict(list)
    for one in sight.damages() if limits.damage else ():
        found[one.version].append(one)
    for version, several in found.items():
        last = several[-1]
        names = ", ".join(dict.fromkeys(one.file for one in several))
        places = ", ".join(dict.fromkeys(one.says.partition(" ")[0] for one in several))
        refused = "" if last.actor == "sampan" else "refused, "
        reason = f"{last.attempted}: {refused}{last.file} is damaged"
        breach = Breach(
            kind="damaged",
            about=version,
            title=f"{names} of {version} {'is' if len(several) == 1 else 'are'} damaged",
            reason=reason[:300],
            cause="; ".join(dict.fromkeys(one.says for one in several))[:300],
            evidence=f"/models/{version.replace('@', '/')}",
            action=f"Restore {places} from a backup; what serves goes on from memory until its process ends.",
            field=last.file,
            example=last.id,
            value=float(len(several)),
        )
        yield Signal.of(breach)
