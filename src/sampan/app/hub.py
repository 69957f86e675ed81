"""The hub as it runs: the ASGI stack of one start, from the socket down to the workspace."""

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeVar

from sampan.api.blobs import blobs
from sampan.api.dispatch import EVENTS, Dispatch
from sampan.api.doorkeeper import Doorkeeper
from sampan.api.ending import cut_off
from sampan.api.ga4 import COLLECT, DEBUG, Collect, Validate
from sampan.api.guard import WILDCARDS, Guard, Hosts, Refusal, Response
from sampan.api.headers import SecurityHeaders
from sampan.api.intake import Intake
from sampan.api.mlflow import Mlflow
from sampan.api.mlflow_errors import refusal as mlflow_refusal
from sampan.api.observed import Observed, Requests
from sampan.api.policies import ANYBODY, POLICIES, Policies
from sampan.api.predict import Predict
from sampan.api.predict import refusal as predict_refusal
from sampan.api.proposal_routes import proposal_routes
from sampan.api.registry_routes import registry_routes
from sampan.api.routes import routes
from sampan.api.segment import PATHS, Segment
from sampan.api.site import live_routes, site
from sampan.api.vitals import vitals
from sampan.app.cleaning import keep_clean
from sampan.app.conforming import keep_comparing
from sampan.app.following import keep_following
from sampan.app.leading import keep_leading
from sampan.app.proving import keep_proving, newest
from sampan.app.reviewing import keep_reviewing
from sampan.app.spooled import keep_taking
from sampan.app.troubles import troubles
from sampan.app.vitals import checks, metrics
from sampan.base.clock import SystemClock, iso
from sampan.base.errors import Busy
from sampan.base.files import write_durably
from sampan.hub.commenting import commenting
from sampan.hub.doors import doors
from sampan.hub.forms import forms
from sampan.hub.live import Live
from sampan.hub.pages import pages
from sampan.hub.pulse import Pulse
from sampan.hub.render import Frame, refusal
from sampan.hub.saved_views import saving
from sampan.hub.server import apart
from sampan.hub.sitemap import PAGES, PURPOSES, context, takes
from sampan.hub.strays import Straying
from sampan.hub.topics import Topics
from sampan.hub.workbench import workbench
from sampan.log.attachments import Attachments
from sampan.log.conform import Conformity, recorded
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.quarantine import Quarantine
from sampan.log.writer import StreamWriter
from sampan.models.damages import Damage
from sampan.models.rebuilds import Rebuild
from sampan.runs.records import Runs
from sampan.serve.assignment import Assignment
from sampan.serve.claims import Claims
from sampan.serve.doors import NOWHERE, Doors, Most, Ports
from sampan.serve.endpoints import Endpoint
from sampan.serve.exposed import Capped, Held
from sampan.serve.follower import FollowerState
from sampan.serve.following import Followed
from sampan.serve.lane import EndpointState
from sampan.serve.reviews import STREAM, Desk, Watching
from sampan.serve.scoring import Batch
from sampan.serve.serving import Serving
from sampan.serve.warm import left
from sampan.serve.worker import Worker
from sampan.team.gate import Gate
from sampan.team.roles import PRINCIPAL
from sampan.team.tokens import owner_token
from sampan.track.tracking import Tracking
from sampan.watch.releasing import Trouble
from sampan.watch.reviewing import Unanswered
from sampan.watch.straying import Strays
from sampan.watch.watch import Watch

if TYPE_CHECKING:
    from sampan.app import App

T = TypeVar("T")


