"""One endpoint of a hub: its process, and the next one when that ends; in a rollout, the candidate's beside it."""

import asyncio
import contextlib
from collections.abc import Callable
from functools import cached_property
from typing import Final, Literal, Protocol, TypeAlias

import msgspec

from sampan.base.errors import SampanError, Unreachable
from sampan.serve.assignment import CandidateState
from sampan.serve.beside import Beside
from sampan.serve.bundle import Bundle
from sampan.serve.crashes import Crashes
from sampan.serve.doors import Doors, Keeper
from sampan.serve.endpoints import Endpoint
from sampan.serve.fallback import PREVIOUS
from sampan.serve.order import Before
from sampan.serve.overload import too_many, too_slow
from sampan.serve.worker import Lost, Worker

State: TypeAlias = Literal["starting", "serving", "down", "stopped"]

_SLACK: Final = 10.0  # seconds in which a process may look as if it did nothing before it is ended for that
_WAITED: Final = 0.7  # of the time in which clients are answered: how long a process may take to be there again
_BACK_OFF: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before the next attempt, while none has served


class EndpointState(msgspec.Struct, frozen=True):
    """How one endpoint is doing."""

    name: str
    state: State
    version: str
    bundle: str
    pid: int | None
    restarts: int
    under_way: int
    error: str
    candidate: CandidateState | None = None  # of a rollout
    address: str = ""  # where it is asked directly
    fault: str = ""  # why it cannot be
    crashing: str = ""  # that its process ends over and over, and how
    silent: str = ""  # why its model does not answer, and what is declared for that does


class Load(Protocol):
    """Gives a process with a bundle loaded. Raises what it failed with."""

    async def __call__(self, name: str, bundle: Bundle, *, without_model: bool = False) -> Worker: ...


