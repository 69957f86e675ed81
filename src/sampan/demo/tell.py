"""From an empty folder to the end of the demo: the workspace, its hub, the story, the summary."""

import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from sampan.base.clock import SharedClock
from sampan.base.errors import SampanError, Usage
from sampan.base.settings import Settings
from sampan.demo.hub import Hub, run_command
from sampan.demo.screen import Screen
from sampan.demo.story import END, GO_LIVE, OPENING, Story
from sampan.demo.summary import lines, to_json

NAME: Final = "sampan-demo"


def choose_folder(wanted: Path | None, here: Path) -> Path:
    """The folder of the new workspace: the one asked for, else ``sampan-demo`` or the next free number of it.

    Raises Usage if the one asked for has something in it.
    """
    if wanted is None:
        names = (NAME if number == 1 else f"{NAME}-{number}" for number in range(1, 10_000))
        return next(here / name for name in names if not (here / name).exists())
    folder = here / wanted
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        advice = "Choose another with --workspace, or leave it out to get the next free sampan-demo-N."
        raise Usage("Make the demo's workspace", f"{folder} exists and is not empty", advice)
    return folder


def tell(
    *,
    workspace: Path | None,
    host: str,
    port: int,
    once: bool,
    as_json: bool,
    go_live: datetime = GO_LIVE,
    end: datetime = END,
) -> None:
    """Play the demo. Standard output gets the story, or with ``as_json`` one line of JSON at the end."""
    if find_spec("lightgbm") is None:
        raise Usage("Play the demo", "its model needs LightGBM, which is not installed", "pip install 'sampan[demo]'")
    signal.signal(signal.SIGTERM, _end_in_order)
    started = time.perf_counter()
    screen = Screen(sys.stderr if as_json else sys.stdout, Settings().get("color"))
    folder = choose_folder(workspace, Path.cwd())
    with screen.stage("workspace", f"Make the workspace {folder} and start its hub"):
        run_command(None, "init", str(folder), "--template", "retail", "--no-lock")  # a lock would need the network
        _first_commit(folder)
        data = folder / ".sampan"
        data.mkdir(exist_ok=True)
        clock = SharedClock.create(data / "clock", OPENING)
        hub = Hub(folder, data / "clock", host, port)
        try:
            hub.start()
        except SampanError:  # a port that is taken, say: leave nothing behind, so that the next try finds no folder
            shutil.rmtree(folder, ignore_errors=True)
            raise
    with hub:
        screen.say(f"  {hub.link()}")
        screen.say("  opens the hub in a browser, once")
        story = Story(hub, clock, screen, go_live, end)
        try:
            summary = story.play()
        finally:
            story.close()
        summary.seconds = time.perf_counter() - started
        if not as_json:
            screen.say()
            for line in lines(summary):
                screen.say(line)
            screen.say(f"Lineage:  sampan -C {shown(folder)} lineage {summary.prediction}")
        if not once:
            screen.say(f"The hub stays up at {hub.url}. Sign in with {hub.link()}")
            screen.say("Ctrl+C ends it; `sampan up` in the workspace starts it again.")
        if as_json:
            print(to_json(summary), flush=True)  # noqa: T201 - the one line that standard output is for
        if not once:
            hub.wait()
            screen.say("The hub has ended.")


def _end_in_order(*_: object) -> None:
    """SIGTERM ends the demo as Ctrl+C does: with its hub, not without it."""
    signal.raise_signal(signal.SIGINT)


def shown(folder: Path) -> str:
    """A folder as one would type it here."""
    here = Path.cwd()
    return str(folder.relative_to(here) if folder.is_relative_to(here) else folder)


def _first_commit(folder: Path) -> None:
    """Commit the template to the workspace's own repository, so that runs record a commit. Without git: nothing."""
    if (folder / ".git").is_dir():
        name = ("-c", "user.name=Sampan demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false")
        for step in (("add", "."), ("commit", "--quiet", "--message", "Start from the retail template")):
            subprocess.run(["git", *name, *step], cwd=folder, capture_output=True, check=False)
