"""Endpoints, rollouts of candidates, proposals of other thresholds, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.api.openapi import FORM, JSON, NDJSON, Operation
from sampan.api.operations.told import Lines
from sampan.api.proposal_routes import Patch, ThresholdsRequest, VerdictRequest
from sampan.api.routes import (
    AdoptRequest,
    EndpointRequest,
    ReasonRequest,
    RollbackRequest,
    ScoreRequest,
    ShadowRequest,
)
from sampan.release.proposals import Proposal, Standing
from sampan.release.rehearsals import RehearsalRequest


class Proposed(msgspec.Struct):
    """A proposal and where it stands; of one that is rolled out, the state of its rollout and why."""

    proposal: Proposal
    standing: Standing
    phase: str = ""
    why: str = ""


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/v1/endpoints"): Operation(
        summary="Put a version in force under a name", body={JSON: EndpointRequest}, answers={JSON: dict[str, Any]}
    ),
    ("POST", "/v1/endpoints/{name}/adopt"): Operation(
        summary="Put a model's file or a live service that Sampan did not make in force, or only register it",
        body={JSON: AdoptRequest},
        answers={JSON: dict[str, Any]},
    ),
    ("POST", "/v1/endpoints/{name}/rollback"): Operation(
        summary="Put what an endpoint served before in force again",
        body={JSON: RollbackRequest},
        answers={JSON: dict[str, Any]},
    ),
    ("POST", "/v1/rollouts"): Operation(
        summary="Begin to lead a candidate over an endpoint by the plan in rollouts.toml",
        body={JSON: EndpointRequest},
        answers={JSON: dict[str, Any]},
        status=201,
    ),
    ("POST", "/v1/rollouts/{name}/{verb}"): Operation(
        summary="Tell the rollout of an endpoint to pause, resume, promote, back, urgent, finish",
        body={JSON: ReasonRequest},
        answers={JSON: dict[str, Any]},
    ),
    ("GET", "/v1/rollouts/plans"): Operation(
        summary="What rollouts.toml says, once each of its queries has been asked",
        answers={JSON: dict[str, Any]},
        query={"endpoint": "Only the plan of this endpoint"},
    ),
    ("POST", "/v1/shadows"): Operation(
        summary="Have a candidate say what it would have said to an endpoint's predictions, beside any others",
        body={JSON: ShadowRequest},
        answers={JSON: dict[str, Any]},
        status=201,
    ),
    ("POST", "/v1/shadows/{shadow}/end"): Operation(
        summary="End a shadow; what it has said stays",
        body={JSON: ReasonRequest},
        answers={JSON: dict[str, Any]},
        also={409: "It has ended."},
    ),
    ("POST", "/shadows"): Operation(
        summary="Begin a shadow, and go to those of its endpoint", status=303, body={FORM: ShadowRequest}, tag="Pages"
    ),
    ("POST", "/shadows/{shadow}/end"): Operation(
        summary="End a shadow, and go to it",
        status=303,
        body={FORM: ReasonRequest},
        also={409: "It has ended."},
        tag="Pages",
    ),
    ("POST", "/endpoints/{name}/thresholds/try"): Operation(
        summary="See what other thresholds would have decided, and go to the proposal",
        status=303,
        body={FORM: dict[str, str]},
        tag="Pages",
    ),
    **{
        ("POST", f"/proposals/{{proposal}}/{verb}"): Operation(
            summary=summary, status=303, body={FORM: body}, also={409: "It is over, or stale."}, tag="Pages"
        )
        for verb, summary, body in (
            ("ask", "Ask for approval of a proposal, and go to it", ReasonRequest),
            ("withdraw", "Let a proposal be, and go to it", ReasonRequest),
            ("ship", "Begin the rollout of a proposal, and go to it", ReasonRequest),
            ("decide", "Say yes or no to a proposal, and go to it", VerdictRequest),
        )
    },
    ("POST", "/v1/endpoints/{name}/thresholds"): Operation(
        summary="See what other thresholds would have decided; kept as a proposal that nobody is asked about yet",
        body={JSON: ThresholdsRequest},
        answers={JSON: Proposed},
        status=201,
    ),
    **{
        ("POST", f"/v1/proposals/{{proposal}}/{verb}"): Operation(
            summary=summary, body={JSON: body}, answers={JSON: Proposed}, also={409: "It is over, or stale."}
        )
        for verb, summary, body in (
            ("ask", "Ask for approval of a proposal", ReasonRequest),
            ("withdraw", "Let a proposal be", ReasonRequest),
            ("ship", "Begin the rollout of a proposal", ReasonRequest),
            ("decide", "Say yes or no to a proposal", VerdictRequest),
        )
    },
    ("GET", "/v1/proposals/{proposal}/patch"): Operation(
        summary="A patch that brings decisions.py in line with a proposal", answers={JSON: Patch}
    ),
    ("POST", "/v1/scores"): Operation(
        summary="Answer each row of a table, and commit the answers as another; told line by line",
        body={JSON: ScoreRequest},
        answers={NDJSON: Lines},
    ),
    ("POST", "/v1/rehearsals"): Operation(
        summary="Play a rollout over the past, with what was known then; told line by line",
        body={JSON: RehearsalRequest},
        answers={NDJSON: Lines},
    ),
    ("POST", "/rollouts/{rollout}/{verb}"): Operation(
        summary="Tell a rollout what to do, and go to its page", status=303, body={FORM: ReasonRequest}, tag="Pages"
    ),
    ("POST", "/endpoints/{name}/back"): Operation(
        summary="Go back to an earlier bundle, and to the endpoint's page",
        status=303,
        body={FORM: RollbackRequest},
        tag="Pages",
    ),
}
