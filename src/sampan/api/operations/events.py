"""Events, what they attach, and those that wait in quarantine, for the OpenAPI description."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from sampan.api.ga4 import COLLECT, DEBUG
from sampan.api.openapi import FORM, HTML, JSON, NDJSON, Operation
from sampan.api.routes import ConformRequest, RepairRequest
from sampan.api.segment import PATHS
from sampan.log.attachments import Attached
from sampan.log.conform import Conformity
from sampan.log.from_ga4 import Finding
from sampan.log.quarantine import Repaired
from sampan.log.verdict import Verdict

_BUSY: Final = {503: "Overloaded, or the disk failed: try again after Retry-After.", 507: "The disk is full."}

_GA4: Final = {
    "api_secret": "A token",
    "measurement_id": "The data stream: the events' source",
    "firebase_app_id": "The same of an app",
}


class SentEvent(msgspec.Struct):
    """An event as it is sent. Its type's contract says what ``data`` holds; ``id`` and ``source`` tell it from others:
    sent again, it is stored once."""

    id: str
    type: str
    source: str
    time: datetime
    data: dict[str, Any]
    version: int = 1
    subject: str | None = None
    known_at: datetime | None = None


class Verdicts(msgspec.Struct):
    """What became of each event, in the order sent: accepted, duplicate or quarantined."""

    results: list[Verdict]


class Success(msgspec.Struct):
    """Segment's answer: it was taken. What is wrong with it stands in quarantine."""

    success: bool


class Validation(msgspec.Struct, rename="camel"):
    """GA4's answer to a message that is only tried."""

    validation_messages: list[Finding]


class Figures(msgspec.Struct):
    """The log in figures."""

    accepted: int
    duplicate: int
    quarantined: int
    refused: int
    segments: int
    root: str
    position: str


class Attempt(msgspec.Struct):
    """A rule to try, by the name of its file in ``repairs/``; ``reason``: on what waits for reasons that begin so."""

    rule: str
    reason: str = ""


class Application(msgspec.Struct):
    """A rule to apply as it was tried: with the SHA-256 of its text, and why."""

    rule: str
    digest: str
    why: str
    reason: str = ""


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/events"): Operation(
        summary="Take events: a list, one, or one a line; plain, gzip or zstd",
        body={JSON: list[SentEvent] | SentEvent, NDJSON: str},
        answers={JSON: Verdicts},
        status=202,
        also=_BUSY,
        tag="Events",
    ),
    **{
        ("POST", path): Operation(
            summary=f"Take Segment's {call} calls; a token is the write key",
            body={JSON: dict[str, Any]},
            answers={JSON: Success},
            also=_BUSY,
            tag="Events",
        )
        for path, call in PATHS.items()
    },
    ("POST", COLLECT): Operation(
        summary="Take a message of GA4's Measurement Protocol; a token is the api_secret",
        query=_GA4,
        body={JSON: dict[str, Any]},
        status=204,
        also=_BUSY,
        tag="Events",
    ),
    ("POST", DEBUG): Operation(
        summary="Say what is wrong with a message of GA4's Measurement Protocol; keep nothing",
        query=_GA4,
        body={JSON: dict[str, Any]},
        answers={JSON: Validation},
        tag="Events",
    ),
    **{
        (method, "/v1/blobs"): Operation(
            summary="Keep bytes that events will name by their digest",
            body={"application/octet-stream": bytes},
            answers={JSON: Attached},
            status=201,
            also={413: "More than the setting body_limit."},
            tag="Events",
        )
        for method in ("POST", "PUT")
    },
    ("GET", "/v1/blobs/{digest}"): Operation(
        summary="Bytes that an event names, as a download",
        answers={"application/octet-stream": bytes},
        query={"show": "`image` for a picture as one"},
        tag="Events",
    ),
    ("POST", "/quarantine/try"): Operation(
        summary="What a rule of the workspace would make of what waits; changes nothing",
        body={FORM: Attempt},
        answers={HTML: str},
        also={404: "There is no such rule."},
        tag="Pages",
    ),
    ("POST", "/quarantine/apply"): Operation(
        summary="Let in what a rule repairs, each once",
        status=303,
        body={FORM: Application},
        also={404: "There is no such rule.", 409: "The rule has changed since, or nothing of it waits."},
        tag="Pages",
    ),
    ("GET", "/v1/log/stats"): Operation(summary="The log in figures", answers={JSON: Figures}),
    ("POST", "/v1/contracts/{type}/conform"): Operation(
        summary="Compare the sources of a type", body={JSON: ConformRequest}, answers={JSON: Conformity}
    ),
    ("POST", "/v1/quarantine/repairs"): Operation(
        summary="Let repaired events in, each once", body={JSON: RepairRequest}, answers={JSON: Repaired}
    ),
}
