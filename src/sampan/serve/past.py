"""Past decisions, as the log has them, each with what turned out to be true of it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.lake.query import quote_text
from sampan.lake.read import query
from sampan.log.outcomes import KNOWN_SQL

if TYPE_CHECKING:
    from sampan.lake.lake import Lake
    from sampan.log.log import Log
    from sampan.log.position import Position


class Past(msgspec.Struct, frozen=True):
    """One decision as it was made, and what turned out to be true. ``time`` in microseconds."""

    id: str
    time: int
    endpoint: str
    version: str
    bundle: str
    entity: str
    features: dict[str, Any]
    context: dict[str, Any]
    prediction: Any
    action: str
    rule: str
    value: dict[str, Any] | None
    outcome: Any
    reviewed: bool = False
    """Whether people were asked; then action and value are of what they made of it."""
    held: str = ""
    """The action that the day's cap held back, if it did."""


def past_decisions(
    lake: "Lake",
    log: "Log",
    position: "Position",
    since: int | None = None,
    until: int | None = None,
    endpoint: str = "",
    most: int = 0,
) -> list[Past]:
    """Every decision in the log, or of one endpoint, in the order of time, with the last outcome given for it; at most
    so many, drawn evenly and the same each time."""
    if not log.state("prediction", position).count:
        return []
    span = [f"_time >= make_timestamptz({since})"] if since is not None else []
    span += [f"_time < make_timestamptz({until})"] if until is not None else []
    span += [f"endpoint = {quote_text(endpoint)}"] if endpoint else []
    where = f" WHERE {' AND '.join(span)}" if span else ""
    drawn = ""
    if most:
        drawn = f"SELECT _id FROM prediction{where} ORDER BY md5(_id) LIMIT {most}"
        where = f" WHERE _id IN ({drawn}){' AND ' + ' AND '.join(span) if span else ''}"
    outcomes: dict[str, Any] = {}
    wanted = f" WHERE prediction_id IN ({drawn})" if drawn else ""
    for id, value in query(
        f"SELECT prediction_id, value::VARCHAR FROM ({KNOWN_SQL}) AS known{wanted}",
        lake,
        log,
        position=position,
    ).fetchall():
        outcomes[id] = _json(value)
    rows = query(
        "SELECT _id, epoch_us(_time), endpoint, version, bundle, entity, features::VARCHAR, context::VARCHAR,"
        " prediction::VARCHAR, coalesce(settled.action, prediction.action), rule,"
        " coalesce(settled.value, prediction.value)::VARCHAR, settled.prediction_id IS NOT NULL,"
        " coalesce(exposure->>'held', '')"
        " FROM prediction LEFT JOIN (SELECT prediction_id, endpoint AS whose, action, value FROM review"
        " WHERE starts_with(_position, 'reviews:')) AS settled ON prediction_id = _id AND whose = endpoint"
        f"{where} ORDER BY _time, _id",
        lake,
        log,
        position=position,
    ).fetchall()
    return [_past(row, outcomes) for row in rows]


def _past(row: Sequence[Any], outcomes: Mapping[str, Any]) -> Past:
    told = [_json(row[6]) or {}, _json(row[7]) or {}, _json(row[8])]
    values = [*row[:6], *told, *row[9:11], _json(row[11]), outcomes.get(row[0]), *row[12:14]]
    return Past(*values)


def _json(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
