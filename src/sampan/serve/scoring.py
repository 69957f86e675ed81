"""A process that answers batches of records as a serving process does, and keeps nothing. Started by ``score``.

Standard input and output carry JSON behind its length (u32): what to load, then one batch of records after another.
"""

import os
import struct
import sys
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from sampan.base.clock import SystemClock
from sampan.base.errors import Damaged, SampanError
from sampan.serve.answer import Answerer
from sampan.serve.bundle import Bundle, open_bundle
from sampan.serve.verdict import Asked
from sampan.store.blobs import Blobs

_LENGTH: Final = struct.Struct("!I")


class Order(msgspec.Struct):
    """What to answer with. ``blobs`` is the folder of the files that the bundle names."""

    blobs: str
    bundle: Bundle


class Batch(msgspec.Struct):
    """Answers in the order of the records, or why there are none; ``place``: which record it is that does not fit."""

    answers: list[dict[str, Any]] = []
    error: dict[str, str] | None = None
    place: int | None = None


def write(stream: IO[bytes], data: bytes) -> None:
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def read(stream: IO[bytes]) -> bytes | None:
    """The next message; None at the end."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    return data if len(data) == length else None


def main() -> None:
    said = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the user's rules print must not mix with the answers
    asked = sys.stdin.buffer
    try:
        order = msgspec.json.decode(read(asked) or b"", type=Order)
        answerer = Answerer("score", open_bundle(order.bundle, Blobs(Path(order.blobs))), SystemClock())
    except Exception as error:  # noqa: BLE001 - the edge of this process; the caller turns it into a message
        write(said, msgspec.json.encode(Batch(error=_told(error))))
        return
    write(said, msgspec.json.encode(Batch()))
    while (body := read(asked)) is not None:
        write(said, msgspec.json.encode(answer_batch(answerer, body)))


def answer_batch(answerer: Answerer, body: bytes) -> Batch:
    """Answers to a JSON list of records, by the way that requests go; kept nowhere."""
    try:
        given = answerer.read(body)
        return Batch(answerer.decide(given, answerer.predict(given.records)).answers)
    except Exception as error:  # noqa: BLE001 - as above
        return _first(answerer, body) or Batch(error=_told(error))


def _first(answerer: Answerer, body: bytes) -> Batch | None:
    """The first record that does not fit, asked for by itself."""
    for place, record in enumerate(msgspec.json.decode(body, type=list[msgspec.Raw])):
        try:
            given: Asked = answerer.read(bytes(record))
            answerer.predict(given.records)
        except Exception as error:  # noqa: BLE001 - as above
            return Batch(error=_told(error), place=place)
    return None


def _told(error: Exception) -> dict[str, str]:
    known = error if isinstance(error, SampanError) else Damaged("Score", f"{type(error).__name__}: {error}")
    return known.body()["error"]


if __name__ == "__main__":
    main()
