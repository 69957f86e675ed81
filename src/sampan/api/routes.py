"""The ``/v1`` routes that commands go through when the hub is up: runs, SQL, endpoints, tokens, statistics."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.handlers import BaseRouteHandler
from litestar.response import Stream

from sampan.api.work import Work
from sampan.base.errors import SampanError, Usage
from sampan.base.ids import is_name
from sampan.log.quarantine import Proposal
from sampan.log.repairs import Told
from sampan.models.golden_checks import GoldenCheck
from sampan.models.rebuilds import Rebuilt
from sampan.models.signatures import SignatureRequest
from sampan.release.rehearsals import RehearsalRequest
from sampan.runs.explanations import ExplainRequest
from sampan.runs.impacts import ImpactRequest
from sampan.runs.replays import ReplayRequest
from sampan.serve.claims import LONGEST, MINUTES
from sampan.serve.reviews import Answer
from sampan.team.gate import Gate
from sampan.team.roles import PRINCIPAL, Principal
from sampan.track.spool import Line

Ask = Request[Any, Any, Any]
_END = object()


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What to run: a step or table (all, if empty), with parameters that overrule defaults."""

    target: str = ""
    sets: dict[str, Any] = {}
    branch: str = "main"
    as_of: Annotated[str, msgspec.Meta(max_length=60)] = ""


class ScoreRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Rows of a table to be answered by an endpoint, or by a version alone (``reorder@3``), into a table ``out``."""

    target: str
    table: str
    out: str
    keep: tuple[str, ...] = ()
    reason: str = ""


class BranchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A branch's name; it starts where ``ref`` is, a branch or ``@COMMIT``."""

    name: str
    ref: str = "main"
    reason: str = ""


class ReasonRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why something is done; it stays in the history."""

    reason: str = ""


class ResumeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """``rebase`` takes up the code and events of now instead of those of the interrupted run."""

    rebase: bool = False


class LoggedLines(msgspec.Struct, forbid_unknown_fields=True):
    """Lines of a logged run, in their order. The first of all names its experiment, one with a status ends it."""

    lines: list[Line]


class LoggedAnswer(msgspec.Struct):
    """Whether the run has ended with these."""

    ended: bool


class PinRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be kept: ``@COMMIT`` or a branch's newest, ``MODEL@NUMBER``, a run; and why."""

    ref: str
    reason: str


class CleanRequest(msgspec.Struct, forbid_unknown_fields=True):
    """``apply`` removes what nothing keeps; without it, what would go is only told."""

    apply: bool = False


class WhyRequest(msgspec.Struct, forbid_unknown_fields=True):
    step: str


class ProofRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Empty ``table``: each that is built bit by bit; ``count`` 0: all partitions."""

    table: str = ""
    count: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)] = 0


class ConformRequest(msgspec.Struct, forbid_unknown_fields=True):
    """How sources are to be compared: ``by`` source or producer; ``since`` an instant of receipt, in microseconds."""

    by: Literal["source", "producer"] = "source"
    since: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] | None = None


class RepairRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Quarantined events as a rule has repaired them. The rule itself stays with whoever wrote it."""

    proposals: list[Proposal]
    rule: str
    told: Told = Told()


class DamageRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What was refused because files of a version are damaged: their digests by name. The hub looks itself."""

    version: str
    files: dict[str, str]
    attempted: str


class SqlRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A question of a branch or ``@COMMIT``; of a run's held candidate if ``run`` is given. ``as_of`` (ISO text): of
    the tables that the branch had then, and the events known by then."""

    query: str
    run: str = ""
    limit: int = 10_000
    ref: str = "main"
    as_of: str = ""


class EndpointRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What an endpoint shall serve from now on. ``without_golden``: whatever its golden requests are answered; then a
    reason is needed."""

    name: str
    model: str = ""
    decision: str = ""
    thresholds: dict[str, Any] = {}
    reason: str = ""
    without_golden: bool = False


class ShadowRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What shall say what it would have said to an endpoint's predictions; ``sample``: to those about that share of the
    entities."""

    name: str
    model: str = ""
    decision: str = ""
    thresholds: dict[str, Any] = {}
    sample: float = 1.0
    reason: str = ""


