"""The log and its intake alone, as a server process: ``python -m sampan.testing.intake_server FOLDER PORT``.

Without hub, records and policies around it, a failure is the log's. It takes every request that carries
``Authorization: Bearer test``, or ``test`` as the user name of basic authentication. Contracts come from
``FOLDER/contracts.py``; settings from the environment. It prints ``ready PORT PID`` when it listens. ``GET /health``
answers 200 or 503 with the writer's health, ``GET /stats`` the log's figures. ``--with MODULE`` imports a module first
and calls its ``apply()``: tests break the server with it.
"""

import asyncio
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from sampan.api.dispatch import EVENTS
from sampan.api.ga4 import COLLECT, DEBUG, Collect, Validate
from sampan.api.intake import Intake
from sampan.api.segment import PATHS, Segment
from sampan.base.clock import SystemClock
from sampan.base.errors import SampanError
from sampan.base.settings import Settings
from sampan.log.contracts import Contracts
from sampan.log.keys import SubjectKeys
from sampan.log.log import Log


class Anybody(msgspec.Struct, frozen=True):
    """The one principal of this server."""

    name: str = "test"


def authorize(scope: Any) -> Anybody | None:
    said = dict(scope["headers"]).get(b"authorization")
    return Anybody() if said in (b"Bearer test", b"Basic dGVzdDo=") else None


class Server(uvicorn.Server):
    """Says where it listens."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT, and do not send them to oneself again: the end is an orderly one."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for socket in server.sockets:
                sys.stdout.write(f"ready {socket.getsockname()[1]} {os.getpid()}\n")
                sys.stdout.flush()


def quieten_collector() -> None:
    """Keep garbage collection from pausing a server: what lives at start is never looked at again, and full
    collections, of which a log of live keys makes long ones, come seldom."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000)


def serve(folder: Path, port: int) -> None:
    """Until a signal ends it."""
    settings = Settings()
    keys = SubjectKeys(folder / ".sampan" / "keys.db")
    clock = SystemClock()
    log = Log(folder / ".sampan" / "log", Contracts.load(folder / "contracts.py"), clock, settings, keys)
    writer = log.writer()
    parts = (writer, settings, clock, authorize)
    intakes: dict[str, Any] = {
        EVENTS: Intake(*parts),
        **dict.fromkeys(PATHS, Segment(*parts)),
        COLLECT: Collect(*parts),
        DEBUG: Validate(*parts),
    }

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if (intake := intakes.get(scope["path"])) is not None:
            await intake(scope, receive, send)
            return
        health = writer.health()
        status = 200 if health.ready or scope["path"] == "/stats" else 503
        body = msgspec.json.encode(log.stats() if scope["path"] == "/stats" else health)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        http="httptools",
        timeout_graceful_shutdown=5,
    )
    quieten_collector()

    async def run() -> None:
        await Server(config).serve()
        await writer.drained()

    try:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(run())
    finally:
        writer.close()
        keys.close()


def main(arguments: list[str]) -> int:
    if "--with" in arguments:
        at = arguments.index("--with")
        importlib.import_module(arguments[at + 1]).apply()
        arguments = arguments[:at] + arguments[at + 2 :]
    folder, port = Path(arguments[0]), int(arguments[1])
    try:
        serve(folder, port)
    except SampanError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
