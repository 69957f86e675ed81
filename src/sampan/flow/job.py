"""What the engine tells a worker, and what the worker answers: plain data over a socket."""

import struct
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.lake.draft import TableDraft
from sampan.lake.partition import Increment
from sampan.lake.query import TableSource
from sampan.models.version import VersionDraft

if TYPE_CHECKING:
    import socket

_LENGTH: Final = struct.Struct("<I")

PYTHON: Final = "python"
SQL: Final = "sql"
SQL_CHECK: Final = "sql check"
SPLIT: Final = "split"
JOIN: Final = "join"
JUDGE: Final = "judge"


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a result lies: a plain value (inline or a blob), a table's files, or a model's."""

    kind: str
    digest: str
    inline: bytes | None = None
    blob: str | None = None
    table: TableDraft | None = None
    model: VersionDraft | None = None
    message: str = ""
    """Why a check failed; empty if it passed."""


class Slice(msgspec.Struct, frozen=True):
    """Rows of one part within a file sorted by the column that fans out."""

    file: str
    start: int
    length: int
    digest: str


class HeldOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rows that a training does not see: of all that the ``key`` columns tell apart a ``share``, chosen by ``seed``.

    With a ``time`` column it sees rows up to ``since``, and is judged on those after it, up to ``until`` (microseconds
    since 1970); what came later still is neither seen nor judged.
    """

    key: tuple[str, ...]
    share: float
    seed: int
    time: str = ""
    since: int = 0
    until: int = 0


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """One argument of a step. One of ``stored`` to ``element`` is set; ``held``: rows of a ``table`` left out."""

    name: str
    stored: Stored | None = None
    table: TableSource | None = None
    log: msgspec.Raw = msgspec.Raw(b"")
    slice: Slice | None = None
    element: bytes | None = None
    held: HeldOut | None = None


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing to do in a worker process."""

    kind: str
    step: str
    part: str
    node: str
    root: str
    data: str
    log: str
    module: str = ""
    inputs: list[Input] = []
    parameters: dict[str, Any] = {}
    options: dict[str, Any] = {}
    seed: int = 0
    sql: str = ""
    path: str = ""
    threads: int = 0
    memory: int = 0
    files: list[str] = []
    cpus: list[int] = []
    environment: dict[str, str] = {}
    """What MLflow's client in the step is told; holds a secret."""
    metrics: bool = False
    """Whether metrics of the model that it gives are logged."""
    increment: Increment | None = None
    """For a table that is built bit by bit."""


class Done(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a job: a result, or the three parts of an error. ``built``: how much of a table was, in words."""

    stored: Stored | None = None
    error: tuple[str, str, str] | None = None
    seconds: float = 0.0
    memory: int = 0
    seen: dict[str, str] = {}
    warnings: list[str] = []
    elements: list[tuple[str, bytes, dict[str, Slice]]] = []
    built: str = ""


def send(to: "socket.socket", message: msgspec.Struct) -> None:
    data = msgspec.msgpack.encode(message)
    to.sendall(_LENGTH.pack(len(data)) + data)


def receive(source: "socket.socket") -> bytes | None:
    """One message; None at the end of the stream."""
    head = _exactly(source, _LENGTH.size)
    return None if head is None else _exactly(source, _LENGTH.unpack(head)[0])


def _exactly(source: "socket.socket", size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        piece = source.recv(min(size - len(parts), 1 << 20))
        if not piece:
            return None
        parts += piece
    return bytes(parts)