class Lane:
    """One endpoint: its process now, and the task that starts another when it ends; in a rollout, the candidate's
    beside it."""

    def __init__(
        self,
        endpoint: Endpoint,
        bundle_of: Callable[[str], Bundle],
        load: Load,
        before: Callable[[str], Before | None],
        queue: int,
        patience: float,
        doors: Doors | None = None,
        count: Callable[[int], None] = lambda status: None,
    ) -> None:
        """``before``: the bundle that may answer where a model does not, by endpoint; ``count`` takes the status of
        each answer at its own address that is none of a process's."""
        self.endpoint = endpoint
        self._doors = doors
        self._bundle_of = bundle_of
        self._load = load
        self._before = before
        self._state: State = "starting"
        self.restarts = 0
        self.error = ""
        self.crashes = Crashes()
        self.beside: Beside | None = None
        self._queue = queue
        self._patience = patience
        self._worker: Worker | None = None
        self._settled = asyncio.Event()  # the first attempt to start has ended one way or the other
        self._waiting = 0
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self._count = count
        self._doorkeeper: Keeper | None = None
        self._turning_away: asyncio.Task[None] | None = None

    @cached_property
    def bundle(self) -> Bundle:
        """What it serves."""
        return self._bundle_of(self.endpoint.bundle)

    @property
    def state(self) -> State:
        """How the endpoint is doing at this instant."""
        if self._state == "serving" and (self._worker is None or self._worker.lost.is_set()):
            return "down"
        return self._state

    async def load(self) -> Worker:
        """A process with this bundle loaded, which does not answer yet: where its model does not load and something is
        declared for that, without it. Raises what it failed with."""
        name, bundle = self.endpoint.name, self.bundle
        try:
            return await self._load(name, bundle)
        except Lost:
            raise
        except SampanError:
            declared = bundle.decision.fallback if bundle.decision is not None else None
            if declared is None or (declared.kind == PREVIOUS and self._before(name) is None):
                raise
            return await self._load(name, bundle, without_model=True)

    def begin(self, loaded: Worker | None = None) -> None:
        """Serve from now on, first with a process that is loaded already."""
        self._keeper = asyncio.get_running_loop().create_task(self._keep(loaded))

    async def introduce(self) -> None:
        """Have the process go by the assignment, if there are both."""
        if self.beside is not None and self._worker is not None and not self._worker.lost.is_set():
            await self.beside.introduce(self._worker)

    async def ask(self, body: bytes, number: int) -> tuple[int, bytes]:
        """Forward one request; status and body of the answer. Raises Busy, Unreachable."""
        name = self.endpoint.name
        if self._waiting >= self._queue:
            raise too_many(name, self._waiting)
        self._waiting += 1
        try:
            worker = await self._serving()
            return await worker.ask(body, self._patience, number)
        except TimeoutError:
            self.error = f"a request took more than {self._patience:g} s"
            await worker.kill()  # a rule that hangs holds up everybody behind it
            raise too_slow(name, self._patience) from None
        finally:
            self._waiting -= 1

    async def _serving(self) -> Worker:
        """The process that answers. Waits for the first one; raises Unreachable while another is being started."""
        if self.state == "starting":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._settled.wait()
        if self.state != "serving" or self._worker is None:
            raise self._why()
        return self._worker

    def _why(self) -> Unreachable:
        """Why nobody answers."""
        attempted = f"Predict with {self.endpoint.name}"
        if self.state == "starting" and not self.error:
            return Unreachable(attempted, "its model and rules are still being loaded", "Send again in a second.")
        said = f"it is {self.state}: {self.error or 'its serving process ended'}"
        return Unreachable(attempted, said, "It is started again; send again in a second.")

    def _nobody_answers(self) -> None:
        if self._turning_away is None:
            self._turning_away = asyncio.get_running_loop().create_task(self._turn_away())

    async def _turn_away(self) -> None:
        """Answer those who ask past the hub, once they have waited for so long that they would wait for too long."""
        await asyncio.sleep(_WAITED * self._patience)
        if self._doors is not None:
            with contextlib.suppress(SampanError):  # its records cannot be read, which its state says
                self._doorkeeper = self._doors.keeper(self.endpoint.name, self.bundle, self._why, self._count)
        if self._doorkeeper is not None:
            await self._doorkeeper.begin()

    async def _let_in(self) -> None:
        """Leave those who ask past the hub to a process."""
        turning, self._turning_away = self._turning_away, None
        if turning is not None:
            turning.cancel()
            await asyncio.gather(turning, return_exceptions=True)
        keeper, self._doorkeeper = self._doorkeeper, None
        if keeper is not None:
            await keeper.end()

    async def settled(self) -> None:
        """Wait until the first attempt to serve has ended one way or the other, and who waited for it has gone on."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._settled.wait()
        await asyncio.sleep(0)

    async def rest(self) -> Worker | None:
        """Answer what was asked and serve no more. Gives the process, which stays loaded; None if it cannot."""
        self._stopping = True
        worker = self._worker if self.state == "serving" else None
        if worker is None or not await worker.give():
            await self.end()
            return None
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._let_in()
        self._worker, self._state = None, "stopped"
        return worker

    async def end(self) -> None:
        """Answer what was asked, then end the process and do not start another."""
        self._stopping = True
        if self._worker is not None:
            await self._worker.stop()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._let_in()
        if self._worker is not None:
            await self._worker.kill()
        if self.beside is not None and (candidate := await self.beside.detach()) is not None:
            await candidate.kill()
        self._state = "stopped"

    def status(self) -> EndpointState:
        worker, name, doors = self._worker, self.endpoint.name, self._doors
        return EndpointState(
            name=name,
            state=self.state,
            version=self.endpoint.spec.version,
            bundle=self.endpoint.bundle,
            pid=worker.pid if worker else None,
            restarts=self.restarts,
            under_way=self._waiting,
            error=self.error,
            candidate=self.beside.status() if self.beside is not None else None,
            address=doors.address(name) if doors else "",
            fault=doors.fault(name) if doors else "",
            crashing=self.crashes.said,
            silent=worker.silent if worker is not None and self.state == "serving" else "",
        )

    async def _keep(self, loaded: Worker | None) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._stopping:
            self._nobody_answers()
            try:
                worker = self._worker = loaded or await self.load()
                loaded = None
                await self.introduce()  # first: nobody is answered as if there were no rollout
                await self._let_in()
                await worker.take(self._before(self.endpoint.name))
            except Exception as error:  # noqa: BLE001 - whatever it was, the next attempt may do better
                self.error = str(error) or type(error).__name__
                if self._worker is not None:
                    await self._worker.kill()
                if isinstance(error, Lost):
                    self.crashes.count(" while it loaded")
            else:
                begun = loop.time()
                self._state, self.error = "serving", worker.note
                self._settled.set()
                await self._attend(worker)
                await worker.kill()
                if worker.overdue:
                    self.error = f"a request took more than {self._patience:g} s"
                self.crashes.count(worker.how, loop.time() - begun)
                if worker.answered:
                    failures = 0  # it did serve: what ended it need not be there the next time
            if self._stopping:
                return
            self._state = "down"
            self._nobody_answers()
            self._settled.set()
            self.restarts += 1
            await asyncio.sleep(_BACK_OFF[min(failures, len(_BACK_OFF) - 1)])
            failures += 1

    async def _attend(self, worker: Worker) -> None:
        """Return once a process has ended, or does nothing any more. What is asked through the hub would show that,
        but a process that is asked directly may be asked by nobody else."""
        if worker.door is None:
            await worker.lost.wait()
        with contextlib.suppress(Unreachable):
            while not worker.lost.is_set():
                await worker.look(self._patience + _SLACK)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._patience):
                        await worker.lost.wait()
