"""What the demo shows while it works: a bar per stage at a terminal, plain lines elsewhere.

With ``--json`` standard output belongs to the summary, and everything here goes to standard error.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Stage:
    """One stage of the story and how far it has come."""

    def __init__(self, screen: "Screen", title: str, total: int) -> None:
        self._screen, self._title, self.total, self.done = screen, title, total, 0
        self._task = screen.bars.add_task(title, total=total or None) if screen.bars else None
        self._said = time.monotonic()

    def advance(self, by: int = 1) -> None:
        self.done += by
        if self._screen.bars and self._task is not None:
            self._screen.bars.update(self._task, completed=self.done, total=self.total or None)
        elif self.total and time.monotonic() - self._said > 10:  # a line now and then, so that a log shows life
            self._said = time.monotonic()
            self._screen.say(f"  {self.done:,} of {self.total:,}")

    def finish(self) -> None:
        if self._screen.bars and self._task is not None:
            self._screen.bars.update(self._task, total=self.total or 1, completed=self.total or 1)


class Screen:
    """Where the demo speaks. ``seconds`` holds how long each stage took."""

    def __init__(self, stream: TextIO | None = None, color: str = "auto") -> None:
        stream = stream or sys.stdout
        force = {"always": True, "never": False}.get(color)
        self.console = Console(file=stream, force_terminal=force, highlight=False, soft_wrap=True)
        self.seconds: dict[str, float] = {}
        self.bars: Progress | None = None

    def say(self, text: str = "") -> None:
        """A line of the story."""
        self.console.print(text, markup=False)

    @contextmanager
    def stage(self, name: str, title: str, total: int = 0) -> Iterator[Stage]:
        """Show a stage until its block ends; its seconds are kept under ``name``."""
        started = time.perf_counter()
        if self.console.is_terminal:
            columns = (
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            )
            with Progress(*columns, console=self.console) as bars:
                self.bars = bars
                try:
                    stage = Stage(self, title, total)
                    yield stage
                    stage.finish()
                finally:
                    self.bars = None
        else:
            self.say(title)
            yield Stage(self, title, total)
        self.seconds[name] = round(time.perf_counter() - started, 2)
