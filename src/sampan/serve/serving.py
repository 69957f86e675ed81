"""All endpoints of a hub: each has one serving process, started again when it dies, replaced whole on a deploy."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from sampan.base.errors import Conflict, NotFound, SampanError, Unreachable
from sampan.base.settings import Settings
from sampan.log.tally import Counts, Span
from sampan.models.version import SERVICE
from sampan.serve.assignment import Assignment, CandidateState, alike, check
from sampan.serve.beside import Beside, Limits
from sampan.serve.bundle import Bundle
from sampan.serve.crashes import Crashes
from sampan.serve.doors import Doors, Keeper
from sampan.serve.endpoints import Endpoint, Endpoints
from sampan.serve.faces import NATIVE, face, pack
from sampan.serve.fallback import PREVIOUS
from sampan.serve.order import Before
from sampan.serve.overload import retry_after, too_many, too_slow, unknown
from sampan.serve.report import Report
from sampan.serve.stream import PREFIX
from sampan.serve.warm import Warm, load
from sampan.serve.worker import Lost, Worker

State: TypeAlias = Literal["starting", "serving", "down", "stopped"]

_LOG: Final = logging.getLogger("sampan.serve")
_QUIET: Final = 0.5  # seconds between two looks whether an endpoint serves, and before more is loaded
_SLACK: Final = 10.0  # seconds in which a process may look as if it did nothing before it is ended for that
_WAITED: Final = 0.7  # of the time in which clients are answered: how long a process may take to be there again
_BACK_OFF: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before the next attempt, while none has served


class Answer(NamedTuple):
    """What goes back to the client."""

    status: int
    body: bytes
    retry_after: int | None = None


class EndpointState(msgspec.Struct, frozen=True):
    """How one endpoint is doing."""

    name: str
    state: State
    version: str
    bundle: str
    pid: int | None
    restarts: int
    under_way: int
    error: str
    candidate: CandidateState | None = None  # of a rollout
    address: str = ""  # where it is asked directly
    fault: str = ""  # why it cannot be
    crashing: str = ""  # that its process ends over and over, and how
    silent: str = ""  # why its model does not answer, and what is declared for that does


class Load(Protocol):
    """Gives a process with a bundle loaded. Raises what it failed with."""

    async def __call__(self, name: str, bundle: Bundle, *, without_model: bool = False) -> Worker: ...


class Lane:
    """One endpoint: its process now, and the task that starts another when it ends; in a rollout, the candidate's
    beside it."""

    def __init__(
        self,
        endpoint: Endpoint,
        bundle_of: Callable[[str], Bundle],
        load: Load,
        before: Callable[[str], Before | None],
        queue: int,
        patience: float,
        doors: Doors | None = None,
        count: Callable[[int], None] = lambda status: None,
    ) -> None:
        """``before``: the bundle that may answer where a model does not, by endpoint; ``count`` takes the status of
        each answer at its own address that is none of a process's."""
        self.endpoint = endpoint
        self._doors = doors
        self._bundle_of = bundle_of
        self._load = load
        self._before = before
        self._state: State = "starting"
        self.restarts = 0
        self.error = ""
        self.crashes = Crashes()
        self.beside: Beside | None = None
        self._queue = queue
        self._patience = patience
        self._worker: Worker | None = None
        self._settled = asyncio.Event()  # the first attempt to start has ended one way or the other
        self._waiting = 0
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self._count = count
        self._doorkeeper: Keeper | None = None
        self._turning_away: asyncio.Task[None] | None = None

    @cached_property
    def bundle(self) -> Bundle:
        """What it serves."""
        return self._bundle_of(self.endpoint.bundle)

    @property
    def state(self) -> State:
        """How the endpoint is doing at this instant."""
        if self._state == "serving" and (self._worker is None or self._worker.lost.is_set()):
            return "down"
        return self._state

    async def load(self) -> Worker:
        """A process with this bundle loaded, which does not answer yet: where its model does not load and something is
        declared for that, without it. Raises what it failed with."""
        name, bundle = self.endpoint.name, self.bundle
        try:
            return await self._load(name, bundle)
        except Lost:
            raise
        except SampanError:
            declared = bundle.decision.fallback if bundle.decision is not None else None
            if declared is None or (declared.kind == PREVIOUS and self._before(name) is None):
                raise
            return await self._load(name, bundle, without_model=True)

    def begin(self, loaded: Worker | None = None) -> None:
        """Serve from now on, first with a process that is loaded already."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(loaded))

    async def introduce(self) -> None:
        """Have the process go by the assignment, if there are both."""
        if self.beside is not None and self._worker is not None and not self._worker.lost.is_set():
            await self.beside.introduce(self._worker)

    async def ask(self, body: bytes, number: int) -> tuple[int, bytes]:
        """Forward one request; status and body of the answer. Raises Busy, Unreachable."""
        name = self.endpoint.name
        if self._waiting >= self._queue:
            raise too_many(name, self._waiting)
        self._waiting += 1
        try:
            worker = await self._serving()
            return await worker.ask(body, self._patience, number)
        except TimeoutError:
            self.error = f"a request took more than {self._patience:g} s"
            await worker.kill()  # a rule that hangs holds up everybody behind it
            raise too_slow(name, self._patience) from None
        finally:
            self._waiting -= 1

    async def _serving(self) -> Worker:
        """The process that answers. Waits for the first one; raises Unreachable while another is being started."""
        if self.state == "starting":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._settled.wait()
        if self.state != "serving" or self._worker is None:
            raise self._why()
        return self._worker

    def _why(self) -> Unreachable:
        """Why nobody answers."""
        attempted = f"Predict with {self.endpoint.name}"
        if self.state == "starting" and not self.error:
            return Unreachable(attempted, "its model and rules are still being loaded", "Send again in a second.")
        said = f"it is {self.state}: {self.error or 'its serving process ended'}"
        return Unreachable(attempted, said, "It is started again; send again in a second.")

    def _nobody_answers(self) -> None:
        if self._turning_away is None:
            self._turning_away = asyncio.get_running_loop().create_task(self._turn_away())

    async def _turn_away(self) -> None:
        """Answer those who ask past the hub, once they have waited for so long that they would wait for too long."""
        await asyncio.sleep(_WAITED * self._patience)
        if self._doors is not None:
            with contextlib.suppress(SampanError):  # its records cannot be read, which its state says
                self._doorkeeper = self._doors.keeper(self.endpoint.name, self.bundle, self._why, self._count)
        if self._doorkeeper is not None:
            await self._doorkeeper.begin()

    async def _let_in(self) -> None:
        """Leave those who ask past the hub to a process."""
        turning, self._turning_away = self._turning_away, None
        if turning is not None:
            turning.cancel()
            await asyncio.gather(turning, return_exceptions=True)
        keeper, self._doorkeeper = self._doorkeeper, None
        if keeper is not None:
            await keeper.end()

    async def settled(self) -> None:
        """Wait until the first attempt to serve has ended one way or the other, and who waited for it has gone on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._settled.wait()
        await asyncio.sleep(0)

    async def rest(self) -> Worker | None:
        """Answer what was asked and serve no more. Gives the process, which stays loaded; None if it cannot."""
        self._stopping = True
        worker = self._worker if self.state == "serving" else None
        if worker is None or not await worker.give():
            await self.end()
            return None
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._let_in()
        self._worker, self._state = None, "stopped"
        return worker

    async def end(self) -> None:
        """Answer what was asked, then end the process and do not start another."""
        self._stopping = True
        if self._worker is not None:
            await self._worker.stop()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._let_in()
        if self._worker is not None:
            await self._worker.kill()
        if self.beside is not None and (candidate := await self.beside.detach()) is not None:
            await candidate.kill()
        self._state = "stopped"

    def status(self) -> EndpointState:
        worker, name, doors = self._worker, self.endpoint.name, self._doors
        return EndpointState(
            name=name,
            state=self.state,
            version=self.endpoint.spec.version,
            bundle=self.endpoint.bundle,
            pid=worker.pid if worker else None,
            restarts=self.restarts,
            under_way=self._waiting,
            error=self.error,
            candidate=self.beside.status() if self.beside is not None else None,
            address=doors.address(name) if doors else "",
            fault=doors.fault(name) if doors else "",
            crashing=self.crashes.said,
            silent=worker.silent if worker is not None and self.state == "serving" else "",
        )

    async def _keep(self, loaded: Worker | None) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping:
            self._nobody_answers()
            try:
                worker = self._worker = loaded or await self.load()
                loaded = None
                await self.introduce()  # first: nobody is answered as if there were no rollout
                await self._let_in()
                await worker.take(self._before(self.endpoint.name))
            except Exception as error:  # noqa: BLE001 - whatever it was, the next attempt may do better
                self.error = str(error) or type(error).__name__
                if self._worker is not None:
                    await self._worker.kill()
                if isinstance(error, Lost):
                    self.crashes.count(" while it loaded")
            else:
                begun = loop.time()
                self._state, self.error = "serving", worker.note
                self._settled.set()
                await self._attend(worker)
                await worker.kill()
                if worker.overdue:
                    self.error = f"a request took more than {self._patience:g} s"
                self.crashes.count(worker.how, loop.time() - begun)
                if worker.answered:
                    failures = 0  # it did serve: what ended it need not be there the next time
            if self._stopping:
                return
            self._state = "down"
            self._nobody_answers()
            self._settled.set()
            self.restarts += 1
            await asyncio.sleep(_BACK_OFF[min(failures, len(_BACK_OFF) - 1)])
            failures += 1

    async def _attend(self, worker: Worker) -> None:
        """Return once a process has ended, or does nothing any more. What is asked through the hub would show that,
        but a process that is asked directly may be asked by nobody else."""
        if worker.door is None:
            await worker.lost.wait()
        with contextlib.suppress(Unreachable):
            while not worker.lost.is_set():
                await worker.look(self._patience + _SLACK)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._patience):
                        await worker.lost.wait()


