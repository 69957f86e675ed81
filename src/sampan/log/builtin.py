"""Events that every workspace knows: what was predicted, what people made of it, what turned out to be true, what a
shadow would have said."""

from datetime import datetime
from typing import Annotated, Any

from sampan.log.declare import Event, Field, upcast

Name = Annotated[str, Field(min_length=1)]


class Prediction(Event, version=1, type="prediction"):
    """One answer of an endpoint. The event's id is the prediction's, its subject the entity.

    ``version`` and ``bundle`` are those that answered. In a rollout ``variant`` says who was to answer; where that was
    the candidate and ``fallback`` says why it did not, the champion answered; where it was the champion, the answer is
    the one declared for when the model is silent. ``aside`` says why a decision of a rollout is no evidence in it, in
    whichever arm: "loading", the candidate was, as the hub had begun anew. ``review`` says until when (``due``) people
    may choose another action, and from which (``choices``). ``exposure``: what it puts at risk (``risk``), and all of
    its ``day`` so far (``total``), where a cap is declared; where the cap held an action back, ``held`` is that action
    and ``rule`` what had asked for it. A tensor that was predicted is ``{datatype, shape, data}``; a large one, as a
    large feature, is ``{datatype, shape, digest, size}``, and its bytes lie beside the log. Fields may be added with a
    default that is true of every event before.
    """

    endpoint: str
    version: str
    bundle: str
    entity: str
    features: dict[str, Any]
    prediction: float | str | list[float] | dict[str, Any]
    action: str
    rule: str
    context: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it; what else the rules could read
    value: dict[str, Any] | None = None
    variant: str = "champion"  # or "candidate"
    rollout: str = ""  # empty: there was none
    stage: int = 0
    fallback: str = ""
    aside: str = ""
    form: str = ""  # "onnx": the model's ONNX form has answered
    latency_us: int = 0
    looked_up: str = ""  # where its features are from: a table and its snapshot; empty: they came with the request
    error: str = ""  # why the decision function gave no action of its own
    review: dict[str, Any] | None = None
    exposure: dict[str, Any] | None = None


class Review(Event, version=1, type="review"):
    """What people made of a prediction that a rule had sent to them, or that nobody answered in time.

    ``action`` is what was done in the end: what its ``author`` chose, or the safe default (``lapsed``). ``label`` is
    what the author holds to be true of it. ``value``: what the action earns under each outcome. Sampan's own stand in
    the stream ``reviews``: their ``_position`` begins with ``reviews:``.
    """

    prediction_id: str
    endpoint: str
    action: str
    due: datetime
    author: str = ""
    reason: str = ""
    label: bool | float | str | None = None
    lapsed: bool = False
    value: dict[str, Any] | None = None


class Outcome(Event, version=2, type="outcome"):
    """What turned out to be true of a prediction.

    Of the one with the id, or of the newest that ``endpoint`` made about ``entity`` at or before ``until`` (the event's
    time, where it is left out), and not before ``since``.
    """

    value: bool | float | str
    prediction_id: str | None = None
    endpoint: Name | None = None
    entity: Name | None = None
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        key = [name for name in ("endpoint", "entity", "since", "until") if getattr(self, name) is not None]
        if self.prediction_id is not None and key:
            raise ValueError(f"names its prediction by prediction_id and by {key[0]}; one of both must do")
        if self.prediction_id is None and None in (self.endpoint, self.entity):
            raise ValueError("names no prediction: give prediction_id, or endpoint and entity")


@upcast(Outcome, since=1)
def _by_id(data: dict[str, Any]) -> dict[str, Any]:
    """Until version 2 there was the id alone; what else was sent meant nothing."""
    return {name: data[name] for name in ("prediction_id", "value") if name in data}


class Shadow(Event, version=1, type="shadow"):
    """What a candidate would have answered, had it been asked. No prediction: nobody was told, nothing was done.

    ``error`` says why it has no answer, or why its rule gave no action of its own; ``calls``: whom its rule would have
    called (``crm.example:443``), which was not done. ``features`` and ``context``: what it was asked, where it has
    looked features up itself and they are not the prediction's; ``looked_up``: where they are from.
    """

    prediction_id: str
    endpoint: str
    rollout: str
    stage: int
    version: str
    bundle: str
    prediction: float | str | list[float] | dict[str, Any] | None = None
    action: str = ""
    rule: str = ""
    value: dict[str, Any] | None = None
    latency_us: int = 0
    error: str = ""
    calls: list[str] = []  # noqa: RUF012 - msgspec copies it
    features: dict[str, Any] | None = None  # None: those of the prediction
    context: dict[str, Any] | None = None
    looked_up: str = ""  # a table and its snapshot


BUILTIN: tuple[type[Event], ...] = (Prediction, Outcome, Shadow, Review)
