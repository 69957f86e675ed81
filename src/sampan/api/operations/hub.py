"""The hub itself: whether it is well, what its pages are made of, and the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

from sampan.api.openapi import JSON, Operation
from sampan.api.readiness import Alive, Readiness

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("GET", "/health"): Operation(
        summary="Whether events are taken", answers={JSON: dict[str, str]}, also={503: "They are not."}, tag="Health"
    ),
    ("GET", "/healthz"): Operation(summary="Whether the hub lives", answers={JSON: Alive}, tag="Health"),
    ("GET", "/readyz"): Operation(
        summary="Whether the hub is ready, and why not",
        answers={JSON: Readiness},
        also={503: "It is not."},
        tag="Health",
    ),
    ("GET", "/metrics"): Operation(
        summary="Figures in the text format of Prometheus", answers={"text/plain": str}, tag="Health"
    ),
    ("GET", "/static/{name}"): Operation(
        summary="A style, script or picture of the pages",
        answers={"text/css": str, "text/javascript": str, "image/svg+xml": str},
        tag="Pages",
    ),
    ("GET", "/charts/{name}"): Operation(
        summary="The script that draws charts", answers={"text/javascript": str}, tag="Pages"
    ),
    ("GET", "/live"): Operation(
        summary="What changes, told as it does (server-sent events)",
        query={"topics": "With commas: log, quarantine, runs, run:ID, endpoints, reviews, proposals, alerts"},
        answers={"text/event-stream": str},
        also={503: "Too many listen already."},
        tag="Pages",
    ),
    ("GET", "/v1/openapi"): Operation(summary="This description", answers={JSON: dict[str, Any]}),
}
