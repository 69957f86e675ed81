"""Rows about what a rollout costs those who are answered by the champion: a canary, a shadow, shadows that go wrong;
and several shadows that follow the log.

The same hub, model, rules and load each time, past the hub over 16 connections, in pairs of short stretches with a
rollout and without, which alternate: what else the machine and its disk do then hits both. The rate of the p99 is half
of what the endpoint without a rollout has reached. A rollout is measured from its beginning, where a candidate that
crashes is started again soonest.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence

from bench.measure import Result, WentWrong
from bench.place import Unavailable
from bench.servers import ONNX, Sampan
from bench.serving import CONNECTIONS, loaded
from bench.table import OURS, Goal, Row, times

_ALONE = "Sampan without a rollout"
_PAIRS = 5  # in each round
_CALM = 1.0  # seconds after a rollout
_RULES = """
import os
import time

from sampan import Action, decision


@decision(model="onnx", values={"yes": {True: 1.0, False: -1.0}, "no": {True: 0.0, False: 0.0}})
def act(prediction: float, record: dict, likely: float = 0.5, sleeps: float = 0.0, crashes: bool = False) -> Action:
    if crashes:
        os.kill(os.getpid(), 9)
    time.sleep(sleeps)
    return Action("yes" if prediction >= likely else "no")
"""
#: What goes on beside the champion: the stage, and what the candidate's rules are given.
_SHADOW = "shadow = true"
_FOLLOWS = ""  # no stage
_SEVERAL = 3
_KINDS: dict[str, tuple[str, str]] = {
    "a canary of half": ("share = 0.5", "likely=0.6"),
    "a shadow": (_SHADOW, "likely=0.6"),
    "a shadow that sleeps 10 s": (_SHADOW, "sleeps=10"),
    "a shadow that crashes": (_SHADOW, "crashes=true"),
    "three shadows that follow the log": (_FOLLOWS, "sleeps=0"),
    "three shadows that follow the log and crash": (_FOLLOWS, "crashes=true"),
}
_BAD = tuple(kind for kind in _KINDS if "sleeps" in kind or "crash" in kind)  # of which nobody may notice anything


class _Endpoint(Sampan):
    """One endpoint with rules, on which rollouts begin and end."""

    keeps = False  # what a shadow would have said is kept, too

    def __init__(self) -> None:
        super().__init__(ONNX)

    def prepare(self) -> None:
        shutil.copytree(self.workspace(), self.folder, dirs_exist_ok=True)
        (self.folder / "decisions.py").write_text(_RULES)
        self.sampan("endpoint", "deploy", "bench", "--model", ONNX)
        self.environ["SAMPAN_TOKEN"] = self.token

    @contextlib.contextmanager
    def rollout(self, kind: str) -> Iterator[None]:
        """While one of a kind goes on."""
        stage, given = _KINDS[kind]
        if stage == _FOLLOWS:
            with self.shadows(given):
                yield
            return
        try:
            self.begin(stage, "--model", ONNX, "--set", given)
            yield
            phase = self.phase()
            if phase not in (("running", "reverted") if kind in _BAD else ("running",)):
                raise WentWrong(f"the rollout is {phase}")
        finally:
            with contextlib.suppress(WentWrong):  # it has ended by itself
                self.sampan("rollout", "back", "bench", "--reason", "bench")
            time.sleep(_CALM)

    @contextlib.contextmanager
    def shadows(self, given: str) -> Iterator[None]:
        """While several follow the log."""
        ids = []
        for number in range(_SEVERAL):
            said = ("--model", ONNX, "--set", f"likely={0.6 + number / 100}", "--set", given, "--reason", "bench")
            ids.append(json.loads(self.sampan("shadow", "start", "bench", *said, "--json"))["id"])
        try:
            self.ask(1)
            yield
        finally:
            for id in ids:
                self.sampan("shadow", "end", id, "--reason", "bench")
            time.sleep(_CALM)


def beside(rounds: int, only: Sequence[str]) -> list[Row]:
    """Requests a second and p99 of an endpoint with each kind of rollout, beside the same without one."""
    kinds = [kind for kind in _KINDS if not only or any(word.lower() in kind for word in only)]
    found = {kind: ([Result(OURS), Result(_ALONE)], [Result(OURS), Result(_ALONE)]) for kind in kinds}
    for number in range(rounds):
        try:
            with _Endpoint() as server:
                server.check()
                alone = loaded(server, 1)["rate"]
                for kind in kinds:
                    rates, waits = found[kind]
                    for turn in range(_PAIRS):
                        _pair(server, kind, alone / 2, waits, rates if not turn else None, (number + turn) % 2)
        except (Unavailable, WentWrong) as reason:
            return [Row("beside", "an endpoint without a rollout", "", [Result(OURS, note=str(reason))])]
    title = f"predictions, single rows, {CONNECTIONS} connections (ONNX)"
    rows = []
    for kind, (rates, waits) in found.items():
        goals: list[Goal] = [times(_ALONE, 1.1, least=False)] if kind in _BAD else []
        rows.append(Row("beside-rate", f"{title}, with {kind}", "requests/s", rates))
        rows.append(Row("beside-p99", f"p99 at half load, with {kind}", "ms", waits, goals))
    return rows


def _pair(
    server: _Endpoint, kind: str, rate: float, waits: Sequence[Result], rates: Sequence[Result] | None, first: int
) -> None:
    """The same endpoint with a rollout and without, one right after the other, in either order."""
    for place in (first, 1 - first):
        with server.rollout(kind) if place == 0 else contextlib.nullcontext():
            waits[place].values.append(loaded(server, 1, rate)["p99"])
            if rates is not None:
                rates[place].values.append(loaded(server, 1)["rate"])
