"""From an object back to the raw events: the tree that the engine's records give, with an address for each thing."""

from typing import Any

from sampan.base.errors import NotFound
from sampan.flow.lineage import Lineage, Origin
from sampan.hub.parts import Parts, Query
from sampan.runs.records import Runs


def lineage(parts: Parts, query: Query) -> Origin:
    """Walk back from a prediction's id, a version (``MODEL@N``), a table, a step or a run."""

    def rules(bundle: str) -> dict[str, Any]:
        return _rules(parts, bundle)

    return Lineage(Runs(parts.db), parts.lake, parts.models, parts.log, rules).of(query["object"])


def _rules(parts: Parts, bundle: str) -> dict[str, Any]:
    """The decision function of a bundle and its thresholds."""
    from sampan.serve.bundle import decode

    try:
        decision = decode(parts.models.blobs.get(bundle)).decision if bundle else None
    except NotFound:
        return {}
    return {"function": decision.name, "thresholds": decision.thresholds} if decision is not None else {}
