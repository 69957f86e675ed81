"""Where everything is wired together, and the entry point ``sampan``.

``App`` does what commands and the hub ask of a workspace, noun by noun, with the parts of ``Workplace``. Nothing here
knows how a part works; nothing below knows that the others exist.
"""

import atexit
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sampan.app.adopting import Adopting
from sampan.app.arriving import Arriving
from sampan.app.deriving import Deriving
from sampan.app.exporting import Exporting
from sampan.app.golden import AskingAgain
from sampan.app.keeping import Keeping
from sampan.app.promoting import Promoting
from sampan.app.rebuilding import Rebuilding
from sampan.app.registering import Registering
from sampan.app.rehearsing import Rehearsing
from sampan.app.remarking import Remarking
from sampan.app.reviewing import Reviewing
from sampan.app.scoring import Scoring
from sampan.app.shadowing import Shadowing
from sampan.base.errors import NotFound, Unreachable

if TYPE_CHECKING:
    from sampan.api.work import Work
    from sampan.cli.client import HubClient
    from sampan.lake.query import Source

_RARELY: Final = (100_000, 20, 20)


def main() -> None:
    """The ``sampan`` command. Ends the process with a documented exit code, never with a bare traceback."""
    gc.set_threshold(*_RARELY)  # most of what a command makes lasts as long as it does
    from sampan.base.arrow import spare_pandas
    from sampan.cli.edge import run_command

    spare_pandas()
    code = run_command(sys.argv[1:], App)
    gc.freeze()  # the process ends: what is still there need not be looked through once more
    if "sampan.app.hub" in sys.modules:
        # Threads of native libraries do not always survive the interpreter's own end: send what waits, and be gone.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


