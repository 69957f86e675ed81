"""What ``--as-of`` names: a time, or the moment at which a commit was made."""

from typing import TYPE_CHECKING, Final

from sampan.base.clock import iso, past
from sampan.base.errors import Usage

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace

_BEGUN: Final = """
SELECT min(at) AS at FROM (
    SELECT min(registered) AS at FROM contracts UNION ALL SELECT min(created) FROM tokens
    UNION ALL SELECT min(created) FROM commits UNION ALL SELECT min(started) FROM runs
)
"""


def instant(place: "Workplace", text: str) -> int:
    """The instant in microseconds that ``TIME`` or ``@COMMIT`` names.

    Raises Usage for a text that is neither, for a time to come, and for one before anything was known; NotFound for
    a commit that there is not.
    """
    text = text.strip()
    if text.startswith("@"):
        return place.lake.commit_of(text[1:]).created
    then = past(text, place.clock.micros())
    row = place.db.row(_BEGUN)
    begun = None if row is None else row["at"]
    if begun is not None and then < begun and not _known(place, then):
        raise Usage(
            f"See it as of {text[:60]!r}",
            f"nothing was known then; its first records are of {iso(begun)}",
            "Choose a later time.",
        )
    return then


def _known(place: "Workplace", then: int) -> bool:
    """Whether an event states that it was known by then, as imported ones may; yes if that takes long to tell."""
    from sampan.log.seek import Wanted, seek

    found = seek(place.log, Wanted(known_by=then), limit=1)
    return bool(found.events) or found.looked_to is not None
