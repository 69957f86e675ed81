"""Which version each endpoint serves, now or then."""

import msgspec

from sampan.hub.parts import Parts

_EVER = 1 << 62


def serving(parts: Parts, by: int | None = None) -> dict[str, str]:
    """The version in force under each name; ``by``: at that instant."""
    sql = "SELECT name, spec FROM endpoints WHERE created <= ? ORDER BY created, rowid"
    rows = parts.db.rows(sql, (_EVER if by is None else by,))
    return {row["name"]: str(msgspec.json.decode(row["spec"]).get("version", "")) for row in rows}
