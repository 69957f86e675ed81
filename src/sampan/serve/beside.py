"""The candidate of an endpoint as the hub holds it: its process, kept alive, and introduced to the champion's."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from sampan.base.errors import SampanError
from sampan.serve.assignment import Assigned, Assignment, CandidateState, News
from sampan.serve.bundle import Bundle
from sampan.serve.crashes import STEADY, Crashes
from sampan.serve.worker import Lost, Worker

# Seconds before the next attempt. Loading takes time from the champion, which answers meanwhile: it need not be soon.
_BACK_OFF: Final = (0.2, 1.0, 4.0, 15.0, 30.0)
_UNSEEN: Final = (2.0, 10.0, 30.0)  # of one that answers nobody
_PAUSE: Final = 0.1  # before they are introduced again
_LOOK: Final = 0.02  # and between two looks whether they are connected
_PATH_LIMIT: Final = 100  # characters that the path of a socket may have


class Limits(NamedTuple):
    """``timeout``: seconds for one answer; ``queue``: requests that wait; ``patience``: seconds after which a process
    that answers nothing is ended; ``loading``: for how many it is no fault of the candidate's that it is not there yet,
    when the hub has begun."""

    timeout: float
    queue: int
    patience: float
    loading: float


class Beside:
    """One assignment's process. The champion's goes by the assignment whether this one is there or not."""

    def __init__(
        self, bundle: Bundle, assignment: Assignment, limits: Limits, load: Callable[[], Awaitable[Worker]]
    ) -> None:
        self.bundle = bundle
        self.assignment = assignment
        self.worker: Worker | None = None
        self._limits = limits
        self._load = load
        self._error = ""
        self._restarts = 0
        self.crashes = Crashes()
        self._tried = False
        self._front: Worker | None = None
        self._connected = False
        self._turn = asyncio.Lock()
        self._stir = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._news, self._before = News(), News()

    def begin(self, loaded: Worker | None = None) -> None:
        """Keep a process alive from now on, first one that is loaded already."""
        self.worker, self._tried = loaded, loaded is not None
        self._keeper = asyncio.get_running_loop().create_task(self._keep(loaded))

    def lend(self, bundle: str) -> Worker | None:
        """The process, if it is of that bundle and there: it goes on as the candidate's until it is switched to."""
        there = self.worker is not None and not self.worker.lost.is_set()
        return self.worker if there and bundle == self.assignment.bundle else None

    async def introduce(self, front: Worker) -> None:
        """Tell the champion's process, which may be a new one; connect it if the candidate's is there."""
        if self._front is not front:
            self._before, self._news = self._news.with_counts_of(self._before), News()
        self._front, self._connected = front, False
        front.on_news = self._heard
        await self._tell(connect=True)
        self._stir.set()

    async def met(self, patience: float) -> None:
        """Wait until the champion's process has reached this one's, or one of them is gone; for so many seconds at
        most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._apart:
                    await asyncio.sleep(_LOOK)

    @property
    def _apart(self) -> bool:
        """Whether both processes are there, and not connected."""
        both = self.worker, self._front
        return not self._connected and all(one is not None and not one.lost.is_set() for one in both)

    async def change(self, assignment: Assignment) -> None:
        """Go by another assignment of the same bundle."""
        if assignment.rollout != self.assignment.rollout:
            self._before, self._news = News(), News()
        self.assignment = assignment
        await self._tell(connect=not self._connected)

    async def end(self) -> Worker | None:
        """Assign nothing any more. Gives the process, if it is there, once it has answered what it was asked."""
        front, worker = self._front, await self.detach()
        if front is not None and not front.lost.is_set():
            with contextlib.suppress(SampanError):
                async with self._turn:
                    await front.assign(None)
        return worker

    async def detach(self) -> Worker | None:
        """Leave the process, if it is there, to the caller; the champion's is told nothing."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._front is not None:
            self._front.on_news = lambda news: None
        worker, self.worker = self.worker, None
        if worker is not None and worker.lost.is_set():
            await worker.kill()
            return None
        return worker

    def status(self) -> CandidateState:
        worker, wanted, counts = self.worker, self.assignment, self._news.with_counts_of(self._before)
        there = worker is not None and not worker.lost.is_set()
        return CandidateState(
            state="serving" if there and self._connected else "down" if self._tried else "starting",
            version=self.bundle.version,
            bundle=wanted.bundle,
            pid=worker.pid if worker is not None and there else None,
            restarts=self._restarts,
            error=self._error,
            rollout=wanted.rollout,
            stage=wanted.stage,
            share=wanted.share,
            shadow=wanted.shadow,
            answered=counts.answered,
            fallbacks=counts.fallbacks,
            shadowed=counts.shadowed,
            missed=counts.missed,
            crashing=self.crashes.said,
        )

    async def _keep(self, loaded: Worker | None) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                worker = self.worker = loaded or await self._loaded()
                loaded = None
            except Exception as error:  # noqa: BLE001 - whatever it was, the next attempt may do better
                self._error = str(error) or type(error).__name__
                why = f": {error.obstacle}" if isinstance(error, SampanError) and not isinstance(error, Lost) else ""
                self.crashes.count(f" while it loaded{why}")
                await self._missed()
            else:
                begun, self._tried = loop.time(), True
                await self._attend(worker)
                await worker.kill()
                self._error = f"its process ended{worker.how}"
                lasted = loop.time() - begun
                self.crashes.count(worker.how, lasted)
                if lasted > STEADY:
                    failures = 0
            self.worker, self._connected = None, False
            self._restarts += 1
            waits = _UNSEEN if self.assignment.shadow else _BACK_OFF
            await asyncio.sleep(waits[min(failures, len(waits) - 1)])
            failures += 1

    async def _loaded(self) -> Worker:
        """A process with the bundle loaded. Raises what it failed with."""
        loading = asyncio.ensure_future(self._load())
        try:
            if not self._tried:
                await asyncio.wait({loading}, timeout=self._limits.loading)
                if not loading.done():
                    await self._missed()
            return await loading
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)

    async def _missed(self) -> None:
        """From now on it is a fault of the candidate's that it is not there."""
        first, self._tried = not self._tried, True
        if first:
            await self._tell(connect=False)

    async def _attend(self, worker: Worker) -> None:
        """Connect the champion's process whenever it is not, until the candidate's ends."""
        lost = asyncio.ensure_future(worker.lost.wait())
        try:
            while not lost.done():
                self._stir.clear()
                if self._connected or self._front is None or self._front.lost.is_set():
                    stirred = asyncio.ensure_future(self._stir.wait())
                    try:
                        await asyncio.wait({lost, stirred}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        stirred.cancel()
                else:
                    await self._tell(connect=True, anew=False)
                    if not self._connected:
                        await asyncio.wait({lost}, timeout=_PAUSE)
        finally:
            lost.cancel()

    async def _tell(self, *, connect: bool, anew: bool = True) -> None:
        """Have the champion's process go by the assignment; unless ``anew``, only if they are not connected."""
        async with self._turn:
            if self._front is not None and (anew or not self._connected):
                worker = self.worker if connect else None
                if worker is not None and not self.assignment.shadow:
                    await worker.waited_for(True)  # first: it is to listen within a time
                self._connected = await self._told(self._front, worker)
                if self._connected and self.worker is not None:
                    self._error = ""
                    await self.worker.waited_for(not self.assignment.shadow)

    async def _told(self, front: Worker, worker: Worker | None) -> bool:
        """Whether they are connected."""
        if worker is not None and not worker.lost.is_set():
            with contextlib.suppress(SampanError):  # it hangs or is gone: the other goes by the assignment alone
                async with _place() as path:
                    await worker.listen(path)
                    return await front.assign(self._assigned(path))
        with contextlib.suppress(SampanError):
            return await front.assign(self._assigned())
        return False

    def _assigned(self, path: str = "") -> Assigned:
        return Assigned(
            assignment=self.assignment,
            version=self.bundle.version,
            inputs=tuple(self.bundle.model.signature.inputs),
            timeout=self._limits.timeout,
            queue=self._limits.queue,
            socket=path,
            loading=not path and not self._tried,
            rules=self.bundle.decision,
        )

    def _heard(self, news: News) -> None:
        self._news = news
        if not news.connected:
            self._connected = False
            self._stir.set()
        worker = self.worker
        if news.stuck > self._limits.patience and worker is not None:
            worker.end()  # a rule that hangs: another process may do better


@asynccontextmanager
async def _place() -> AsyncIterator[str]:
    """Where a socket may lie for as long as it takes to connect: nobody else can look into that folder."""
    folder = tempfile.mkdtemp(prefix="sampan-")
    if len(folder) > _PATH_LIMIT:
        Path(folder).rmdir()
        folder = tempfile.mkdtemp(prefix="sampan-", dir="/tmp")
    try:
        yield f"{folder}/s"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
