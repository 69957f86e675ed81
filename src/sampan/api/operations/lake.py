"""Branches, replays and commits, and what is kept or removed, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.api.openapi import FORM, JSON, NDJSON, Operation
from sampan.api.operations.told import Lines
from sampan.api.routes import BranchRequest, CleanRequest, PinRequest, ReasonRequest
from sampan.keep.clean import Cleaned, Step
from sampan.keep.pins import Pin
from sampan.lake.history import Branch, Commit
from sampan.runs.replays import Replay, ReplayRequest
from sampan.serve.replayed import ReplayPlan


class Swept(msgspec.Struct):
    """One of these a line: how far it is, then what is gone or its error."""

    event: Step | None = None
    result: Cleaned | None = None
    error: dict[str, Any] | None = None


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/replays/{replay}/approve"): Operation(
        summary="Merge what was replayed, and go to the run that does",
        status=303,
        body={FORM: ReasonRequest},
        tag="Pages",
    ),
    ("POST", "/replays/{replay}/discard"): Operation(
        summary="Drop what was replayed, and go to the replays", status=303, tag="Pages"
    ),
    ("POST", "/branches/{branch}/merge"): Operation(
        summary="Bring a branch to main, and go to the run that does",
        status=303,
        body={FORM: ReasonRequest},
        tag="Pages",
    ),
    ("POST", "/v1/branches"): Operation(
        summary="Make a branch", body={JSON: BranchRequest}, answers={JSON: Branch}, status=201
    ),
    ("DELETE", "/v1/branches/{name}"): Operation(summary="Take a branch's name away", answers={JSON: Branch}),
    ("POST", "/v1/branches/{name}/merge"): Operation(
        summary="Bring a branch's definitions to main; told line by line",
        body={JSON: ReasonRequest},
        answers={NDJSON: Lines},
    ),
    ("POST", "/v1/replays/plan"): Operation(
        summary="What a replay would do and take", body={JSON: ReplayRequest}, answers={JSON: ReplayPlan}
    ),
    ("POST", "/v1/replays"): Operation(
        summary="Replay the log with this code beside main; told line by line",
        body={JSON: ReplayRequest},
        answers={NDJSON: Lines},
    ),
    ("POST", "/v1/replays/{id}/resume"): Operation(
        summary="Go on with an interrupted replay; told line by line", answers={NDJSON: Lines}
    ),
    ("POST", "/v1/replays/{id}/approve"): Operation(
        summary="Merge what was replayed into main; told line by line",
        body={JSON: ReasonRequest},
        answers={NDJSON: Lines},
    ),
    ("POST", "/v1/replays/{id}/discard"): Operation(
        summary="Drop what was replayed; the report stays", answers={JSON: Replay}
    ),
    ("POST", "/v1/commits/{commit}/revert"): Operation(
        summary="Undo a commit of main by another", body={JSON: ReasonRequest}, answers={JSON: Commit}, status=201
    ),
    ("POST", "/v1/gc"): Operation(
        summary="Remove what nothing keeps, or say what would go; told line by line",
        body={JSON: CleanRequest},
        answers={NDJSON: Swept},
    ),
    ("GET", "/v1/pins"): Operation(summary="What is kept whatever its age", answers={JSON: list[Pin]}),
    ("POST", "/v1/pins"): Operation(
        summary="Keep a commit, version or run", body={JSON: PinRequest}, answers={JSON: Pin}, status=201
    ),
    ("DELETE", "/v1/pins/{ref}"): Operation(summary="Let it go when it is old", answers={JSON: Pin}),
}