class App(
    Arriving,
    Deriving,
    Keeping,
    Shadowing,
    Adopting,
    Rehearsing,
    Exporting,
    Registering,
    Remarking,
    Rebuilding,
    Promoting,
    AskingAgain,
    Scoring,
    Reviewing,
):
    """What commands and the hub's /v1 routes (sampan.api.work.Work) ask of the workspace that holds ``start``
    (default: the current folder)."""

    def _keep_damage(self, version: str, found: Mapping[str, tuple[str, str]], attempted: str, actor: str) -> None:
        if not self.db.writable and (hub := self.hub()):
            hub.keep_damage(version, {file: digest for file, (digest, _) in found.items()}, attempted, actor)
        else:
            super()._keep_damage(version, found, attempted, actor)

    def sql(self, query: str, run: str = "", limit: int = 0, ref: str = "main", as_of: str = "") -> Any:
        """Answer a question of a branch or commit, or of a branch as of a time; at most ``limit`` rows (0: all)."""
        from sampan.lake.read import query as ask

        extra: dict[str, Source] = {**self.engine.sources(run)} if run else {}
        known_by = self.instant(as_of) if as_of else None
        relation = ask(query, self.lake, self.log, ref, extra=extra, known_by=known_by)
        columns = [{"name": n, "type": str(t)} for n, t in zip(relation.columns, relation.types, strict=True)]
        rows = relation.fetchmany(limit + 1) if limit else relation.fetchall()
        more = bool(limit) and len(rows) > limit
        return {"columns": columns, "rows": [list(row) for row in (rows[:limit] if more else rows)], "more": more}

    def sync(self) -> Any:
        """Take what ``sampan.log`` has logged: how many runs that was of, and how many still go on.

        A hub that is up does so by itself; then only those that wait are counted.
        """
        from sampan.app.spooled import take
        from sampan.track.sync import waiting

        taken = 0
        if not self.local_hub():
            with self.writing("Take what was logged"):
                taken = take(self)
        return {"taken": taken, "waiting": waiting(self.folder.data)}

    def send_logged(self) -> Any:
        """Send what was logged for the hub of SAMPAN_URL and has not arrived. Raises Unreachable, Refused."""
        from http.client import HTTPException

        from sampan.base.errors import Refused
        from sampan.track.outbox import Outbox
        from sampan.track.outbox import Refused as NotTaken

        url = str(self.settings.get("url"))
        outbox = Outbox(url, self.settings.get("token"))
        attempted = "Send what was logged"
        try:
            return {"taken": outbox.send(), "waiting": outbox.waiting()}
        except (OSError, HTTPException) as error:
            said = f"the hub at {url} cannot be reached ({error or type(error).__name__})"
            raise Unreachable(attempted, said, f"It waits in {outbox.folder}. Is the hub up?") from None
        except NotTaken as error:
            advice = "SAMPAN_TOKEN needs the role trainer: `sampan token create NAME --role trainer`."
            raise Refused(attempted, f"the hub answers {error}", advice) from None

    # -- the hub, seen from a command

    def work(self) -> "Work":
        """Who does what a command asks for: the hub if one is up, else this process."""
        return self.hub() or self

    def hub(self) -> "HubClient | None":
        """The hub to go through: the one of SAMPAN_URL, else this workspace's if it is up, else None."""
        url = self.settings.get("url") or self.local_hub()
        if not url:
            return None
        from sampan.cli.client import HubClient

        token = self.settings.get("token") or self._token_file()
        return self._part("hub", lambda: HubClient(url, token))

    @property
    def remote(self) -> bool:
        """Whether commands were sent to a hub by SAMPAN_URL, so that nothing is read from a folder here."""
        return bool(self.settings.get("url"))

    def view(self, path: str, query: dict[str, Any] | None = None, *, live: bool = False) -> Any:
        """What the page at a path says, as plain data: from the hub of SAMPAN_URL, else read here.

        ``live``: from this workspace's hub if it is up, for what only the hub knows.
        """
        if (self.remote or live) and (hub := self.hub()):
            return hub.get(path, {**(query or {}), "format": "json"})
        import msgspec

        from sampan.hub.sitemap import view

        return msgspec.to_builtins(view(self, path, query))

    def page_file(self, path: str, as_of: str = "", query: Mapping[str, Any] | None = None, address: str = "") -> str:
        """The page at a path as a file that stands alone: HTML with its look in it; ``as_of``: as it was then. Links
        lead to the hub at ``address``, or at that of the settings."""
        if self.remote and (hub := self.hub()):
            return str(hub.text(path, {"format": "file", "as-of": as_of}))
        from sampan.hub.render import Frame, saved
        from sampan.hub.sitemap import find, seen

        page, named = find(path)
        context = seen(self, page, {**(query or {}), **named, "as-of": as_of})
        frame = Frame(workspace=self.folder.root.name, then=as_of)
        address = address or self.settings.get("public_url").rstrip("/")
        return saved(page.template, context, frame, self.clock.micros(), address)

    def _token_file(self) -> str:
        try:
            return (self.folder.data / "token").read_text("utf-8").strip()
        except (OSError, NotFound):
            return ""

    def local_hub(self) -> str:
        """Address of this workspace's hub. A file left behind by a hub that was killed is noticed and removed."""
        path = self.folder.data / "hub.json"
        try:
            note = json.loads(path.read_bytes())
            url, instance, pid = str(note["url"]), str(note["instance"]), int(note["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        from sampan.cli.client import HubClient

        with suppress(Unreachable, ProcessLookupError, PermissionError):
            os.kill(pid, 0)
            with closing(HubClient(url, "")) as client:
                if client.instance() == instance:
                    return url
        path.unlink(missing_ok=True)
        return ""

    # -- the hub itself

    def up(self, host: str, port: int, started: Callable[[str, str], None]) -> None:
        """Be the hub until told to stop. ``started`` gets the address and a one-time sign-in link."""
        from sampan.app.exposure import check_exposure
        from sampan.app.hub import RunningHub
        from sampan.base.arrow import forego_pandas
        from sampan.hub.in_force import keep
        from sampan.hub.server import bind, serve
        from sampan.keep.rebuilding import read_often
        from sampan.keep.retention import read_retention
        from sampan.runs.replays import Replays
        from sampan.serve.doors import read_ports

        for address in (host, self.settings.get("serve_host")):
            check_exposure(address, self.settings, self.db)
        read_ports(self.settings.get("serve_ports"))
        from sampan.base.journal import set_up

        set_up(self.settings.get("log_level"), self.settings.get("log_format"))
        self.tellers()  # what is wrong in [alerts], or in where lineage goes, is said before anything starts
        self.lineage_events  # noqa: B018
        read_retention(self.folder.config())
        read_often(self.folder.config())
        forego_pandas()
        with self.writing("Start the hub"):
            self.contracts.register(self.db, self.clock)
            keep(self, hub=True)
            self.runs.interrupt(
                (), self.clock.micros()
            )  # what the process before this one did not end, nobody carries on
            Replays(self.db).interrupt(self.clock.micros())
            self.proposals.interrupt()
            self.forget_rehearsals()
            listener = bind(host, port)
            try:
                hub = self._hub = RunningHub(self, host, listener.getsockname()[1])
                serve(hub.stack, listener, lambda: hub.announce(started), hub.stopping)
            finally:
                self._hub = None
                listener.close()
                (self.folder.data / "hub.json").unlink(missing_ok=True)

    def demo(self, *, workspace: Path | None, host: str, port: int, once: bool, as_json: bool) -> None:
        """Play the demo in a workspace of its own."""
        from sampan.demo.tell import tell

        tell(workspace=workspace, host=host, port=port, once=once, as_json=as_json)
