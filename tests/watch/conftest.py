"""A watch over a real log, real records and real sockets; only what the machine would have to suffer is made up."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sampan.base.outgoing import Outgoing
from sampan.log.conform import Conformity, recorded
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.models.rebuilds import Rebuild
from sampan.runs.records import Run, Runs, StepRun
from sampan.serve.follower import FollowerState
from sampan.serve.lane import EndpointState
from sampan.store.database import Database
from sampan.watch.alerts import Alert, Compose
from sampan.watch.limits import Alerting, Limits, Target
from sampan.watch.releasing import Trouble
from sampan.watch.reviewing import Unanswered
from sampan.watch.straying import Strays
from sampan.watch.watch import Watch
from tests.log.conftest import Shop, line

SECRET = "a secret that both sides know"


class Receiver:
    """A webhook's receiver on this machine: keeps what came, answers with ``status``."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        self.headers: dict[str, str] = {}
        self.answering = threading.Event()  # while it is not set, nobody is answered
        self.answering.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append((dict(self.headers), body))
                receiver.answering.wait(20)
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def events(self) -> list[tuple[str, str]]:
        return [(message["event"], message["alert"]["kind"]) for message in self.messages()]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Scene:
    """A workspace, what can go wrong with it, and a watch over it."""

    def __init__(self, shop: Shop, target: Target | None, allowed: frozenset[tuple[str, int]], **limits: Any) -> None:
        self.shop = shop
        self.db = Database(shop.root / ".sampan" / "records.db", writable=True)
        self.runs = Runs(self.db)
        self.contracts: Contracts = shop.contracts()
        self.log: Log = shop.log()
        self.data: Path = shop.root
        self.fault = ""
        self.unsealed = ""
        self.rebuilt: list[Rebuild] = []
        self.wrong: list[Trouble] = []
        self.late: list[Unanswered] = []
        self.strayed: Strays | None = None
        self.served: list[EndpointState] = []
        self.followed: list[FollowerState] = []
        self.alerting = Alerting((target,) if target else (), Limits(**{"disk_free": 0.0, **limits}), allowed, 0.1)
        self.changes: list[Alert] = []
        self.watch = self.fresh()
        self.writer = shop.writer()

    def fresh(self, **extra: Any) -> Watch:
        """A watch as after a restart: it knows what the records say, and nothing else."""
        compose = Compose("shop", "https://hub.example.com")
        return Watch(
            self,
            self.alerting,
            self.db,
            self.shop.clock,
            compose,
            changed=self.changes.append,
            outgoing=Outgoing(self.alerting.allow_private),
            **extra,
        )

    def now(self) -> int:
        return self.shop.clock.micros()

    def conformities(self) -> Mapping[str, Conformity]:
        return recorded(self.db)

    def endpoints(self) -> list[EndpointState]:
        return self.served

    def log_fault(self) -> str:
        return self.fault

    def sealing_fault(self) -> str:
        return self.unsealed

    def troubles(self) -> Sequence[Trouble]:
        return self.wrong

    def held(self) -> Sequence[Any]:
        return []

    def unanswered(self) -> Sequence[Unanswered]:
        return self.late

    def strays(self) -> Strays | None:
        return self.strayed

    def followers(self) -> list[FollowerState]:
        return self.followed

    def damages(self) -> Sequence[Any]:
        return []

    def rebuilds(self) -> Sequence[Rebuild]:
        return self.rebuilt

    # -- what goes wrong

    def send(self, producer: str, good: int, bad: int = 0) -> None:
        start = self.writer.counts.accepted
        events = [line(f"{start + n}") for n in range(good)]
        events += [line(f"bad{n}", price="two") for n in range(bad)]
        self.writer.append(self.writer.checker.read(json.dumps(events).encode()), producer)

    def run(self, id: str, state: str, target: str = "", error: str = "") -> None:
        now = self.now()
        self.runs.start(Run(id, state, target, "main", "", "", None, None, "ann", {}, error, 0.0, now, now))
        self.runs.finish(id, state, commit=None, error=error, cost=0.0, manifest={}, at=now)
        if state == "failed":
            step = StepRun(id, "orders", "", "table", "failed", "new", error="Traceback\nValueError: no price")
            self.runs.put_steps([step])

    def serves(self, state: Any, error: str = "", silent: str = "") -> None:
        self.served = [EndpointState("reorder", state, "reorder@1", "b", None, 0, 0, error, silent=silent)]

    def open(self) -> list[str]:
        return sorted(alert.key for alert in self.watch.alerts.open())

    def close(self) -> None:
        self.writer.close()
        self.db.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop")
    yield made
    made.close()


@pytest.fixture
def scene(shop: Shop, receiver: Receiver) -> Iterator[Scene]:
    """Its one target is the receiver."""
    target = Target("here", "webhook", receiver.url, SECRET)
    made = Scene(shop, target, frozenset({("127.0.0.1", receiver.port)}), endpoint_down=0)
    yield made
    made.close()
