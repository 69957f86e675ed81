"""All endpoints of a hub: each has one serving process, started again when it dies, replaced whole on a deploy."""

import asyncio
import contextlib
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from sampan.base.errors import Busy, Conflict, NotFound, SampanError, Unreachable
from sampan.base.settings import Settings
from sampan.log.tally import Counts, Span
from sampan.serve.assignment import Assignment, check
from sampan.serve.beside import Beside, Limits
from sampan.serve.bundle import Bundle
from sampan.serve.doors import Doors
from sampan.serve.endpoints import Endpoint, Endpoints
from sampan.serve.faces import NATIVE, face, pack
from sampan.serve.follower import Followers
from sampan.serve.following import Followed
from sampan.serve.lane import EndpointState, Lane
from sampan.serve.order import Before
from sampan.serve.overload import retry_after, unknown
from sampan.serve.previous import previous
from sampan.serve.report import Report
from sampan.serve.stream import PREFIX
from sampan.serve.warm import Warm, load
from sampan.serve.worker import Worker

_LOG: Final = logging.getLogger("sampan.serve")
_QUIET: Final = 0.5  # seconds between two looks whether an endpoint serves, and before more is loaded


class Answer(NamedTuple):
    """What goes back to the client."""

    status: int
    body: bytes
    retry_after: int | None = None


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
        self._limits = Limits(timeout, settings.get("candidate_queue"), self._patience, self._load_timeout)
        #: Takes what lies in frames of a stream that are durable now.
        self.on_kept: Callable[[str, Span, Counts], None] = lambda stream, span, counts: None
        #: How many clients were answered past the hub, by endpoint and status.
        self.answered: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._lanes: dict[str, Lane] = {}
        self._warm = Warm(settings.get("warm_for"), settings.get("warm_bundles"))
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._warming: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._one_at_a_time = asyncio.Lock()
        self._ended = False  # what is loaded from then on is ended: nobody would find it
        #: Further shadows, which follow the log.
        self.followers = Followers(endpoints.bundle, self._load_behind, self._patience)

    async def start(self, assigned: Mapping[str, Assignment] | None = None) -> None:
        """Begin to start every endpoint's process; does not wait for them.

        ``assigned``: the rollouts under way, by endpoint. From the first answer on they are gone by; while a candidate
        is still being loaded, the champion answers in its place, and no decision is evidence. One that is no candidate
        any more is left out.
        """
        self._ended = False
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
        if self._ended:
            await loaded.kill()
        elif beside is None or beside.worker is not loaded:
            self._warm.keep(name, bundle, loaded)

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
                attempted = f"Assign {made.bundle.version} to {name}"
                if self._ended:
                    raise Busy(attempted, "the hub is ending", "Try again when it is up.")
                obstacle = "it was switched, or assigned another, meanwhile"
                raise Conflict(attempted, obstacle, "Look, and try again.")
            if now is not None and loaded is None:
                await now.change(assignment)
                return
            before = await now.detach() if now is not None else None
            lane.beside = made
            made.begin(loaded)
            await lane.introduce()
            if now is not None:
                await self._left(name, now.assignment.bundle, before)
        await made.met(self._patience)  # on a busy machine it listens later than it is waited for above

    async def switch(self, endpoint: Endpoint, loaded: Worker) -> EndpointState:
        """Serve with a process that is loaded. The one before answers what it was asked, lets go of the stream, and
        stays warm; requests wait meanwhile. Once all have ended, it serves when the hub is up again."""
        name = endpoint.name
        async with self._changing[name]:
            old, lane = self._lanes.get(name), self._lane(endpoint)
            if self._ended:
                await loaded.kill()
                return lane.status()
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
                self._warm.keep(name, old.endpoint.bundle, rested)
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
        kept = False
        try:
            async with self._changing[name]:
                lane = self._lanes.get(name)
                another = lane is not None and lane.endpoint.bundle != bundle
                if another and len(self._warm.bundles(name)) < self._warm.count:
                    self._warm.keep(name, bundle, worker, seconds)
                    kept = True
        finally:
            if not kept:  # something else has come meanwhile, or the hub ends
                await worker.kill()

    def warm(self, name: str) -> list[str]:
        """Bundles that an endpoint can go back to without loading them, the newest last."""
        return self._warm.bundles(name)

    async def stop(self) -> None:
        """Answer what was asked and end all processes, those too that are still being loaded."""
        self._ended = True
        for task in self._warming.values():
            task.cancel()
        await asyncio.gather(*self._warming.values(), return_exceptions=True)
        await self.followers.end()
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
        """Keep a process that was a candidate's warm, unless something else is, or it is what is served, or all end."""
        if worker is None:
            return
        lane = self._lanes.get(name)
        if self._ended or (lane is not None and lane.endpoint.bundle == bundle):
            await worker.kill()
        else:
            self._warm.offer(name, bundle, worker)

    async def _load(
        self,
        name: str,
        bundle: Bundle,
        *,
        must: bool = True,
        without_model: bool = False,
        gently: bool = False,
        alone: bool = False,
    ) -> Worker:
        """``alone``: clients never ask it."""
        try:
            signatures = self._endpoints.signatures(bundle)
            if warning := self._endpoints.warning(bundle):
                _LOG.warning("%s is to serve %s: %s", name, bundle.version, warning)
            worker = await load(
                self._root,
                name,
                bundle,
                None if alone else self._doors,
                must=must,
                without_model=without_model,
                gently=gently,
                patience=self._load_timeout,
                signatures=signatures,
            )
        except BaseException:
            self._shut(name)
            raise
        worker.on_report = partial(self._reported, name)
        return worker

    def _before(self, name: str) -> Before | None:
        """What is to answer where the model in force does not, if its rules say that what was in force before does."""
        try:
            before, _ = previous(self._endpoints, name)
        except NotFound:
            return None
        return Before(before, self._endpoints.signatures(before)) if before is not None else None

    async def _load_behind(self, followed: Followed) -> Worker:
        """A process for who may be late: loaded once the endpoint serves, or can be seen not to, after all others."""
        name, until = followed.endpoint, time.monotonic() + self._load_timeout
        while ((lane := self._lanes.get(name)) is None or lane.state == "starting") and time.monotonic() < until:
            await asyncio.sleep(_QUIET)
        bundle = self._endpoints.bundle(followed.assignment.bundle)
        async with self._one_at_a_time:
            worker = await self._load(name, bundle, gently=True, alone=True)
        worker.on_report = partial(self._kept, followed.stream)
        return worker

    def _reported(self, name: str, report: Report) -> None:
        self._kept(PREFIX + name, report)
        if report.stretches:
            self.followers.stir(name)
        for status, number in report.statuses.items():
            self._answered(name, status, number)

    def _kept(self, stream: str, report: Report) -> None:
        for stretch in report.stretches:
            self.on_kept(stream, stretch.span, stretch.counts)

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
        # whom it is to answer waits for it, as it were: what the champion says until it is there is no evidence
        load_one = partial(self._load, lane.endpoint.name, candidate, gently=assignment.shadow)
        return Beside(candidate, assignment, self._limits, load_one)

    def _lane(self, endpoint: Endpoint) -> Lane:
        load_one = partial(self._load, must=False)
        parts = (self._endpoints.bundle, load_one, self._before, self._queue, self._patience, self._doors)
        return Lane(endpoint, *parts, partial(self._answered, endpoint.name))