class Sight:
    """What the watch sees of a running hub."""

    def __init__(self, hub: "RunningHub") -> None:
        self._hub = hub
        self._files: dict[str, tuple[Any, str]] = {}

    @property
    def log(self) -> Log:
        return self._hub.app.log

    @property
    def runs(self) -> Runs:
        return self._hub.app.runs

    @property
    def contracts(self) -> Contracts:
        return self._hub.app.contracts

    @property
    def data(self) -> Path:
        return self._hub.app.folder.data

    def now(self) -> int:
        return self._hub.app.clock.micros()

    def conformities(self) -> Mapping[str, Conformity]:
        return recorded(self._hub.app.db)

    def endpoints(self) -> list[EndpointState]:
        return self._hub.serving.status()

    def log_fault(self) -> str:
        return self._hub.writer.health().reason

    def sealing_fault(self) -> str:
        return self._hub.writer.sealing.failure

    def rebuilds(self) -> Sequence[Rebuild]:
        return newest(self._hub.app)

    def troubles(self) -> Sequence[Trouble]:
        return troubles(self._hub.app)

    def unanswered(self) -> Sequence[Unanswered]:
        found: dict[str, Unanswered] = {}
        for case in self._hub.cases.lapsed:
            one = found.get(case.endpoint) or Unanswered(case.endpoint, 0, case.id, case.safe)
            found[case.endpoint] = Unanswered(case.endpoint, one.count + 1, one.newest, one.safe)
        return list(found.values())

    def held(self) -> Sequence[Held]:
        return self._hub.capped.look(self.now())

    def damages(self) -> Sequence[Damage]:
        self._hub.app.look_at_served(self._files)
        return self._hub.app.damages(self._files)

    def strays(self) -> Strays | None:
        return self._hub.straying.look(self.now())

    def followers(self) -> list[FollowerState]:
        return self._hub.serving.followers.status()


