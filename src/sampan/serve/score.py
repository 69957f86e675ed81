"""Many rows answered with one bundle, in batches, by a process that goes the way of serving.

What comes out is what the endpoint answers for the same records: the digest of both is the same.
"""

import hashlib
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec

from sampan.base.errors import Damaged, Usage, revive
from sampan.serve.bundle import Bundle
from sampan.serve.environment import ONE_THREAD, python_for, variables
from sampan.serve.scoring import Batch, Order, read, write
from sampan.store.blobs import Blobs

BATCH: Final = 1_000
#: What makes up an answer, in the order in which it is digested.
OUTPUT: Final = ("prediction", "action", "rule", "version", "bundle")
_encode = msgspec.json.Encoder().encode


def canonical(answer: Mapping[str, Any]) -> bytes:
    """An answer as a line of JSON, without what differs each time it is asked for."""
    return _encode({name: answer[name] for name in OUTPUT}) + b"\n"


class Tally:
    """What came of the rows so far. ``digest`` covers the canonical answers in the order of the rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.actions: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self._hash = hashlib.sha256()

    def add(self, answers: Iterable[Mapping[str, Any]]) -> None:
        for answer in answers:
            self.rows += 1
            self.actions[answer["action"]] += 1
            if answer.get("error"):
                self.errors[answer["error"]] += 1
            self._hash.update(canonical(answer))

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class Scorer:
    """Asks the process. ``what`` is the name of the table, for messages."""

    def __init__(self, process: "subprocess.Popen[bytes]", said: Any, what: str) -> None:
        self._process = process
        self._said = said
        self._what = what
        self._rows = 0

    def answer(self, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers in the order of the records. Raises Usage for a row that does not fit, with its number (from 1), the
        column and the value; Damaged if the process ends."""
        batch = self.batch(records)
        if batch.error is not None:
            raise self._explained(batch)
        self._rows += len(records)
        return batch.answers

    def batch(self, records: list[dict[str, Any]]) -> Batch:
        """Answers, or why there are none."""
        return self._exchange(_encode(records))

    def begin(self, order: Order) -> None:
        """Load the bundle. Raises what it failed with."""
        batch = self._exchange(_encode(order))
        if batch.error is not None:
            raise revive(batch.error)

    def _explained(self, batch: Batch) -> Exception:
        error = revive(batch.error or {})
        if batch.place is None or not isinstance(error, Usage):
            return error
        row, said = self._rows + batch.place + 1, error.obstacle.removeprefix("record 0: ").removeprefix("record 0, ")
        return Usage(f"Score {self._what}", f"row {row:,}: {said}", error.advice)

    def _exchange(self, body: bytes) -> Batch:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        answer = None
        try:
            write(stdin, body)
            answer = read(stdout)
        except BrokenPipeError:
            pass
        if answer is None:
            code = self._process.wait()
            self._said.seek(0)
            last = self._said.read().decode(errors="replace").strip()[-300:] or "nothing"
            raise Damaged(f"Score {self._what}", f"the process ended with {code}", f"It last said: {last}")
        return msgspec.json.decode(answer, type=Batch)


@contextmanager
def scorer(bundle: Bundle, blobs: Blobs, what: str) -> Iterator[Scorer]:
    """A process that has loaded a bundle, for as long as rows are asked of it."""
    python = python_for(bundle, blobs)
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [python, "-P", "-m", "sampan.serve.scoring"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={**variables(python), **ONE_THREAD},
        )
        try:
            made = Scorer(process, said, what)
            made.begin(Order(str(blobs.folder.resolve()), bundle))
            yield made
        finally:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        continue
            process.kill()
            process.wait()


def columns_of(bundle: Bundle, columns: Iterable[str], what: str) -> list[str]:
    """Which columns of a table are sent: the inputs, whom it is about, and what else the rules may read. Raises Usage
    for a table that lacks one that is needed."""
    there = list(columns)
    facts = bundle.decision
    needed = [*bundle.model.signature.inputs, *([facts.entity] if facts and facts.entity else [])]
    missing = [name for name in dict.fromkeys(needed) if name not in there]
    if missing:
        raise Usage(
            f"Score {what}",
            f"it has no column {missing[0]!r}, which {bundle.version} asks for",
            f"Its columns: {', '.join(there)}.",
        )
    if facts is None:
        return needed
    if facts.context is None:
        return there
    return list(dict.fromkeys([*needed, *(name for name in facts.context if name in there)]))
