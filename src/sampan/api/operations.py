"""What the routes for machines and commands take and give, for the OpenAPI description. Pages describe themselves."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from sampan.api.ga4 import COLLECT, DEBUG
from sampan.api.mlflow_operations import OPERATIONS as MLFLOW
from sampan.api.openapi import HTML, JSON, NDJSON, Operation
from sampan.api.predict_operations import OPERATIONS as PREDICTIONS
from sampan.api.proposal_routes import Patch, ThresholdsRequest, VerdictRequest
from sampan.api.readiness import Alive, Readiness
from sampan.api.registry_routes import (
    AliasRequest,
    ApprovalRequest,
    CommentRequest,
    LabelRequest,
    ModelRequest,
    SuiteRequest,
    VersionRequest,
)
from sampan.api.routes import (
    AdoptRequest,
    AlertTestRequest,
    BranchRequest,
    ClaimRequest,
    CleanRequest,
    ConformRequest,
    DamageRequest,
    EndpointRequest,
    FindingRequest,
    LoggedAnswer,
    LoggedLines,
    PinRequest,
    ProofRequest,
    ReasonRequest,
    RepairRequest,
    ResumeRequest,
    RollbackRequest,
    RunRequest,
    ScoreRequest,
    SilenceRequest,
    SqlRequest,
    TokenRequest,
    WhyRequest,
)
from sampan.api.segment import PATHS
from sampan.flow.engine import Why
from sampan.flow.incremental import Late, Proven
from sampan.flow.outcome import Progress, RunResult
from sampan.keep.clean import Cleaned, Step
from sampan.keep.pins import Pin
from sampan.lake.history import Branch, Commit
from sampan.log.attachments import Attached
from sampan.log.conform import Conformity
from sampan.log.from_ga4 import Finding
from sampan.log.quarantine import Repaired
from sampan.log.verdict import Verdict
from sampan.models.aliases import Alias
from sampan.models.golden_checks import GoldenCheck, GoldenChecked
from sampan.models.rebuilds import Rebuild, Rebuilt
from sampan.models.registry import Registered
from sampan.models.signatures import KeptSignature, SignatureRequest
from sampan.models.tests import SuiteResult
from sampan.models.version import Version
from sampan.release.promotion import Promotion
from sampan.release.proposals import Proposal, Standing
from sampan.release.rehearsals import RehearsalRequest
from sampan.runs.explanations import ExplainRequest, ExplanationPlan
from sampan.runs.impacts import ImpactRequest
from sampan.runs.replays import Replay, ReplayRequest
from sampan.serve.recompute import Recomputed
from sampan.serve.replayed import ReplayPlan
from sampan.serve.reviews import Answer
from sampan.team.comments import Comment
from sampan.team.tokens import Token
from sampan.watch.alerts import Silence

FORM = "application/x-www-form-urlencoded"


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


class Column(msgspec.Struct):
    name: str
    type: str


class Rows(msgspec.Struct):
    """What a question was answered with; ``more`` if the limit cut it."""

    columns: list[Column]
    rows: list[list[Any]]
    more: bool


class Tokens(msgspec.Struct):
    tokens: list[Token]
    as_of: int | None = None


class NewToken(msgspec.Struct):
    """``secret`` is shown this once."""

    token: Token
    secret: str


class OneToken(msgspec.Struct):
    token: Token


class Link(msgspec.Struct):
    """Signs a browser in, once, within minutes."""

    link: str


class ViewName(msgspec.Struct):
    name: str


class NamedView(msgspec.Struct):
    """``view``: ``?filter=…`` of the run list, ``compare?…`` of a comparison."""

    name: str
    view: str


class Planned(msgspec.Struct):
    """What a run would do, in the form of a run that has no id."""

    run: str | None
    state: str
    commit: str | None
    git: str | None
    steps: list[dict[str, Any]]


class Lines(msgspec.Struct):
    """One of these a line: what happens while it goes on, then its result or its error."""

    event: Progress | None = None
    result: RunResult | None = None
    error: dict[str, Any] | None = None


class Swept(msgspec.Struct):
    """One of these a line: how far it is, then what is gone or its error."""

    event: Step | None = None
    result: Cleaned | None = None
    error: dict[str, Any] | None = None


class Going(msgspec.Struct, frozen=True):
    """The form on ``/plan``: what to run; everything, if empty."""

    target: str = ""


class GoingOn(msgspec.Struct, frozen=True):
    """The form of an interrupted run. ``rebase`` is ``yes`` to take up the code of now."""

    rebase: str = ""


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


class Proposed(msgspec.Struct):
    """A proposal and where it stands; of one that is rolled out, the state of its rollout and why."""

    proposal: Proposal
    standing: Standing
    phase: str = ""
    why: str = ""


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


class Entered(msgspec.Struct):
    token: str


_BUSY = {503: "Overloaded, or the disk failed: try again after Retry-After.", 507: "The disk is full."}

_GA4 = {
    "api_secret": "A token",
    "measurement_id": "The data stream: the events' source",
    "firebase_app_id": "The same of an app",
}

OPERATIONS: Mapping[tuple[str, str], Operation] = {
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
    **PREDICTIONS,
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
    ("POST", "/experiments/{experiment}/views"): Operation(
        summary="Save what a page of an experiment shows under a name, and go to it",
        status=303,
        body={FORM: NamedView},
        tag="Pages",
    ),
    ("POST", "/experiments/{experiment}/views/remove"): Operation(
        summary="Remove a saved view, and go to the experiment", status=303, body={FORM: ViewName}, tag="Pages"
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
    ("GET", "/sign-in"): Operation(
        summary="Sign a browser in by the code of a link, once",
        status=303,
        query={"code": "From `sampan token link`"},
        tag="Sign-in",
    ),
    ("POST", "/sign-in"): Operation(
        summary="Sign a browser in by a token",
        status=303,
        body={FORM: Entered},
        tag="Sign-in",
    ),
    ("POST", "/plan/go"): Operation(
        summary="Run what has changed, and go to the run's page",
        status=303,
        body={"application/x-www-form-urlencoded": Going},
        tag="Pages",
    ),
    ("POST", "/replays/{replay}/approve"): Operation(
        summary="Merge what was replayed, and go to the run that does",
        status=303,
        body={"application/x-www-form-urlencoded": ReasonRequest},
        tag="Pages",
    ),
    ("POST", "/replays/{replay}/discard"): Operation(
        summary="Drop what was replayed, and go to the replays", status=303, tag="Pages"
    ),
    ("POST", "/branches/{branch}/merge"): Operation(
        summary="Bring a branch to main, and go to the run that does",
        status=303,
        body={"application/x-www-form-urlencoded": ReasonRequest},
        tag="Pages",
    ),
    ("POST", "/runs/{run}/go-on"): Operation(
        summary="Go on with an interrupted run, and go to its page",
        status=303,
        body={"application/x-www-form-urlencoded": GoingOn},
        tag="Pages",
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
    ("POST", "/sign-out"): Operation(summary="End the session", status=303, tag="Sign-in"),
    ("GET", "/v1/log/stats"): Operation(summary="The log in figures", answers={JSON: Figures}),
    ("POST", "/v1/contracts/{type}/conform"): Operation(
        summary="Compare the sources of a type", body={JSON: ConformRequest}, answers={JSON: Conformity}
    ),
    ("POST", "/v1/quarantine/repairs"): Operation(
        summary="Let repaired events in, each once", body={JSON: RepairRequest}, answers={JSON: Repaired}
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
    ("POST", "/v1/gc"): Operation(
        summary="Remove what nothing keeps, or say what would go; told line by line",
        body={JSON: CleanRequest},
        answers={NDJSON: Swept},
    ),
    ("POST", "/v1/rebuilds"): Operation(
        summary="Keep what came of making a version anew", body={JSON: Rebuilt}, answers={JSON: Rebuild}, status=201
    ),
    ("POST", "/v1/golden-checks"): Operation(
        summary="Keep what came of asking golden requests again",
        body={JSON: GoldenCheck},
        answers={JSON: GoldenChecked},
        status=201,
    ),
    ("POST", "/v1/signatures"): Operation(
        summary="Keep a signature of a version that was made elsewhere",
        body={JSON: SignatureRequest},
        answers={JSON: KeptSignature},
        status=201,
    ),
    ("POST", "/v1/damages"): Operation(
        summary="Keep that something was refused for damage of a version, as far as the hub finds it damaged",
        body={JSON: DamageRequest},
        answers={JSON: dict[str, Any]},
        status=201,
    ),
    ("POST", "/v1/tests"): Operation(
        summary="Run the suite of a version's model", body={JSON: SuiteRequest}, answers={JSON: SuiteResult}, status=201
    ),
    ("GET", "/v1/pins"): Operation(summary="What is kept whatever its age", answers={JSON: list[Pin]}),
    ("POST", "/v1/pins"): Operation(
        summary="Keep a commit, version or run", body={JSON: PinRequest}, answers={JSON: Pin}, status=201
    ),
    ("DELETE", "/v1/pins/{ref}"): Operation(summary="Let it go when it is old", answers={JSON: Pin}),
    ("POST", "/v1/sql"): Operation(summary="Ask in SQL", body={JSON: SqlRequest}, answers={JSON: Rows}),
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
    ("POST", "/v1/incidents/{incident}/close"): Operation(
        summary="Say what an incident was", body={JSON: FindingRequest}, answers={JSON: dict[str, Any]}
    ),
    ("POST", "/rollouts/{rollout}/{verb}"): Operation(
        summary="Tell a rollout what to do, and go to its page", status=303, body={FORM: ReasonRequest}, tag="Pages"
    ),
    ("POST", "/incidents/{incident}/end"): Operation(
        summary="Say what an incident was, and go to its page", status=303, body={FORM: FindingRequest}, tag="Pages"
    ),
    ("POST", "/endpoints/{name}/back"): Operation(
        summary="Go back to an earlier bundle, and to the endpoint's page",
        status=303,
        body={FORM: RollbackRequest},
        tag="Pages",
    ),
    ("POST", "/v1/models"): Operation(
        summary="Give a model a name", body={JSON: ModelRequest}, answers={JSON: Registered}, status=201
    ),
    ("DELETE", "/v1/models/{model}"): Operation(
        summary="Put a model out of sight with its versions", answers={JSON: dict[str, str]}
    ),
    ("POST", "/v1/models/{model}/versions"): Operation(
        summary="Register a version of what a run logged",
        body={JSON: VersionRequest},
        answers={JSON: Version},
        status=201,
    ),
    ("DELETE", "/v1/models/{model}/versions/{number}"): Operation(
        summary="Put a version out of sight", answers={JSON: dict[str, str]}
    ),
    ("PUT", "/v1/models/{model}/aliases/{alias}"): Operation(
        summary="Have an alias name a version", body={JSON: AliasRequest}, answers={JSON: Alias}
    ),
    ("DELETE", "/v1/models/{model}/aliases/{alias}"): Operation(
        summary="Have an alias name nothing",
        query={"reason": "Why", "token": "Of the state that was seen; it goes only from that one"},
        answers={JSON: None},
    ),
    ("POST", "/v1/models/{model}/versions/{number}/approvals"): Operation(
        summary="Say yes or no to a version under an alias",
        body={JSON: ApprovalRequest},
        answers={JSON: Promotion},
        status=201,
    ),
    ("PUT", "/v1/labels/{kind}/{name}"): Operation(
        summary="Tag or describe a model, table, run or what else has a page",
        body={JSON: LabelRequest},
        answers={JSON: dict[str, Any]},
    ),
    ("POST", "/v1/comments/{kind}/{name}"): Operation(
        summary="Comment on a model, table, run or what else has a page",
        status=201,
        body={JSON: CommentRequest},
        answers={JSON: Comment},
    ),
    ("DELETE", "/v1/comments/{comment}"): Operation(
        summary="Put a comment of one's own out of sight", answers={JSON: Comment}
    ),
    ("POST", "/comments/{kind}/{name}/add"): Operation(
        summary="Comment on an object, and go to its page", status=303, body={FORM: CommentRequest}, tag="Pages"
    ),
    ("POST", "/comments/{comment}/withdraw"): Operation(
        summary="Put a comment of one's own out of sight, and go to its object's page", status=303, tag="Pages"
    ),
    ("POST", "/v1/predictions/{prediction}/recompute"): Operation(
        summary="Make a prediction once more, as it was made, and say whether it is the same",
        answers={JSON: Recomputed},
    ),
    ("GET", "/v1/tokens"): Operation(
        summary="Tokens, without their secrets",
        answers={JSON: Tokens},
        query={"as-of": "As they were then: 2026-01-31 (all of that day), 2026-01-31T12:30, or @COMMIT"},
    ),
    ("POST", "/v1/tokens"): Operation(
        summary="Make a token", body={JSON: TokenRequest}, answers={JSON: NewToken}, status=201
    ),
    ("DELETE", "/v1/tokens/{name}"): Operation(summary="Revoke a token", answers={JSON: OneToken}),
    ("POST", "/v1/links"): Operation(summary="Make a link that signs a browser in", answers={JSON: Link}, status=201),
    ("GET", "/v1/openapi"): Operation(summary="This description", answers={JSON: dict[str, Any]}),
    **MLFLOW,
}