class ClaimRequest(msgspec.Struct, forbid_unknown_fields=True):
    """For how many minutes somebody is at work on a case; ``over``: whoever is at work on it now."""

    minutes: Annotated[float, msgspec.Meta(gt=0, le=LONGEST)] = MINUTES
    over: bool = False


class AdoptRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What Sampan did not make and an endpoint shall serve: a file (``data``, or the ``digest`` of bytes that are
    kept), or a service at ``source``. What is left out is read from the file where its format says it.
    ``register_only``: nothing is served yet. ``example``: a record that the service is asked once, first."""

    source: str
    data: bytes = b""
    digest: str = ""
    format: str = ""
    kind: str = ""
    features: str = ""
    classes: str = ""
    form: str = ""
    read: str = ""
    timeout_ms: int = 2_000
    token_env: str = ""
    fallback: float | list[float] | None = None
    example: dict[str, Any] | None = None
    model: str = ""
    decision: str = ""
    thresholds: dict[str, Any] = {}
    register_only: bool = False
    reason: str = ""


class RollbackRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What an endpoint shall go back to: a time (ISO text), or how the digest of a bundle begins that it has served;
    left out, what was in force before."""

    to: str = ""
    reason: str = ""


class FindingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What an incident was found to be."""

    finding: str


class AlertTestRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Targets by name; all of sampan.toml, if none are named."""

    targets: list[str] = []


class SilenceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Alerts that nobody shall be told of: a kind, or one alert's key; for how many seconds, and why."""

    what: str
    seconds: float
    reason: str = ""


