"""Runs: what one would do, does and has done, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.api.openapi import FORM, JSON, NDJSON, Operation
from sampan.api.operations.told import Lines
from sampan.api.routes import LoggedAnswer, LoggedLines, ProofRequest, ResumeRequest, RunRequest, SqlRequest, WhyRequest
from sampan.flow.engine import Why
from sampan.flow.incremental import Late, Proven
from sampan.runs.explanations import ExplainRequest, ExplanationPlan
from sampan.runs.impacts import ImpactRequest


class Column(msgspec.Struct):
    name: str
    type: str


class Rows(msgspec.Struct):
    """What a question was answered with; ``more`` if the limit cut it."""

    columns: list[Column]
    rows: list[list[Any]]
    more: bool


class Planned(msgspec.Struct):
    """What a run would do, in the form of a run that has no id."""

    run: str | None
    state: str
    commit: str | None
    git: str | None
    steps: list[dict[str, Any]]


class Going(msgspec.Struct, frozen=True):
    """The form on ``/plan``: what to run; everything, if empty."""

    target: str = ""


class GoingOn(msgspec.Struct, frozen=True):
    """The form of an interrupted run. ``rebase`` is ``yes`` to take up the code of now."""

    rebase: str = ""


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/plan/go"): Operation(
        summary="Run what has changed, and go to the run's page",
        status=303,
        body={FORM: Going},
        tag="Pages",
    ),
    ("POST", "/runs/{run}/go-on"): Operation(
        summary="Go on with an interrupted run, and go to its page",
        status=303,
        body={FORM: GoingOn},
        tag="Pages",
    ),
    ("POST", "/v1/plan"): Operation(
        summary="What a run would do, and why", body={JSON: RunRequest}, answers={JSON: Planned}
    ),
    ("GET", "/v1/late"): Operation(
        summary="What the next run builds of tables that are built bit by bit", answers={JSON: list[Late]}
    ),
    ("POST", "/v1/proofs"): Operation(
        summary="Hold such tables against their whole queries",
        body={JSON: ProofRequest},
        answers={JSON: list[Proven]},
        status=201,
    ),
    ("POST", "/v1/why"): Operation(
        summary="What differs from a step's last result", body={JSON: WhyRequest}, answers={JSON: Why}
    ),
    ("POST", "/v1/runs"): Operation(
        summary="Run what has changed; told line by line", body={JSON: RunRequest}, answers={NDJSON: Lines}
    ),
    ("POST", "/v1/runs/{run}/resume"): Operation(
        summary="Go on with an interrupted run; told line by line", body={JSON: ResumeRequest}, answers={NDJSON: Lines}
    ),
    ("POST", "/v1/impact"): Operation(
        summary="Measure what a change of data is worth to a model; told line by line",
        body={JSON: ImpactRequest},
        answers={NDJSON: Lines},
    ),
    ("POST", "/v1/logged/{run}"): Operation(
        summary="Take lines that sampan.log has logged into a run; sent again, all is as it was",
        body={JSON: LoggedLines},
        answers={JSON: LoggedAnswer},
    ),
    ("POST", "/v1/explanations/plan"): Operation(
        summary="What it takes to say why metrics differ between two runs",
        body={JSON: ExplainRequest},
        answers={JSON: ExplanationPlan},
    ),
    ("POST", "/v1/explanations"): Operation(
        summary="Say why metrics differ between two runs, factor by factor; told line by line",
        body={JSON: ExplainRequest},
        answers={NDJSON: Lines},
    ),
    ("POST", "/v1/sql"): Operation(summary="Ask in SQL", body={JSON: SqlRequest}, answers={JSON: Rows}),
}
