"""Cases that people decide, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.api.openapi import FORM, JSON, Operation
from sampan.api.routes import ClaimRequest
from sampan.serve.reviews import Answer


class AnswerForm(msgspec.Struct):
    """An answer to a case: one of its choices, why, and what is true of it, if that is known. ``endpoint``: whose queue
    to go on with."""

    action: str
    reason: str = ""
    label: str = ""
    endpoint: str = ""


class ClaimForm(msgspec.Struct):
    """``over``: yes, to take it from whoever is at work on it. ``endpoint``: whose queue to go on with."""

    over: str = ""
    endpoint: str = ""


class Claimed(msgspec.Struct):
    """Who is at work on a case, and until when, in microseconds; nobody, where ``by`` is empty and that is 0."""

    id: str
    endpoint: str
    by: str
    until: int


class Answered(msgspec.Struct):
    """A case as it is settled, by whom; ``at`` in microseconds."""

    id: str
    endpoint: str
    action: str
    by: str
    reason: str
    label: bool | float | str | None
    lapsed: bool
    at: int
    value: dict[str, Any] | None


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/reviews/{prediction}"): Operation(
        summary="Answer a case that a rule has sent to people",
        body={JSON: Answer},
        answers={JSON: Answered},
        also={409: "Somebody else was faster, or is at work on it, or its time is over; the message says who."},
    ),
    ("POST", "/v1/reviews/{prediction}/claim"): Operation(
        summary="Be at work on a case for a while, so that nobody else answers it",
        body={JSON: ClaimRequest},
        answers={JSON: Claimed},
        also={409: "Somebody else is at work on it, or it is settled; the message says who."},
    ),
    ("POST", "/v1/reviews/{prediction}/release"): Operation(
        summary="Leave a case to others",
        answers={JSON: Claimed},
        also={409: "Somebody else is at work on it."},
    ),
    ("POST", "/reviews/{prediction}/answer"): Operation(
        summary="Answer a case from the page, and go on with the queue",
        status=303,
        body={FORM: AnswerForm},
        also={409: "Somebody else was faster, or is at work on it, or its time is over."},
        tag="Pages",
    ),
    ("POST", "/reviews/{prediction}/claim"): Operation(
        summary="Be at work on a case, from the page",
        status=303,
        body={FORM: ClaimForm},
        also={409: "Somebody else is at work on it, or it is settled."},
        tag="Pages",
    ),
    ("POST", "/reviews/{prediction}/release"): Operation(
        summary="Leave a case to others, from the page",
        status=303,
        body={FORM: ClaimForm},
        also={409: "Somebody else is at work on it."},
        tag="Pages",
    ),
}
