"""The demo's hub: a real ``sampan up`` in a process of its own, told the time by the story's clock."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from sampan.base.errors import SampanError, Unreachable
from sampan.cli.client import HubClient

START: Final = 60.0  # seconds that the hub may take until it answers
STOP: Final = 20.0
# An hour of the story passes in a few milliseconds: segments of the log are sealed by their size, not by their age.
_PACE: Final = {"SAMPAN_SEGMENT_SECONDS": "1000000000"}


def command(workspace: Path | None, *arguments: str) -> list[str]:
    """A ``sampan`` command line for this Python."""
    inside = ["-C", str(workspace)] if workspace else []
    return [sys.executable, "-m", "sampan", *inside, *arguments]


def run_command(workspace: Path | None, *arguments: str) -> str:
    """A command as a user would type it; its standard output. Raises SampanError with what it said on failure."""
    done = subprocess.run(command(workspace, *arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().removeprefix("Error: ")
        raise SampanError(f"sampan {' '.join(arguments)}", f"exit code {done.returncode}: {said}")
    return done.stdout


class Hub:
    """Started by ``start``, stopped when the block ends. ``log`` is where its own messages go."""

    def __init__(self, workspace: Path, clock: Path, host: str, port: int) -> None:
        self.workspace = workspace
        self.log = workspace / ".sampan" / "demo.log"
        self._environment = {**os.environ, "SAMPAN_CLOCK": str(clock), **_PACE}
        for name in ("SAMPAN_URL", "SAMPAN_TOKEN", "SAMPAN_PORT", "SAMPAN_HOST"):  # of some other hub
            self._environment.pop(name, None)
        self._arguments = ("up", "--host", host, "--port", str(port))
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.token = ""

    def start(self) -> None:
        """Start the process and wait until it answers. Raises with the hub's own words if it cannot."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command(self.workspace, *self._arguments),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl+C reaches the demo, which then stops the hub in order
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def client(self) -> HubClient:
        return HubClient(self.url, self.token)

    def link(self) -> str:
        """A sign-in link that works once."""
        with_link = self.client()
        try:
            return str(with_link.post("/v1/links")["link"])
        finally:
            with_link.close()

    def check(self) -> None:
        """Raises Unreachable, with the hub's last words, if its process has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            words = (
                self.log.read_text("utf-8", "replace").strip().removeprefix("Error: ") or f"it ended with code {code}"
            )
            first, _, advice = words.partition("\n")
            attempted, found, obstacle = first.partition(": ")
            if not found:
                attempted, obstacle = "Start the hub", first
            raise Unreachable(attempted, obstacle, advice.strip())

    def wait(self) -> None:
        """Until the hub's process ends by itself."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self) -> None:
        """Until hub.json names this process and the hub answers."""
        until = time.monotonic() + START
        place = self.workspace / ".sampan" / "hub.json"
        assert self._process is not None
        while time.monotonic() < until:
            self.check()
            try:
                found = json.loads(place.read_text("utf-8"))
                if found["pid"] == self._process.pid:
                    self.url = found["url"]
                    self.token = (self.workspace / ".sampan" / "token").read_text("utf-8").strip()
                    self._ask()
                    return
            except (OSError, ValueError, KeyError, Unreachable):
                pass
            time.sleep(0.05)
        raise Unreachable("Start the hub", f"it did not answer within {START:.0f} seconds", f"See {self.log}.")

    def _ask(self) -> None:
        asking = self.client()
        try:
            asking.get("/health")
        finally:
            asking.close()
