"""Past requests answered once more, with another bundle, by a process that ``answer_again`` starts.

It goes the way that a serving process goes, rules included, and writes what it found to a file instead of the log.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.clock import SystemClock
from sampan.base.errors import Damaged, SampanError, revive
from sampan.base.sources import MemoryImporter
from sampan.serve.answer import Answerer
from sampan.serve.bundle import Bundle, open_bundle
from sampan.serve.environment import ONE_THREAD
from sampan.serve.verdict import Asked
from sampan.store.blobs import Blobs

_CHUNK: Final = 5_000
_PATIENCE: Final = 120.0  # seconds, and a hundredth of one more for each request


class Case(msgspec.Struct, array_like=True):
    """One past request: the id of its prediction, when it was asked, and the record."""

    id: str
    time: int
    record: dict[str, Any]


class Again(msgspec.Struct, array_like=True):
    """What a bundle would have answered; ``error`` where it could not."""

    id: str
    prediction: Any
    action: str
    rule: str
    value: dict[str, Any] | None
    error: str
    asks: bool = False
    """Whether it would have been sent to people."""


class Errand(msgspec.Struct):
    """What the process is told on its standard input: each bundle with the file of its cases."""

    blobs: str
    asked: list[tuple[Bundle, str]]
    answers: str


def answer_again(blobs: Blobs, asked: Sequence[tuple[Bundle, list[Case]]], folder: Path) -> dict[str, Again]:
    """What bundles would have answered, by the id of the prediction. In a process of its own, as in service.

    Raises what loading a bundle raised, Damaged if the process ended.
    """
    count = sum(len(cases) for _, cases in asked)
    if not count:
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{os.getpid()}-again-") as scratch:
        answers = Path(scratch) / "answers"
        files: list[tuple[Bundle, str]] = []
        for number, (bundle, cases) in enumerate(asked):
            file = Path(scratch) / f"cases-{number}"
            file.write_bytes(msgspec.msgpack.encode(cases))
            files.append((bundle, str(file)))
        errand = Errand(str(blobs.folder.resolve()), files, str(answers))
        patience = _PATIENCE + count / 100
        attempted = "Answer past requests"
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "sampan.serve.again"],
                input=msgspec.json.encode(errand),
                capture_output=True,
                timeout=patience,
                env={**os.environ, **ONE_THREAD},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Damaged(attempted, f"it took more than {patience:.0f} s", "See what its rules do.") from None
        if done.returncode or not done.stdout:
            said = done.stderr.decode(errors="replace").strip()[-300:] or "nothing"
            raise Damaged(attempted, f"the process ended with {done.returncode}", f"It last said: {said}")
        if error := msgspec.json.decode(done.stdout):
            raise revive(error)
        return {one.id: one for one in msgspec.msgpack.decode(answers.read_bytes(), type=list[Again])}


def main() -> None:
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the user's rules print must not mix with the answer
    error: dict[str, str] | None = None
    try:
        errand = msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)
        blobs, found = Blobs(Path(errand.blobs)), []
        for bundle, file in errand.asked:
            cases = msgspec.msgpack.decode(Path(file).read_bytes(), type=list[Case])
            with forgotten_modules():
                answerer = Answerer("again", open_bundle(bundle, blobs), SystemClock())
                answerer.recall_from(blobs.folder.parent)
                for start in range(0, len(cases), _CHUNK):
                    found += _answer(answerer, cases[start : start + _CHUNK])
        Path(errand.answers).write_bytes(msgspec.msgpack.encode(found))
    except SampanError as failed:
        error = failed.body()["error"]
    except Exception as failed:  # noqa: BLE001 - the edge of this process; the caller turns it into a message
        error = Damaged("Answer past requests", f"{type(failed).__name__}: {failed}").body()["error"]
    with answer:
        answer.write(msgspec.json.encode(error))


@contextmanager
def forgotten_modules() -> Iterator[None]:
    """Let the next bundle import its own modules: one ``decisions`` is not like another."""
    modules, finders = dict(sys.modules), list(sys.meta_path)
    try:
        yield
    finally:
        sys.meta_path[:] = finders
        for name in sys.modules.keys() - modules.keys():
            if isinstance(getattr(sys.modules[name], "__loader__", None), MemoryImporter):
                del sys.modules[name]


def _answer(answerer: Answerer, cases: list[Case]) -> list[Again]:
    """All at once; where one of them does not fit, in halves, until it stands alone."""
    try:
        return _decide(answerer, cases)
    except SampanError as error:
        if len(cases) == 1:
            return [Again(cases[0].id, None, "", "", None, error.obstacle)]
        half = len(cases) // 2
        return [*_answer(answerer, cases[:half]), *_answer(answerer, cases[half:])]


def _decide(answerer: Answerer, cases: list[Case]) -> list[Again]:
    records, ids = [answerer.recalled(case.record) for case in cases], [case.id for case in cases]
    asked = Asked(records, ids, True, cases[0].time, time.perf_counter())
    if answerer.heavy:
        asked = answerer.pack(asked)
    found = answerer.decide(asked, answerer.predict(asked.records))
    told = [msgspec.json.decode(event)["data"] for event in found.events]
    return [
        Again(id, data["prediction"], data["action"], data["rule"], data["value"], data["error"], "review" in data)
        for id, data in zip(ids, told, strict=True)
    ]


if __name__ == "__main__":
    main()