class TokenRequest(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    role: str
    days: int = 90


def answer(value: Any, status: int = 200) -> Response[bytes]:
    """Anything as JSON."""
    headers = {"cache-control": "no-store"}
    return Response(msgspec.json.encode(value), media_type="application/json", status_code=status, headers=headers)


def who(request: Ask) -> Principal:
    """Who asks; the guard has seen to it that there is somebody."""
    principal: Principal = dict(request.scope)[PRINCIPAL]  # type: ignore[assignment]
    return principal


def follow(work: Callable[[Callable[[Any], None]], Any]) -> Stream:
    """Do work in a thread of its own and send what it reports, line by line; the last line is its result.

    The work goes on if the listener goes away: a run belongs to the workspace, not to a connection.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[Any] = asyncio.Queue()

    def report(value: Any) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, value)

    def labour() -> None:
        try:
            report({"result": work(lambda event: report({"event": event}))})
        except SampanError as error:
            report(error.body())
        except BaseException as error:
            what = f"{type(error).__name__}: {error}"
            report(SampanError("Do what was asked", what, "The hub's own log says more.").body())
            raise
        finally:
            report(_END)

    threading.Thread(target=labour, daemon=True, name="work").start()

    async def stream() -> AsyncIterator[bytes]:
        while (value := await lines.get()) is not _END:
            yield msgspec.json.encode(value) + b"\n"

    return Stream(stream(), media_type="application/x-ndjson", headers={"cache-control": "no-store"})


def routes(work: Work, gate: Gate, base_url: str, describe: Callable[[], Any]) -> list[BaseRouteHandler]:
    """The routes, given what does the work; ``describe`` makes the OpenAPI description."""

    @get("/v1/log/stats")
    async def log_stats() -> Response[bytes]:
        return answer(await asyncio.to_thread(work.stats))

    @post("/v1/contracts/{type:str}/conform", status_code=200)
    async def conform(type: str, data: ConformRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.conform, type, data.by, data.since))

    @post("/v1/quarantine/repairs", status_code=200)
    async def repair(request: Ask, data: RepairRequest) -> Response[bytes]:
        given = (msgspec.to_builtins(data.proposals), data.rule, who(request).name, data.told)
        return answer(await asyncio.to_thread(work.repair, *given))

    @post("/v1/plan", status_code=200)
    async def plan(data: RunRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.plan, data.target, data.sets))

    @post("/v1/why", status_code=200)
    async def why(data: WhyRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.why, data.step))

    @get("/v1/late")
    async def late() -> Response[bytes]:
        return answer(await asyncio.to_thread(work.late))

    @post("/v1/proofs")
    async def prove(request: Ask, data: ProofRequest) -> Response[bytes]:
        actor = who(request).name
        return answer(await asyncio.to_thread(work.prove, data.table, data.count, data.seed, actor), 201)

    @post("/v1/runs", status_code=200)
    async def run(request: Ask, data: RunRequest) -> Stream:
        name = who(request).name
        return follow(lambda report: work.run(data.target, data.sets, name, report, data.branch, data.as_of))

    @post("/v1/branches")
    async def new_branch(request: Ask, data: BranchRequest) -> Response[bytes]:
        given = (data.name, data.ref, data.reason, who(request).name)
        return answer(await asyncio.to_thread(work.new_branch, *given), 201)

    @delete("/v1/branches/{name:str}", status_code=200)
    async def delete_branch(request: Ask, name: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.delete_branch, name, who(request).name))

    @post("/v1/branches/{name:str}/merge", status_code=200)
    async def merge(request: Ask, name: str, data: ReasonRequest) -> Stream:
        actor = who(request).name
        return follow(lambda report: work.merge(name, data.reason, actor, report))

    @post("/v1/replays/plan", status_code=200)
    async def plan_replay(data: ReplayRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.plan_replay, msgspec.to_builtins(data)))

    @post("/v1/replays", status_code=200)
    async def replay(request: Ask, data: ReplayRequest) -> Stream:
        actor, asked = who(request).name, msgspec.to_builtins(data)
        return follow(lambda report: work.replay(asked, actor, report))

    @post("/v1/replays/{id:str}/resume", status_code=200)
    async def resume_replay(request: Ask, id: str) -> Stream:
        actor = who(request).name
        await asyncio.to_thread(work.known_replay, id)
        return follow(lambda report: work.replay({}, actor, report, id))

    @post("/v1/replays/{id:str}/approve", status_code=200)
    async def approve_replay(request: Ask, id: str, data: ReasonRequest) -> Stream:
        actor = who(request).name
        await asyncio.to_thread(work.known_replay, id)
        return follow(lambda report: work.approve_replay(id, data.reason, actor, report))

    @post("/v1/replays/{id:str}/discard", status_code=200)
    async def discard_replay(request: Ask, id: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.discard_replay, id, who(request).name))

    @post("/v1/impact", status_code=200)
    async def impact(request: Ask, data: ImpactRequest) -> Stream:
        actor, asked = who(request).name, msgspec.to_builtins(data)
        return follow(lambda report: work.impact(asked, actor, report))

    @post("/v1/logged/{run:str}", status_code=200)
    async def take_logged(run: str, data: LoggedLines) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.take_logged, run, data.lines))

    @post("/v1/explanations/plan", status_code=200)
    async def plan_explanation(data: ExplainRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.plan_explanation, msgspec.to_builtins(data)))

    @post("/v1/explanations", status_code=200)
    async def explain(request: Ask, data: ExplainRequest) -> Stream:
        actor, asked = who(request).name, msgspec.to_builtins(data)
        return follow(lambda report: work.explain(asked, actor, report))

    @post("/v1/commits/{commit:str}/revert")
    async def revert(request: Ask, commit: str, data: ReasonRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.revert, commit, data.reason, who(request).name), 201)

    @post("/v1/runs/{run:str}/resume", status_code=200)
    async def resume(request: Ask, run: str, data: ResumeRequest) -> Stream:
        name = who(request).name
        return follow(lambda report: work.resume(run, data.rebase, name, report))

    @post("/v1/gc", status_code=200)
    async def clean(request: Ask, data: CleanRequest) -> Stream:
        actor = who(request).name
        return follow(lambda report: work.clean(data.apply, actor, report))

    @get("/v1/pins")
    async def pins() -> Response[bytes]:
        return answer(await asyncio.to_thread(work.pins))

    @post("/v1/pins")
    async def pin(request: Ask, data: PinRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.pin, data.ref, data.reason, who(request).name), 201)

    @delete("/v1/pins/{ref:str}", status_code=200)
    async def unpin(request: Ask, ref: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.unpin, ref, who(request).name))

    @post("/v1/rebuilds")
    async def keep_rebuild(request: Ask, data: Rebuilt) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.keep_rebuild, msgspec.to_builtins(data), who(request).name), 201)

    @post("/v1/golden-checks")
    async def keep_golden_check(request: Ask, data: GoldenCheck) -> Response[bytes]:
        given = (msgspec.to_builtins(data), who(request).name)
        return answer(await asyncio.to_thread(work.keep_golden_check, *given), 201)

    @post("/v1/signatures")
    async def keep_signature(request: Ask, data: SignatureRequest) -> Response[bytes]:
        given = (msgspec.to_builtins(data), who(request).name)
        return answer(await asyncio.to_thread(work.keep_signature, *given), 201)

    @post("/v1/damages")
    async def keep_damage(request: Ask, data: DamageRequest) -> Response[bytes]:
        given = (data.version, data.files, data.attempted, who(request).name)
        return answer(await asyncio.to_thread(work.keep_damage, *given), 201)

    @post("/v1/sql", status_code=200)
    async def sql(data: SqlRequest) -> Response[bytes]:
        if not 1 <= data.limit <= 1_000_000:
            raise Usage("Ask in SQL", f"limit {data.limit}", "It lies between 1 and 1,000,000.")
        return answer(await asyncio.to_thread(work.sql, data.query, data.run, data.limit, data.ref, data.as_of))

    @post("/v1/endpoints", status_code=200)
    async def deploy(request: Ask, data: EndpointRequest) -> Response[bytes]:
        name = who(request).name
        given = (data.name, data.model, data.decision, data.thresholds, data.reason, name, data.without_golden)
        return answer(await asyncio.to_thread(work.deploy, *given))

    @post("/v1/endpoints/{name:str}/adopt", status_code=200)
    async def adopt(request: Ask, name: str, data: AdoptRequest) -> Response[bytes]:
        asked = {**msgspec.to_builtins(data), "data": data.data}
        return answer(await asyncio.to_thread(work.adopt, name, asked, who(request).name))

    @post("/v1/rollouts", status_code=201)
    async def begin_rollout(request: Ask, data: EndpointRequest) -> Response[bytes]:
        name = who(request).name
        given = (data.name, data.model, data.decision, data.thresholds, data.reason, name, data.without_golden)
        return answer(await asyncio.to_thread(work.begin_rollout, *given), 201)

    @post("/v1/rollouts/{name:str}/{verb:str}", status_code=200)
    async def tell_rollout(request: Ask, name: str, verb: str, data: ReasonRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.tell_rollout, name, verb, data.reason, who(request).name))

    @post("/v1/shadows", status_code=201)
    async def begin_shadow(request: Ask, data: ShadowRequest) -> Response[bytes]:
        name = who(request).name
        given = (data.name, data.model, data.decision, data.thresholds, data.sample, data.reason, name)
        return answer(await asyncio.to_thread(work.begin_shadow, *given), 201)

    @post("/v1/shadows/{shadow:str}/end", status_code=200)
    async def end_shadow(request: Ask, shadow: str, data: ReasonRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.end_shadow, shadow, data.reason, who(request).name))

    @post("/v1/scores", status_code=200)
    async def score_table(request: Ask, data: ScoreRequest) -> Stream:
        if not is_name(data.table):
            raise Usage("Score a table", f"{data.table[:100]!r} is no table's name", "Letters, digits, _ and -.")
        given = (data.target, data.table, data.out, data.keep, data.reason, who(request).name)
        return follow(lambda report: work.score_table(*given, report))

    @post("/v1/rehearsals", status_code=200)
    async def rehearse(request: Ask, data: RehearsalRequest) -> Stream:
        actor, asked = who(request).name, msgspec.to_builtins(data)
        return follow(lambda report: work.rehearse(asked, actor, report))

    @get("/v1/rollouts/plans")
    async def rollout_plans(endpoint: str = "") -> Response[bytes]:
        return answer(await asyncio.to_thread(work.check_rollouts, endpoint))

    @post("/v1/incidents/{incident:str}/close", status_code=200)
    async def close_incident(request: Ask, incident: str, data: FindingRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.close_incident, incident, data.finding, who(request).name))

    @post("/v1/reviews/{prediction:str}", status_code=200)
    async def answer_review(request: Ask, prediction: str, data: Answer) -> Response[bytes]:
        given = (prediction, msgspec.to_builtins(data), who(request).name)
        return answer(await asyncio.to_thread(work.answer_review, *given))

    @post("/v1/reviews/{prediction:str}/claim", status_code=200)
    async def claim_review(request: Ask, prediction: str, data: ClaimRequest) -> Response[bytes]:
        given = (prediction, data.minutes, data.over, who(request).name)
        return answer(await asyncio.to_thread(work.claim_review, *given))

    @post("/v1/reviews/{prediction:str}/release", status_code=200)
    async def release_review(request: Ask, prediction: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.release_review, prediction, who(request).name))

    @post("/v1/endpoints/{name:str}/rollback", status_code=200)
    async def rollback(request: Ask, name: str, data: RollbackRequest) -> Response[bytes]:
        given = (name, data.to.strip(), data.reason, who(request).name)
        return answer(await asyncio.to_thread(work.rollback, *given))

    @post("/v1/predictions/{prediction:str}/recompute", status_code=200)
    async def recompute(prediction: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.recompute, prediction))

    @post("/v1/alerts/test", status_code=200)
    async def test_alerts(data: AlertTestRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.test_alerts, data.targets))

    @post("/v1/alerts/silences")
    async def silence(request: Ask, data: SilenceRequest) -> Response[bytes]:
        given = (data.what, data.seconds, data.reason, who(request).name)
        return answer(await asyncio.to_thread(work.silence, *given), 201)

    @delete("/v1/alerts/silences/{silence:str}", status_code=200)
    async def unsilence(request: Ask, silence: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.unsilence, silence, who(request).name))

    @get("/v1/tokens")
    async def tokens(request: Ask) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.tokens, request.query_params.get("as-of", "")))

    @post("/v1/tokens")
    async def create_token(data: TokenRequest) -> Response[bytes]:
        token, secret = await asyncio.to_thread(gate.tokens.create, data.name, data.role, data.days)
        await gate.changed()
        return answer({"token": token, "secret": secret}, 201)

    @delete("/v1/tokens/{name:str}", status_code=200)
    async def revoke_token(name: str) -> Response[bytes]:
        token = await asyncio.to_thread(gate.tokens.revoke, name)
        await gate.changed()
        return answer({"token": token})

    @post("/v1/links")
    async def link(request: Ask) -> Response[bytes]:
        return answer({"link": f"{base_url}/sign-in?code={gate.links.make(who(request))}"}, 201)

    @get("/v1/openapi")
    async def openapi() -> Response[bytes]:
        return answer(await asyncio.to_thread(describe))

    made = [
        log_stats,
        conform,
        repair,
        plan,
        why,
        late,
        prove,
        run,
        resume,
        sql,
        deploy,
        adopt,
        rollback,
        begin_rollout,
        tell_rollout,
        begin_shadow,
        end_shadow,
        rollout_plans,
        rehearse,
        score_table,
        close_incident,
        answer_review,
        claim_review,
        release_review,
        tokens,
        create_token,
        revoke_token,
        link,
    ]
    branching = [new_branch, delete_branch, merge, revert]
    replaying = [plan_replay, replay, resume_replay, approve_replay, discard_replay, impact]
    explaining = [plan_explanation, explain, take_logged]
    keeping = [clean, pins, pin, unpin, keep_rebuild, keep_golden_check, keep_signature, keep_damage]
    return [*made, *branching, *replaying, *explaining, *keeping, recompute, test_alerts, silence, unsilence, openapi]