class RunningHub:
    """The ASGI stack of one start of the hub: guard, hot paths, pages, ``/v1``."""

    def __init__(self, app: "App", host: str, port: int) -> None:
        self.app = app
        name = "127.0.0.1" if host in WILDCARDS else f"[{host}]" if ":" in host else host
        self.requests = Requests()
        self.ending = False
        self._opening = threading.Lock()
        self.url = f"http://{name}:{port}"
        self.instance = token_hex(8)
        secrets = [owner_token(app.folder.data / "token"), app.settings.get("token")]
        self.gate = Gate(app.db, SystemClock(), secrets)  # secrets live in real time, whatever a time-lapse plays
        self.hosts = Hosts(host, port, app.settings.get("allowed_hosts"))
        # cookies know no ports: two hubs on one machine must not share a name
        self.cookie = f"sampan_{sha256(str(app.folder.root).encode()).hexdigest()[:8]}"

    @asynccontextmanager
    async def stack(self) -> AsyncIterator[Any]:
        """Everything between a socket and the workspace; taken down in reverse order."""
        app = self.app
        self.writer = app.log.writer("intake")
        self.cases = Watching(lambda: app.log, app.may_ask, app.clock)
        self.straying = Straying(lambda: app.log)
        self.capped = Capped(lambda: app.log, app.caps_in_force)
        self._desk: tuple[StreamWriter, Desk] | None = None
        self.tracking = Tracking(app.folder.data, SystemClock())
        self.serving = Serving(app.folder.root, app.endpoints, app.settings, self._doors())
        self.serving.on_kept = app.log.rates.told

        self.watch = Watch(Sight(self), app.tellers(), app.db, app.clock, app.compose(self.url))

        self.loop = asyncio.get_running_loop()
        self.count_repaired()
        self.pulse = Pulse(lambda: self.writer.counts)
        self.live = Live(Topics(app, self.pulse, self.writer.counts, self.waiting, lambda: self.cases.waiting))
        beating = asyncio.ensure_future(self.pulse.keep_beating())
        chores = [asyncio.ensure_future(keep_comparing(app)), asyncio.ensure_future(keep_clean(self))]
        chores.append(asyncio.ensure_future(keep_proving(self)))
        chores.append(asyncio.ensure_future(keep_taking(app.folder.data, self.tracking)))
        try:
            await self.serving.start(app.assigned())
            self._warm_again()
            chores.append(asyncio.ensure_future(keep_leading(self)))
            chores.append(asyncio.ensure_future(keep_reviewing(self)))
            chores.append(asyncio.ensure_future(keep_following(self)))
            self.watch.start()
            body_limit = app.settings.get("body_limit")
            rest = site(self._routes(), body_limit)
            public = {("GET", "/metrics"): ANYBODY} if app.settings.yes("metrics_public") else {}
            policies = Policies({**POLICIES, **public})
            policies.check({*live_routes(rest), *Dispatch.routes()})
            guarded = Guard(
                Dispatch(
                    self._intakes(),
                    Predict(self.serving.predict, self.serving.look, self._ready, body_limit),
                    self.live,
                    Mlflow(
                        self.tracking,
                        app.models,
                        app,
                        body_limit,
                        app.settings.get("artifact_limit"),
                        (app.settings.get("public_url") or self.url).rstrip("/"),
                    ),
                    rest,
                ),
                policies=policies,
                gate=self.gate,
                hosts=self.hosts,
                cookie=self.cookie,
                refusal=self._refusal(),
            )
            self.live.admits = guarded.admits
            hardened = SecurityHeaders(guarded)
            parts = self.requests, policies.route, self.instance, app.traces, self._cut_off
            yield Observed(hardened, guarded, *parts)
        finally:
            self.stopping()
            beating.cancel()
            for chore in chores:
                chore.cancel()
            await apart(self.watch.stop)
            await self.serving.stop()
            await apart(self.tracking.close)
            await self.writer.drained()
            self.writer.close()
            await apart(self._close_desk)

    def _warm_again(self) -> None:
        """Load in the background what was loaded before the hub was stopped, to go back to."""
        settings, now = self.app.settings, self.app.clock.micros()
        for endpoint in self.app.endpoints.list():
            served = self.app.endpoints.history(endpoint.name)
            for bundle, seconds in left(served, now, settings.get("warm_for"))[-settings.get("warm_bundles") :]:
                self.serving.keep_warm(endpoint.name, bundle, seconds)

    def keep_warm(self, name: str, bundle: str, seconds: float) -> None:
        """Have a bundle stay loaded, to go back to; called in a thread."""
        self.loop.call_soon_threadsafe(self.serving.keep_warm, name, bundle, seconds)

    def _doors(self) -> Doors | None:
        """Where endpoints are asked directly, which goes by the tokens that this hub goes by."""
        settings = self.app.settings
        host = settings.get("serve_host")
        if host == NOWHERE:
            return None
        doors = Doors(
            "sampan.api.entrance",
            Ports(self.app.db, self.app.folder.root, settings.get("serve_ports")),
            host,
            hosts=settings.get("allowed_hosts"),
            limits=Most(settings.get("body_limit"), settings.get("predict_queue"), settings.get("predict_timeout")),
            instance=self.instance,
            passes=self.gate.passes(),
            keeping=Doorkeeper,
        )
        self.gate.told = doors.admit
        return doors

    def _intakes(self) -> dict[str, Any]:
        """What takes events, by path."""

        def who(scope: Any) -> Any:
            return scope.get(PRINCIPAL)

        parts = (self.writer, self.app.settings, self.app.clock, who)
        return {
            EVENTS: Intake(*parts),
            **dict.fromkeys(PATHS, Segment(*parts)),
            COLLECT: Collect(*parts),
            DEBUG: Validate(*parts),
        }

    def _routes(self) -> list[Any]:
        return [
            *doors(self.gate, self.cookie, self.instance, self._trouble, self._frame),
            *vitals(self.instance, lambda: checks(self), lambda: metrics(self)),
            *pages(self.app, self._frame),
            *blobs(Attachments(self.app.folder.data / "attachments")),
            *forms(self.app, self._frame),
            *saving(self.app, self._frame),
            *commenting(self.app, self._frame),
            *workbench(self.app, self.app.repair, self._frame),
            *routes(self.app, self.gate, self.url, self._describe),
            *registry_routes(self.app),
            *proposal_routes(self.app),
        ]

    def _describe(self) -> dict[str, Any]:
        """The OpenAPI description; made when it is asked for."""
        from sampan import __version__
        from sampan.api.openapi import HTML, JSON, Operation, describe
        from sampan.api.operations import OPERATIONS

        pages = {
            ("GET", page.path): Operation(
                summary=(page.view.__doc__ or page.path).partition("\n")[0],
                answers={JSON: context(page), HTML: str},
                query={name: PURPOSES[name] for name in takes(page)},
                tag="Pages",
            )
            for page in PAGES
        }
        return describe(POLICIES, {**pages, **OPERATIONS}, version=__version__, cookie=self.cookie)

    def _refusal(self) -> Refusal:
        """The guard's answers, in the form that who asks can read."""
        others = refusal(self._frame)
        return lambda *refused: mlflow_refusal(*refused) or predict_refusal(*refused) or others(*refused)

    def _cut_off(self, scope: Any) -> Response | None:
        return cut_off(scope, self._refusal()) if self.ending else None

    def _ready(self) -> bool:
        return all(one.ready for one in checks(self))

    def _trouble(self) -> str:
        return self.writer.health().reason

    def stopping(self) -> None:
        """Let nobody wait for more: no page, no client."""
        self.ending = True
        self.live.close()

    def waiting(self) -> int:
        """How many events wait in quarantine."""
        return self.writer.counts.quarantined - self.repaired

    def count_repaired(self) -> None:
        """Take note of how many quarantined events have re-entered the log."""
        self.repaired = len(Quarantine(self.app.log).repaired())

    def desk(self) -> Desk:
        """Where cases are settled. Its stream is begun with the first of them; called in a thread."""
        with self._opening:
            if self.ending:
                raise Busy("Settle a case", "the hub is ending", "Try again when it is up.")
            if self._desk is not None and self._desk[0].poisoned:  # nothing may be kept on top of what may be lost
                self._desk[1].close()
                self._desk = None
            if self._desk is None:
                writer = self.app.log.writer(STREAM)
                claims = Claims(self.app.db, self.app.clock)
                self._desk = writer, Desk(writer, self.app.endpoints.once_served, self.app.clock, claims)
            return self._desk[1]

    def _close_desk(self) -> None:
        with self._opening:
            if self._desk is not None:
                self._desk[1].close()

    def load(self, endpoint: Endpoint) -> Worker:
        """A process with a bundle loaded, the warm one if there is one; called in a thread, as the next three are.
        Raises what the bundle failed with."""
        return self._wait(self.serving.prepare(endpoint.name, endpoint.bundle))

    def switch(self, endpoint: Endpoint, loaded: Worker) -> None:
        """Serve what has been written down, with a process that has it loaded."""
        self._wait(self.serving.switch(endpoint, loaded))

    def spare(self, endpoint: Endpoint, loaded: Worker, keep: bool = True) -> None:
        """Do without a process that was loaded; ``keep``: leave it for whoever asks for the bundle next."""
        name = endpoint.name
        self._wait(self.serving.spare(name, endpoint.bundle, loaded) if keep else self.serving.drop(name, loaded))

    def assigned(self, name: str) -> Assignment | None:
        """What goes on beside an endpoint's champion."""
        return self.serving.assigned(name)

    def assign(self, name: str, assignment: Assignment | None) -> None:
        """Let a candidate answer some requests to an endpoint, or see them; None: not any more. Called in a thread.
        Raises what the candidate failed with."""
        self._wait(self.serving.assign(name, assignment))

    def follow(self, wanted: Sequence[Followed]) -> None:
        """Have these shadows, and no others, follow the log. Called in a thread. Raises what one cannot be read for."""
        self._wait(self.serving.followers.follow(wanted))

    def try_out(self, loaded: Worker, records: list[dict[str, Any]]) -> Batch:
        """What a process that is loaded answers; nothing is kept."""
        return self._wait(loaded.try_out(records))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def state_of(self, name: str) -> str:
        """How an endpoint is doing."""
        found = next((one for one in self.serving.status() if one.name == name), None)
        return "stopped" if found is None else "falling back" if found.silent else found.state

    def _frame(self) -> Frame:
        timelapse = bool(self.app.settings.get("clock"))
        return Frame(
            workspace=self.app.folder.root.name,
            quarantined=self.waiting(),
            alerts=len(self.watch.alerts.open()),
            reviews=len(self.cases.waiting),
            made=time.time_ns() // 1_000_000,
            as_of=iso(self.app.clock.micros())[:16].replace("T", " ") if timelapse else "now",
        )

    def announce(self, started: Callable[[str, str], None]) -> None:
        """Tell commands (hub.json) and the console that requests are answered."""
        note = {"pid": os.getpid(), "url": self.url, "instance": self.instance}
        write_durably(self.app.folder.data / "hub.json", json.dumps(note).encode(), 0o600)
        started(self.url, f"{self.url}/sign-in?code={self.gate.links.make(self.gate.owner)}")
