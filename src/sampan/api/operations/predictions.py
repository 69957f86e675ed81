"""The routes of predictions, for the OpenAPI description."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from sampan.api.openapi import JSON, Operation
from sampan.api.predict_paths import INVOKE, PREDICT, ROUTES
from sampan.serve.recompute import Recomputed

_TAG: Final = "Predictions"
_BUSY: Final = {503: "Overloaded, or not up yet: try again after Retry-After.", 507: "The disk is full."}
_NONE: Final = {404: "There is no endpoint of that name, or it does not serve that version."}
_LINES: Final = "application/jsonlines"
_NPY: Final = "application/x-npy"


class Asked(msgspec.Struct):
    """Records to predict for; with ``ids`` of one's own, asking again changes nothing."""

    records: list[dict[str, Any]]
    ids: list[str] = []
    time: datetime | None = None


class Predictions(msgspec.Struct):
    """An answer for each record, in the order asked: id, prediction, action, rule, version, bundle; where there is
    something to say of it variant, form, fallback, review, error."""

    predictions: list[dict[str, Any]]


class Invocation(msgspec.Struct):
    """Exactly one of the four, as MLflow's scoring server takes them; ``instances`` as SageMaker does, too."""

    dataframe_split: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    instances: list[Any] | msgspec.UnsetType = msgspec.UNSET
    inputs: dict[str, Any] | list[Any] | msgspec.UnsetType = msgspec.UNSET


class Invoked(msgspec.Struct, omit_defaults=True):
    """A prediction for each record: a number, or probabilities in the order of the classes; and what was decided.
    Headers of the answer (``Sampan-Version``, ``Sampan-Rule`` and so on) say the same in every form."""

    predictions: list[Any]
    decisions: list[dict[str, Any]] = []


class InferenceTensor(msgspec.Struct, omit_defaults=True):
    """A tensor of the Open Inference Protocol; its data follows the JSON where ``binary_data_size`` is given."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] = []
    parameters: dict[str, Any] = {}


class InferenceRequest(msgspec.Struct, omit_defaults=True):
    """What is asked of a model."""

    inputs: list[InferenceTensor]
    id: str = ""
    outputs: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {}


class InferenceAnswer(msgspec.Struct, omit_defaults=True):
    """Its answer. ``parameters``: version, bundle, rule, variant, form, fallback, review."""

    model_name: str
    outputs: list[InferenceTensor]
    model_version: str = ""
    id: str = ""
    parameters: dict[str, Any] = {}


def _v2(method: str, path: str) -> Operation:
    if method == "POST":
        return Operation(
            summary="Infer, as the Open Inference Protocol has it",
            body={JSON: InferenceRequest, "application/octet-stream": Any},
            answers={JSON: InferenceAnswer, "application/octet-stream": Any},
            also={**_BUSY, **_NONE},
            tag=_TAG,
            failure="InferenceFailure",
        )
    what = "Whether a model is ready" if "{name}" in path else "Whether the hub is ready"
    if path.endswith("/ready"):
        also = {503: "It is not.", **(_NONE if "{name}" in path else {})}
        return Operation(summary=what, answers={JSON: Any}, also=also, tag=_TAG, failure="InferenceFailure")
    summary = "What a model takes and gives" if "{name}" in path else "What this server is"
    summary = "Whether the hub lives" if path.endswith("/live") else summary
    also = _NONE if "{name}" in path else {}
    return Operation(summary=summary, answers={JSON: Any}, also=also, tag=_TAG, failure="InferenceFailure")


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    **{route: _v2(*route) for route in ROUTES if route[1].startswith("/v2")},
    ("POST", PREDICT + "{name}"): Operation(
        summary="Predict and decide for records",
        body={JSON: Asked | list[dict[str, Any]]},
        answers={JSON: Predictions},
        also=_BUSY,
        tag=_TAG,
    ),
    ("POST", INVOKE + "{name}"): Operation(
        summary="Predict and decide, with bodies as MLflow's scoring server and SageMaker take them",
        body={JSON: Invocation, "text/csv": str, _LINES: str, _NPY: bytes, "application/octet-stream": bytes},
        answers={JSON: Invoked, "text/csv": str, _LINES: str, _NPY: bytes},
        also={**_BUSY, **_NONE},
        tag=_TAG,
        failure="MlflowFailure",
    ),
    ("POST", "/v1/predictions/{prediction}/recompute"): Operation(
        summary="Make a prediction once more, as it was made, and say whether it is the same",
        answers={JSON: Recomputed},
    ),
}