class Serving:
    """Predictions for a hub: ``start`` and ``stop`` with it, ``predict`` for each request, ``refresh`` on a deploy."""

    def __init__(self, root: Path, endpoints: Endpoints, settings: Settings, doors: Doors | None = None) -> None:
        self._root = root.resolve()
        self._doors = doors
        self._endpoints = endpoints
        self._queue: int = settings.get("predict_queue")
        self._patience: float = settings.get("predict_timeout")
        self._load_timeout: float = settings.get("load_timeout")
        # Half of what the champion's process has itself: the other half is for its own answer.
        timeout = min(settings.get("candidate_timeout") / 1_000, self._patience / 2)
        self._limits = Limits(timeout, settings.get("candidate_queue"), self._patience)
        #: Takes what lies in frames of a stream that are durable now.
        self.on_kept: Callable[[str, Span, Counts], None] = lambda stream, span, counts: None
        #: How many clients were answered past the hub, by endpoint and status.
        self.answered: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._lanes: dict[str, Lane] = {}
        self._warm = Warm(settings.get("warm_for"), settings.get("warm_bundles"))
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._warming: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def start(self, assigned: Mapping[str, Assignment] | None = None) -> None:
        """Begin to start every endpoint's process; does not wait for them.

        ``assigned``: the rollouts under way, by endpoint. From the first answer on they are gone by; while a candidate
        is still being loaded, the champion answers in its place. One that is no candidate any more is left out.
        """
        for endpoint in self._endpoints.list():
            lane = self._lanes[endpoint.name] = self._lane(endpoint)
            if assigned is not None and (one := assigned.get(endpoint.name)) is not None:
                with contextlib.suppress(SampanError):
                    lane.beside = self._beside(lane, one)
                    lane.beside.begin()
            lane.begin()

    async def predict(self, name: str, body: bytes, number: int = NATIVE) -> Answer:
        """Answer one request to an endpoint: its process's answer, 404, or 503 with when to try again.

        Through any face but our own, headers go with the bodies of request and answer (``faces.pack``).
        """
        try:
            lane = self._lanes.get(name)
            if lane is None:
                raise unknown(name, self._lanes)
            status, answer = await lane.ask(body, number)
        except SampanError as error:
            said, headers = face(number).refuse(error)
            status = 404 if isinstance(error, NotFound) else 503
            answer = said if number == NATIVE else pack(headers, said)
        return Answer(status, answer, retry_after(status))

    def look(self, name: str) -> tuple[Bundle, bool] | None:
        """What an endpoint serves, and whether it answers now; None if there is none of that name."""
        lane = self._lanes.get(name)
        return None if lane is None else (lane.bundle, lane.state == "serving")

    async def refresh(self, name: str) -> EndpointState:
        """Put in force what the records say about an endpoint: load the new bundle beside the old, then switch.

        Raises what the new bundle failed with; the old one then goes on serving.
        """
        endpoint = self._endpoints.get(name)
        old = self._lanes.get(name)
        if old is not None and old.endpoint.bundle == endpoint.bundle:
            return old.status()
        return await self.switch(endpoint, await self.prepare(name, endpoint.bundle))

    async def prepare(self, name: str, bundle: str) -> Worker:
        """A process with a bundle loaded, for ``switch`` or ``spare``: the candidate's, which goes on as such until
        then, or the warm one, else a new one. Raises what the bundle failed with."""
        beside = self._beside_of(name)
        if beside is not None and (candidate := beside.lend(bundle)) is not None:
            return candidate
        return self._warm.take(name, bundle) or await self._load(name, self._endpoints.bundle(bundle))

    async def drop(self, name: str, loaded: Worker) -> None:
        """End a process that was prepared and must not serve; nobody is asked where nothing does."""
        await loaded.kill()
        self._shut(name)

    def _shut(self, name: str) -> None:
        if name not in self._lanes and self._doors is not None:
            self._doors.shut(name)

    async def spare(self, name: str, bundle: str, loaded: Worker) -> None:
        """Leave a process that was prepared where the next one finds it."""
        beside = self._beside_of(name)
        if beside is None or beside.worker is not loaded:
            await self._warm.keep(name, bundle, loaded)

    def assigned(self, name: str) -> Assignment | None:
        """What a candidate of an endpoint answers or sees; None if there is none."""
        lane = self._lanes.get(name)
        return lane.beside.assignment if lane is not None and lane.beside is not None else None

    def crashing(self, name: str, bundle: str) -> str:
        """That the processes of a bundle end over and over, and how; empty where they do not."""
        lane = self._lanes.get(name)
        if lane is None:
            return ""
        if lane.endpoint.bundle == bundle:
            return lane.crashes.said
        return lane.beside.crashes.said if lane.beside is not None and lane.beside.bundle.digest == bundle else ""

    async def assign(self, name: str, assignment: Assignment | None) -> None:
        """Have a candidate answer, or see, what a stage of a rollout says; None ends that.

        Loads it first. Raises what it failed with, Usage where clients could not be answered by either (``check``),
        NotFound, Conflict; what was assigned then goes on. Once this returns, requests are answered by it. Another
        share or stage of the same bundle restarts nothing.
        """
        lane = self._lanes.get(name)
        if lane is None:
            known = ", ".join(sorted(self._lanes)) or "none yet"
            raise NotFound(f"Assign a candidate to {name!r}", "it is not served", f"Endpoints: {known}.")
        if assignment is None:
            async with self._changing[name]:
                lane = self._lanes.get(name, lane)
                beside, lane.beside = lane.beside, None
                if beside is not None:
                    await self._left(name, beside.assignment.bundle, await beside.end())
            return
        made = self._beside(lane, assignment)
        now = lane.beside
        if now is None or now.assignment.bundle != assignment.bundle:
            loaded = self._warm.take(name, assignment.bundle) or await self._load(name, made.bundle, gently=True)
        else:
            loaded = None
        async with self._changing[name]:
            if self._lanes.get(name) is not lane or lane.beside is not now:
                await self._left(name, assignment.bundle, loaded)
                obstacle = "it was switched, or assigned another, meanwhile"
                raise Conflict(f"Assign {made.bundle.version} to {name}", obstacle, "Look, and try again.")
            if now is not None and loaded is None:
                await now.change(assignment)
                return
            before = await now.detach() if now is not None else None
            lane.beside = made
            made.begin(loaded)
            await lane.introduce()
            if now is not None:
                await self._left(name, now.assignment.bundle, before)

    async def switch(self, endpoint: Endpoint, loaded: Worker) -> EndpointState:
        """Serve with a process that is loaded. The one before answers what it was asked, lets go of the stream, and
        stays warm; requests wait meanwhile."""
        name = endpoint.name
        async with self._changing[name]:
            old, lane = self._lanes.get(name), self._lane(endpoint)
            self._lanes[name] = lane  # requests from now on wait for the new process
            rested = candidate = beside = None
            try:
                if old is not None:
                    beside, old.beside = old.beside, None  # a rollout is of what was in force
                    candidate = await beside.detach() if beside is not None else None
                    rested = await old.rest()
            finally:
                lane.begin(loaded)
            await lane.settled()
            if old is not None and rested is not None:
                await self._warm.keep(name, old.endpoint.bundle, rested)
            if beside is not None and candidate is not loaded:
                await self._left(name, beside.assignment.bundle, candidate)
            return lane.status()

    def keep_warm(self, name: str, bundle: str, seconds: float) -> None:
        """Have a bundle stay loaded for so many seconds from now, to go back to. Where it is not, it is loaded once the
        endpoint serves, after everything else; once for each start of the hub."""
        if self._warm.prolong(name, bundle, seconds) or self._warm.count < 1 or (name, bundle) in self._warming:
            return
        task = asyncio.get_running_loop().create_task(self._warm_up(name, bundle, seconds))
        self._warming[name, bundle] = task

    async def _warm_up(self, name: str, bundle: str, seconds: float) -> None:
        while (lane := self._lanes.get(name)) is None or lane.state != "serving":
            await asyncio.sleep(_QUIET)
        try:
            async with self._one_at_a_time:
                worker = await self._load(name, self._endpoints.bundle(bundle), gently=True)
        except SampanError as error:
            _LOG.warning("%s cannot be kept ready to go back to on %s: %s", bundle[:12], name, error.obstacle)
            return
        async with self._changing[name]:
            lane = self._lanes.get(name)
            if lane is None or lane.endpoint.bundle == bundle or len(self._warm.bundles(name)) >= self._warm.count:
                await worker.kill()  # something else has come meanwhile
            else:
                await self._warm.keep(name, bundle, worker, seconds)

    def warm(self, name: str) -> list[str]:
        """Bundles that an endpoint can go back to without loading them, the newest last."""
        return self._warm.bundles(name)

    async def stop(self) -> None:
        """Answer what was asked and end all processes."""
        for task in self._warming.values():
            task.cancel()
        await asyncio.gather(*self._warming.values(), return_exceptions=True)
        async with contextlib.AsyncExitStack() as stack:
            for name in sorted(self._lanes):
                await stack.enter_async_context(self._changing[name])
            await asyncio.gather(self._warm.close(), *(lane.end() for lane in self._lanes.values()))
            self._lanes.clear()
        if self._doors is not None:
            self._doors.close()

    def address(self, name: str) -> str:
        """Where an endpoint is asked directly; empty for nowhere."""
        return self._doors.address(name) if self._doors is not None else ""

    def status(self) -> list[EndpointState]:
        """How each endpoint is doing."""
        return [self._lanes[name].status() for name in sorted(self._lanes)]

    async def ready(self, name: str, patience: float = 60.0) -> EndpointState:
        """Wait until an endpoint serves, or raise Unreachable with why it does not."""
        until = time.monotonic() + patience
        while (lane := self._lanes.get(name)) is None or lane.state != "serving":
            if time.monotonic() > until or lane is None:
                reason = lane.error if lane else "there is no endpoint of that name"
                raise Unreachable(f"Wait for endpoint {name}", reason or f"not ready in {patience:g} s")
            await asyncio.sleep(0.02)
        return lane.status()

    async def _left(self, name: str, bundle: str, worker: Worker | None) -> None:
        """Keep a process that was a candidate's warm, unless something else is, or it is what is served."""
        if worker is None:
            return
        lane = self._lanes.get(name)
        if lane is not None and lane.endpoint.bundle == bundle:
            await worker.kill()
        else:
            await self._warm.offer(name, bundle, worker)

    async def _load(
        self, name: str, bundle: Bundle, *, must: bool = True, without_model: bool = False, gently: bool = False
    ) -> Worker:
        how: dict[str, Any] = {"must": must, "without_model": without_model, "gently": gently}
        try:
            how["signatures"] = self._endpoints.signatures(bundle)
            if warning := self._endpoints.warning(bundle):
                _LOG.warning("%s is to serve %s: %s", name, bundle.version, warning)
            worker = await load(self._root, name, bundle, self._doors, patience=self._load_timeout, **how)
        except BaseException:
            self._shut(name)
            raise
        worker.on_report = partial(self._reported, name)
        return worker

    def _before(self, name: str) -> Before | None:
        """What is to answer where the model in force does not, if its rules say that what was in force before does."""
        with contextlib.suppress(NotFound):
            bundle = self._endpoints.bundle(self._endpoints.get(name).bundle)
            declared = bundle.decision.fallback if bundle.decision is not None else None
            if declared is not None and declared.kind == PREVIOUS:
                before = self._endpoints.bundle(self._endpoints.before(name).bundle)
                there = before.model.format == SERVICE or bundle.environment == before.environment
                fits = alike(bundle, before) and there
                return Before(before, self._endpoints.signatures(before)) if fits else None
        return None

    def _reported(self, name: str, report: Report) -> None:
        for stretch in report.stretches:
            self.on_kept(PREFIX + name, stretch.span, stretch.counts)
        for status, number in report.statuses.items():
            self._answered(name, status, number)

    def _answered(self, name: str, status: int, number: int = 1) -> None:
        answered = self.answered[name]
        answered[status] = answered.get(status, 0) + number

    def _beside_of(self, name: str) -> Beside | None:
        lane = self._lanes.get(name)
        return None if lane is None else lane.beside

    def _beside(self, lane: Lane, assignment: Assignment) -> Beside:
        """Raises Usage where the two cannot answer the same clients."""
        candidate = self._endpoints.bundle(assignment.bundle)
        check(lane.endpoint.name, assignment, lane.bundle, candidate)
        load_one = partial(self._load, lane.endpoint.name, candidate, gently=True)
        return Beside(candidate, assignment, self._limits, load_one)

    def _lane(self, endpoint: Endpoint) -> Lane:
        load_one = partial(self._load, must=False)
        parts = (self._endpoints.bundle, load_one, self._before, self._queue, self._patience, self._doors)
        return Lane(endpoint, *parts, partial(self._answered, endpoint.name))
