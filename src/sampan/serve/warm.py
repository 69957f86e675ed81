"""Serving processes of bundles that were in force before: still loaded, without the stream, ready to take it again."""

import asyncio
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from sampan.base.errors import Unreachable
from sampan.base.settings import Folder
from sampan.models.signing import Signed
from sampan.serve.bundle import Bundle
from sampan.serve.doors import Doors
from sampan.serve.endpoints import Endpoint
from sampan.serve.environment import python_for
from sampan.serve.worker import LOAD_PATIENCE, Worker
from sampan.store.blobs import Blobs

_ROUGHLY: Final = 60.0  # seconds by which it may be let go of sooner or later


async def load(
    root: Path,
    endpoint: str,
    bundle: Bundle,
    doors: Doors | None = None,
    *,
    must: bool = True,
    without_model: bool = False,
    gently: bool = False,
    patience: float = LOAD_PATIENCE,
    signatures: tuple[Signed, ...] = (),
) -> Worker:
    """A new process with a bundle loaded, which does not answer yet, in the environment that the bundle asks for; that
    may have to be made first. Raises what it failed with.

    Unless it ``must`` be that environment, one that cannot be had is no failure: what is in force already is then
    served with what is installed, and the worker's ``note`` says so. ``without_model``: that its model does not load is
    none either; something else answers in its place. ``gently``: others go first. ``patience``:
    seconds in which model and rules must have loaded. ``signatures``: those of its version.
    """
    python, note = sys.executable, ""
    try:
        python = await asyncio.to_thread(python_for, bundle, Blobs(Folder(root).data / "blobs"))
    except Unreachable as error:
        if must:
            raise
        note = f"It is served with what is installed: {error.obstacle}"
    door = await doors.soon(endpoint) if doors else None
    worker = Worker(root, endpoint, bundle, door, python, without_model, gently, patience, signatures)
    worker.note = note
    if doors:
        doors.note(worker)
    try:
        await worker.open()
    except BaseException:
        await worker.kill()
        raise
    return worker


def left(served: Sequence[Endpoint], now: int, seconds: float) -> list[tuple[str, float]]:
    """Of an endpoint's history, the newest first: bundles that were left for another less than ``seconds`` ago, and for
    how many they are to stay; what was left last at the end. What was gone back from is not wanted again."""
    found: dict[str, float] = {}
    for after, one in pairwise(served):
        lasts = seconds - (now - after.created) / 1e6
        if lasts <= 0:
            break
        if one.bundle not in (served[0].bundle, after.back_from):
            found.setdefault(one.bundle, lasts)
    return [*found.items()][::-1]


class _Kept(NamedTuple):
    bundle: str
    worker: Worker
    until: asyncio.TimerHandle


class Warm:
    """At most ``count`` processes of each endpoint, each for ``seconds``; the one that was left last goes last."""

    def __init__(self, seconds: float, count: int) -> None:
        self._seconds = seconds
        #: How many of an endpoint.
        self.count = count if seconds > 0 else 0
        self._kept: dict[str, list[_Kept]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def bundles(self, name: str) -> list[str]:
        """Whose processes are there, the one that was left last at the end."""
        return [one.bundle for one in self._kept.get(name, []) if not one.worker.lost.is_set()]

    def take(self, name: str, bundle: str) -> Worker | None:
        """The process of a bundle, which is the caller's from now on; None if there is none, or it has died."""
        for one in self._kept.get(name, []):
            if one.bundle == bundle:
                self._kept[name].remove(one)
                one.until.cancel()
                if not one.worker.lost.is_set():
                    return one.worker
                self._end(one.worker)
                return None
        return None

    def prolong(self, name: str, bundle: str, seconds: float) -> bool:
        """Keep what is there for so many seconds from now; whether it is."""
        for place, one in enumerate(kept := self._kept.get(name, [])):
            if one.bundle == bundle and not one.worker.lost.is_set():
                loop = asyncio.get_running_loop()
                if abs(one.until.when() - loop.time() - seconds) > _ROUGHLY:
                    one.until.cancel()
                    kept[place] = one._replace(until=loop.call_later(seconds, self._drop, name, bundle))
                return True
        return False

    def keep(self, name: str, bundle: str, worker: Worker, seconds: float | None = None) -> None:
        """Keep a process that has let go of the stream, for as long as any or for so many ``seconds``; another of the
        same bundle, and the oldest over, are ended."""
        if (other := self.take(name, bundle)) is not None:
            self._end(other)
        kept = self._kept.setdefault(name, [])
        lasts = self._seconds if seconds is None else seconds
        until = asyncio.get_running_loop().call_later(lasts, self._drop, name, bundle)
        kept.append(_Kept(bundle, worker, until))
        while len(kept) > self.count:
            self._drop(name, kept[0].bundle)

    def offer(self, name: str, bundle: str, worker: Worker) -> None:
        """Keep a process if nothing has to go for it; else end it."""
        kept = [one for one in self._kept.get(name, []) if one.bundle != bundle]
        if len(kept) < self.count and not worker.lost.is_set():
            self.keep(name, bundle, worker)
        else:
            self._end(worker)

    async def close(self) -> None:
        """End them all."""
        for name, kept in self._kept.items():
            for one in list(kept):
                self._drop(name, one.bundle)
        await asyncio.gather(*self._ending)

    def _drop(self, name: str, bundle: str) -> None:
        if (worker := self.take(name, bundle)) is not None:
            self._end(worker)

    def _end(self, worker: Worker) -> None:
        task = asyncio.get_running_loop().create_task(worker.kill())  # nothing waits in it
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
