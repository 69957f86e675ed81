"""Events that every workspace knows: what was predicted, and what turned out to be true."""

from typing import Any

from sampan.log.declare import Event


class Prediction(Event, version=1, type="prediction"):
    """One answer of an endpoint. The event's id is the prediction's, its subject the entity."""

    endpoint: str
    version: str
    bundle: str
    entity: str
    features: dict[str, Any]
    prediction: float | str | list[float]
    action: str
    rule: str
    context: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it; what else the rules could read
    value: dict[str, Any] | None = None
    variant: str = "champion"
    latency_us: int = 0
    error: str = ""  # why the decision function gave no action of its own


class Outcome(Event, version=1, type="outcome"):
    """What turned out to be true of a prediction."""

    prediction_id: str
    value: bool | float | str


BUILTIN: tuple[type[Event], ...] = (Prediction, Outcome)
