"""Alerts and incidents, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

from sampan.api.openapi import FORM, JSON, Operation
from sampan.api.routes import AlertTestRequest, FindingRequest, SilenceRequest
from sampan.watch.alerts import Silence

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/alerts/test"): Operation(
        summary="Send a test to the targets of alerts; gives what went wrong with each, or nothing",
        body={JSON: AlertTestRequest},
        answers={JSON: dict[str, str]},
        tag="Alerts",
    ),
    ("POST", "/v1/alerts/silences"): Operation(
        summary="Tell nobody of a kind of alert, or of one, for a while",
        status=201,
        body={JSON: SilenceRequest},
        answers={JSON: Silence},
        tag="Alerts",
    ),
    ("DELETE", "/v1/alerts/silences/{silence}"): Operation(
        summary="Take a silence back before its time", answers={JSON: Silence}, tag="Alerts"
    ),
    ("POST", "/alerts/silences/{silence}/end"): Operation(
        summary="Take a silence back, and go to the alerts", status=303, tag="Pages"
    ),
    ("POST", "/v1/incidents/{incident}/close"): Operation(
        summary="Say what an incident was", body={JSON: FindingRequest}, answers={JSON: dict[str, Any]}
    ),
    ("POST", "/incidents/{incident}/end"): Operation(
        summary="Say what an incident was, and go to its page", status=303, body={FORM: FindingRequest}, tag="Pages"
    ),
}
