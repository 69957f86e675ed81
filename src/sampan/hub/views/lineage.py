"""From an object back to the raw events: the tree that the engine's records give, with an address for each thing."""

import threading
from typing import Any, Final

from sampan.base.clock import iso
from sampan.base.errors import NotFound, Usage
from sampan.flow.lineage import Lineage, Origin
from sampan.hub.parts import Parts, Query, as_of
from sampan.runs.records import Runs
from sampan.serve.endpoints import Endpoints

_KEPT: Final = 64
_predictions: dict[tuple[str, str, str, int], Origin] = {}
_lock = threading.Lock()


def lineage(parts: Parts, query: Query) -> Origin:
    """Walk back from a prediction's id, a version (``MODEL@N``), a table, a step or a run; or as of a time.

    With ``column``, the way of one column of a table, or of one field of a type of event, and what it reaches.
    """
    then = as_of(query)
    if column := query.get("column"):
        if then is not None:
            attempted = f"Follow column {str(column)[:100]!r} as of {iso(then)}"
            raise Usage(attempted, "columns are read from the workspace as it stands", "Leave the time out.")
        return parts.columns().origin(query["object"], column)

    def rules(bundle: str, endpoint: str, at: int) -> dict[str, Any]:
        return _rules(parts, bundle, endpoint, at)

    name = query["object"]
    made = Lineage(Runs(parts.db), parts.lake, parts.models, parts.log, rules, then)
    event = parts.log.find(name, type="prediction")
    if event is None:
        return made.named(name)
    # What a prediction came from never changes, and what was known of its entity is searched for in the whole log.
    which = (str(parts.log.folder), event.position, event.id or "", parts.log.keys.destroyed())
    with _lock:
        if then is None and (kept := _predictions.get(which)) is not None:
            return kept
    found = made.prediction(event)
    with _lock:
        _predictions[which] = found
        while len(_predictions) > _KEPT:
            del _predictions[next(iter(_predictions))]
    return found


def _rules(parts: Parts, bundle: str, endpoint: str, at: int) -> dict[str, Any]:
    """The decision function of a bundle and its thresholds, and who put it in force at an endpoint, when and why."""
    from sampan.serve.bundle import decode

    try:
        decision = decode(parts.models.blobs.get(bundle)).decision if bundle else None
    except NotFound:
        return {}
    said = {"function": decision.name, "thresholds": decision.thresholds} if decision is not None else {}
    made = Endpoints(parts.db, parts.models, parts.clock).deployed(endpoint, bundle, at)
    if made is None:
        return said
    why = {"reason": made.reason} if made.reason else {}
    return {**said, "since": iso(made.created), "by": made.actor, **why}
