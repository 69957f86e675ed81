"""Timing whole processes in alternation, and how far a neighbour disturbed them."""

import contextlib
import os
import re
import resource
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.place import Unavailable


@dataclass(frozen=True)
class Finished:
    """A process that ran to its end: wall seconds from start to exit, and its output."""

    seconds: float
    output: str


FOREIGN: list[float] = []
"""Processors that others kept busy during each process timed so far; emptied by whoever reports it."""


class WentWrong(Exception):
    """A contender did not do what was asked; its time would mean nothing."""


def run(command: Sequence[str], folder: Path, environ: Mapping[str, str], limit: float = 180) -> Finished:
    """Run a command to its end. Raises WentWrong with the end of its output if it fails."""
    busy, own = _busy(), _children()
    with (folder / "output.txt").open("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = 124
        seconds = time.perf_counter() - start
        if code:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        text = output.read()
    if code:
        tail = " / ".join(text.strip().splitlines()[-3:])
        raise WentWrong(f"{' '.join(command[-3:])} ended with {code}: {tail[-300:]}")
    FOREIGN.append(max(0.0, (_busy() - busy - (_children() - own)) / seconds))
    return Finished(seconds, text)


def _busy() -> float:
    """Processor seconds that the whole machine has used; 0 where the system does not say."""
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return 0.0
    return sum(int(fields[place]) for place in (1, 2, 3, 6, 7)) / os.sysconf("SC_CLK_TCK")


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_of(root: int) -> tuple[int, int]:
    """Bytes of a process and all below it, shared pages counted once, and how many they are."""
    below: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError):
            below.setdefault(int(path.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(path.parent.name))
    total, count, todo = 0, 0, [root]
    while todo:
        process = todo.pop()
        todo += below.get(process, [])
        with contextlib.suppress(OSError):
            said = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += int(re.search(r"Pss:\s+(\d+)", said)[1]) * 1024  # type: ignore[index]
            count += 1
    return total, count


@dataclass
class Result:
    """One contender's values over the rounds, or why there are none."""

    contender: str
    values: list[float] = field(default_factory=list)
    note: str = ""
    facts: dict[str, object] = field(default_factory=dict)

    @property
    def median(self) -> float | None:
        return statistics.median(self.values) if self.values else None


Timed = Callable[[int], float]
"""One measurement: takes the round's number, gives the value."""


def alternate(contenders: Mapping[str, Callable[[], Timed]], rounds: int) -> list[Result]:
    """Prepare every contender (untimed), then measure them in turn, round after round, each round rotated.

    A slow machine or a neighbour then hurts all alike. A contender that cannot take part keeps its reason.
    """
    results = {name: Result(name) for name in contenders}
    timed: dict[str, Timed] = {}
    for name, prepare in contenders.items():
        try:
            timed[name] = prepare()
        except (Unavailable, WentWrong) as reason:
            results[name].note = str(reason)
    for number in range(rounds):
        names = list(timed)
        turn = number % len(names) if names else 0
        for name in names[turn:] + names[:turn]:
            try:
                results[name].values.append(timed[name](number))
            except WentWrong as reason:
                results[name].note = str(reason)
                results[name].values.clear()
                del timed[name]
    return list(results.values())
