"""Shadows that follow the log as the hub holds them: each has a process, started again when it dies, past what it died
over."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from sampan.base.errors import SampanError
from sampan.serve.assignment import News
from sampan.serve.bundle import Bundle
from sampan.serve.crashes import STEADY, Crashes
from sampan.serve.following import Followed
from sampan.serve.worker import Lost, Worker

Load: TypeAlias = Callable[[Followed], Awaitable[Worker]]
Standing: TypeAlias = Literal["starting", "following", "down"]
_BACK_OFF: Final = (2.0, 10.0, 30.0, 60.0)  # seconds before the next attempt: nobody waits for it
_LOOK: Final = 5.0
_SLACK: Final = 10.0  # seconds beside what an answer may take in which a process may look as if it did nothing


class FollowerState(msgspec.Struct, frozen=True, kw_only=True):
    """How a shadow is doing. ``behind``: predictions that it has not come to; ``answered`` and ``missed`` (why, how
    often) are since the hub started; ``crashing``: that its process ends over and over, and how, until one is
    ``steady``."""

    shadow: str
    endpoint: str
    version: str
    bundle: str
    state: Standing
    pid: int | None
    restarts: int
    error: str
    behind: int = 0
    answered: int = 0
    missed: dict[str, int] = {}
    crashing: str = ""
    steady: bool = False


class Follower:
    """One shadow's process, kept alive from ``begin`` to ``end``."""

    def __init__(self, bundle: Bundle, followed: Followed, patience: float, load: Load) -> None:
        """``patience``: seconds that one answer may take."""
        self.followed = followed
        self._bundle = bundle
        self._patience = patience
        self._load = load
        self._worker: Worker | None = None
        self._state: Standing = "starting"
        self._error = ""
        self._restarts = 0
        self._since: float | None = None  # it follows
        self._crashes = Crashes()
        self._news, self._before = News(), News()
        self._careful = False
        self._keeper: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Keep a process alive from now on."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep())

    async def end(self) -> None:
        """Let it write down what it is at, and start no other."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._worker is not None:
            await self._worker.stop()

    def stir(self) -> None:
        """There are more predictions."""
        if self._worker is not None:
            self._worker.stir()

    def status(self) -> FollowerState:
        worker, counts = self._worker, self._news.with_counts_of(self._before)
        there = worker is not None and not worker.lost.is_set()
        steady = there and self._since is not None and time.monotonic() - self._since > STEADY
        return FollowerState(
            shadow=self.followed.assignment.rollout,
            endpoint=self.followed.endpoint,
            version=self._bundle.version,
            bundle=self.followed.assignment.bundle,
            state=self._state if there or self._state == "starting" else "down",
            pid=worker.pid if worker is not None and there else None,
            restarts=self._restarts,
            error=self._error,
            behind=counts.behind,
            answered=counts.shadowed,
            missed=counts.missed,
            crashing="" if steady else self._crashes.said,
            steady=steady,
        )

    async def _keep(self) -> None:
        failures = 0
        while True:
            try:
                worker = self._worker = await self._load(self.followed)
                worker.on_news = self._heard
                await worker.follow(msgspec.structs.replace(self.followed, careful=self._careful))
            except Exception as error:  # noqa: BLE001 - whatever it was, the next attempt may do better
                self._error = str(error) or type(error).__name__
                how = " while it loaded" if isinstance(error, Lost) else f" since it did not load: {self._error}"
                self._crashes.count(how)
                if self._worker is not None:
                    await self._worker.kill()
            else:
                begun = self._since = time.monotonic()
                self._state, self._error = "following", worker.note
                await self._attend(worker)
                await worker.kill()
                answered = self._news.shadowed
                lasted, self._since = time.monotonic() - begun, None
                self._died(worker, lasted)
                if lasted > STEADY:
                    failures = 0
                elif answered:
                    failures //= 2
            self._state, self._worker = "down", None
            self._restarts += 1
            await asyncio.sleep(_BACK_OFF[min(failures, len(_BACK_OFF) - 1)])
            failures += 1

    def _died(self, worker: Worker, lasted: float) -> None:
        """Have the next one be careful, and not ask again what the last one died over, if that is known."""
        how = " over one that took too long" if worker.overdue else worker.how
        self._error = f"its process ended{how}"
        self._crashes.count(how, lasted)
        self._careful = True
        if over := self._news.asking:
            self.followed = msgspec.structs.replace(self.followed, blamed={**self.followed.blamed, over: self._error})
        self._before = msgspec.structs.replace(self._news.with_counts_of(self._before), asking="", behind=0)
        self._news = News(behind=self._news.behind)

    async def _attend(self, worker: Worker) -> None:
        """Return once it has ended, or does nothing any more."""
        with contextlib.suppress(SampanError):
            while not worker.lost.is_set():
                await worker.look(self._patience + _SLACK)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK):
                        await worker.lost.wait()

    def _heard(self, news: News) -> None:
        self._news = news


class Followers:
    """All shadows of a hub."""

    def __init__(self, bundle_of: Callable[[str], Bundle], load: Load, patience: float) -> None:
        """``load`` gives a process with a shadow's bundle loaded; ``patience``: seconds that one answer may take."""
        self._bundle_of, self._load, self._patience = bundle_of, load, patience
        self._there: dict[str, Follower] = {}
        self._turn = asyncio.Lock()
        self._ended = False

    async def follow(self, wanted: Sequence[Followed]) -> None:
        """Have these, and no others, follow the log. Does not wait until they are loaded. Raises NotFound, Damaged for
        a bundle that cannot be read; the others then follow."""
        failed: SampanError | None = None
        async with self._turn:
            if self._ended:  # whoever asks now was late
                return
            ids = {one.assignment.rollout for one in wanted}
            gone = [self._there.pop(id) for id in [*self._there] if id not in ids]
            await asyncio.gather(*(one.end() for one in gone))
            for one in wanted:
                if one.assignment.rollout in self._there:
                    continue
                try:
                    bundle = self._bundle_of(one.assignment.bundle)
                except SampanError as error:
                    failed = error
                    continue
                made = self._there[one.assignment.rollout] = Follower(bundle, one, self._patience, self._load)
                made.begin()
        if failed is not None:
            raise failed

    async def end(self) -> None:
        """Let each write down what it is at; none follows from now on."""
        await self.follow(())
        self._ended = True

    def status(self) -> list[FollowerState]:
        """How each is doing."""
        return [one.status() for one in list(self._there.values())]

    def stir(self, endpoint: str) -> None:
        """There are more predictions of an endpoint."""
        for one in self._there.values():
            if one.followed.endpoint == endpoint:
                one.stir()
