"""One prediction made once more, by the bundle that made it, from the features and context that were kept with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.digests import digest_value
from sampan.base.errors import NotFound, Refused
from sampan.base.ids import whole
from sampan.serve.again import Case, answer_again
from sampan.serve.bundle import Bundle
from sampan.serve.endpoints import Endpoints

if TYPE_CHECKING:
    from sampan.log.read import StoredEvent
    from sampan.store.blobs import Blobs

OUTPUT: Final = ("prediction", "action", "rule")


class Output(msgspec.Struct, frozen=True):
    """What was answered; ``digest`` covers the three together."""

    prediction: Any
    action: str
    rule: str
    digest: str


class Recomputed(msgspec.Struct, frozen=True):
    """A prediction as it was made and as it is made now. ``differs`` names what is not equal; ``error``: why a rule or
    the model gave no answer of its own now."""

    id: str
    version: str
    bundle: str
    then: Output
    now: Output
    differs: list[str]
    error: str = ""


def recompute(event: "StoredEvent", endpoints: Endpoints, blobs: "Blobs", folder: Path) -> Recomputed:
    """Predict and decide again, in a process of its own. Raises Refused for what no endpoint made, NotFound, Damaged.

    Only a bundle that an endpoint has had in force is loaded: an event may name any, and a bundle is code.
    """
    data = msgspec.json.decode(event.data)
    id, digest = event.id or "", str(data.get("bundle") or "")
    try:
        bundle = endpoints.once_served(digest)
    except NotFound as unknown:
        raise Refused(f"Recompute prediction {id[:100]}", unknown.obstacle, "Only its own endpoint's can be.") from None
    then = _output(data)
    if (exposure := data.get("exposure")) and "held" in exposure:  # the day's cap held back what the rules had said
        then = _output({**data, "action": exposure["held"], "rule": exposure["rule"]})
    now, error = then, ""
    for record in _records(bundle, data):
        case = Case(id, event.time or event.received, record)
        again = answer_again(blobs, [(bundle, [case])], folder)[id]
        now, error = _output(msgspec.structs.asdict(again)), again.error
        if now == then:
            break
    differs = [name for name in OUTPUT if getattr(now, name) != getattr(then, name)]
    return Recomputed(id, bundle.version, digest, then, now, differs, error)


def _records(bundle: Bundle, data: dict[str, Any]) -> list[dict[str, Any]]:
    """The record as it may have been: of whom it was about the log keeps the text, and a rule may have had a number."""
    record = {**(data.get("context") or {}), **(data.get("features") or {})}
    named = bundle.decision.entity if bundle.decision is not None else ""
    if not named or named in record:
        return [record]
    entity = str(data.get("entity") or "")
    number = whole(entity)
    found: list[Any] = [entity or None, *([number] if str(number) == entity else [])]
    return [{**record, named: one} for one in found]


def _output(said: dict[str, Any]) -> Output:
    values = {name: said.get(name) for name in OUTPUT}
    return Output(values["prediction"], values["action"] or "", values["rule"] or "", digest_value(values))
