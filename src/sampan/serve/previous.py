"""Which bundle answers in the place of a model, where rules say that what was in force before does (``PREVIOUS``)."""

from sampan.base.errors import NotFound
from sampan.models.version import SERVICE
from sampan.serve.assignment import alike
from sampan.serve.bundle import Bundle
from sampan.serve.endpoints import Endpoints
from sampan.serve.fallback import PREVIOUS


def previous(endpoints: Endpoints, name: str) -> tuple[Bundle | None, str]:
    """That bundle of an endpoint; where rules ask for it and none can, why not. Raises NotFound without an endpoint."""
    bundle = endpoints.bundle(endpoints.get(name).bundle)
    declared = bundle.decision.fallback if bundle.decision is not None else None
    if declared is None or declared.kind != PREVIOUS:
        return None, ""
    try:
        before = endpoints.bundle(endpoints.before(name).bundle)
    except NotFound:
        return None, "nothing was in force before"
    if before.model.format != SERVICE and bundle.environment != before.environment:
        return None, f"{before.version} was made in another environment, and there is one process"
    if alike(bundle, before):
        return before, ""
    if before.decision is None:
        return None, f"{before.version} was in force without rules"
    return None, f"{before.version} gives another kind of prediction, other classes, or is about another entity"
