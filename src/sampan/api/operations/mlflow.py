"""The routes for clients of MLflow's, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.api import mlflow_wire as wire
from sampan.api.mlflow_messages import ARTIFACTS, MESSAGES, STREAMS, UPLOADS, Route
from sampan.api.openapi import JSON, Operation

_BYTES: Final = "application/octet-stream"
_BODIES: Final[Mapping[Route, Mapping[str, Any]]] = {
    ("PUT", f"{ARTIFACTS}/{{path}}"): {_BYTES: Any},
    ("PUT", f"{UPLOADS}/parts/{{upload}}/{{part}}"): {_BYTES: Any},
    ("POST", f"{UPLOADS}/create/{{path}}"): {JSON: wire.CreateUpload},
    ("POST", f"{UPLOADS}/complete/{{path}}"): {JSON: wire.CompleteUpload},
    ("POST", f"{UPLOADS}/abort/{{path}}"): {JSON: wire.AbortUpload},
}
_ANSWERS: Final[Mapping[Route, Mapping[str, Any]]] = {
    ("GET", ARTIFACTS): {JSON: wire.Files},
    ("GET", f"{ARTIFACTS}/{{path}}"): {_BYTES: Any},
    ("POST", f"{UPLOADS}/create/{{path}}"): {JSON: wire.CreatedUpload},
}
_QUERY: Final = {
    "experiment_id": "An experiment's number",
    "experiment_name": "An experiment's name",
    "filter": "As MLflow's search has it: metrics.rmse < 0.5 AND params.depth = '4'",
    "order_by": "As MLflow's search has it: metrics.rmse DESC",
    "path": "A path below the root",
    "run_id": "A run's id",
}


def _operation(method: str, takes: Any, gives: Any, summary: str) -> Operation:
    asks = method in ("GET", "DELETE")
    query = {field.encode_name: _QUERY.get(field.encode_name, "") for field in msgspec.structs.fields(takes)}
    return Operation(
        summary=summary,
        answers={JSON: gives},
        body={} if asks else {JSON: takes},
        query=query if asks else {},
        failure="MlflowFailure",
    )


OPERATIONS: Final[Mapping[Route, Operation]] = {
    **{route: _operation(route[0], *messages) for route, messages in MESSAGES.items()},
    **{
        route: Operation(
            summary=summary,
            answers=_ANSWERS.get(route, {JSON: wire.Nothing}),
            body=_BODIES.get(route, {}),
            query={"path": _QUERY["path"]} if route == ("GET", ARTIFACTS) else {},
            failure="MlflowFailure",
        )
        for route, summary in STREAMS.items()
    },
}
