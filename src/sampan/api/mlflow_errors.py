"""Errors as MLflow's clients read them: ``{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": ...}``."""

from typing import Final

import msgspec

from sampan.api.guard import NOBODY, Scope
from sampan.base.errors import Busy, Conflict, Damaged, DiskFull, Frozen, NotFound, Refused, SampanError, Usage

#: Paths of the protocol.
PREFIXES: Final = ("/api/2.0/mlflow", "/api/3.0/mlflow")
_CODES: Final[tuple[tuple[type[SampanError], int, str], ...]] = (
    (NotFound, 404, "RESOURCE_DOES_NOT_EXIST"),
    (Frozen, 409, "RESOURCE_CONFLICT"),
    (Conflict, 400, "RESOURCE_ALREADY_EXISTS"),
    (Refused, 403, "PERMISSION_DENIED"),
    (Busy, 503, "TEMPORARILY_UNAVAILABLE"),
    (DiskFull, 507, "RESOURCE_EXHAUSTED"),
    (Damaged, 409, "DATA_LOSS"),  # not 500, after which clients would ask for the same bytes again
)
_OF_STATUS: Final = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "ENDPOINT_NOT_FOUND",
    405: "ENDPOINT_NOT_FOUND",
    413: "INVALID_PARAMETER_VALUE",
    503: "TEMPORARILY_UNAVAILABLE",
    507: "RESOURCE_EXHAUSTED",
}


class MlflowFailure(msgspec.Struct):
    """The body of an answer of 400 and above to a client of MLflow's."""

    error_code: str
    message: str


def failure(error: SampanError) -> tuple[int, bytes]:
    """Status and body for what a request came to."""
    for kind, status, code in _CODES:
        if isinstance(error, kind):
            return status, _body(code, error)
    if isinstance(error, Usage):
        status = 413 if error.status == 413 else 400
        return status, _body("INVALID_PARAMETER_VALUE", error)
    return error.status, _body(_OF_STATUS.get(error.status, "INTERNAL_ERROR"), error)


def refusal(scope: Scope, status: int, error: SampanError) -> tuple[bytes, bytes] | None:
    """The guard's answer to a client of MLflow's; None for everybody else."""
    if not scope["path"].startswith(PREFIXES):
        return None
    if status == 401 and error.obstacle == NOBODY:
        advice = "Set MLFLOW_TRACKING_TOKEN: `sampan token create` makes one."
        error = SampanError(error.attempted, error.obstacle, advice)
    return b"application/json", _body(_OF_STATUS.get(status, "BAD_REQUEST"), error)


def _body(code: str, error: SampanError) -> bytes:
    text = f"{error.attempted}: {error.obstacle}".rstrip(".")
    body = msgspec.json.encode(MlflowFailure(code, f"{text}. {error.advice}".rstrip()))
    return body.replace(b"<", b"\\u003c")  # it quotes what was sent, and a browser may be who asks
