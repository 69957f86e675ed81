"""In which words a request for predictions may come and its answer goes: Sampan's own, ``/invocations``, V2.

A face turns bytes into a call (records, and what its sender chose) and answers into bytes. What lies between, from the
check of the records to the durable events, is the same for all of them.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from sampan.base.errors import SampanError
from sampan.models.version import Signature

if TYPE_CHECKING:
    from sampan.serve.bundle import Bundle

#: Headers of a request that a face reads; of an answer, what it sets.
Headers = Mapping[str, str]
_MODULES: Final = ("sampan.serve.native", "sampan.serve.invocations", "sampan.serve.inference")
NATIVE, INVOCATIONS, INFERENCE = range(len(_MODULES))


class Call(NamedTuple):
    """What a request asks: ``ids`` and ``time`` as they came, if they did; ``wanted`` is what its face notes for its
    answer."""

    records: Sequence[Any]
    ids: Any = None
    time: Any = msgspec.UNSET
    wanted: Any = None
    pinned: bool = False  # the request names the version that is served


class Said(NamedTuple):
    """What is answered: one entry per record (id, prediction, action, rule, version, bundle, and where there is
    something to say of them error, variant, review, form, fallback)."""

    answers: Sequence[Mapping[str, Any]]
    bundle: "Bundle"
    error: SampanError | None  # a rule failed and declares no safe action

    @property
    def signature(self) -> Signature:
        return self.bundle.model.signature


class Face(Protocol):
    """A module with these three functions. ``headers`` have names in lower case."""

    def read(self, body: bytes, headers: Headers, bundle: "Bundle") -> Call:
        """Raises Usage, and NotFound for a version that is not the one that is served."""

    def write(self, said: Said, wanted: Any) -> tuple[bytes, Headers]:
        """Body and headers of an answer."""

    def refuse(self, error: SampanError) -> tuple[bytes, Headers]:
        """Body and headers of a failure."""


@cache
def face(number: int) -> Face:
    """A face by its number; imported when it is first used."""
    found: Face = import_module(_MODULES[number])
    return found


def pack(headers: Headers, body: bytes) -> bytes:
    """Headers and body as they go between hub and serving process: one line of JSON, then the body."""
    return msgspec.json.encode(dict(headers)) + b"\n" + body


def unpack(data: bytes) -> tuple[dict[str, str], bytes]:
    """What ``pack`` put together."""
    line, _, body = data.partition(b"\n")
    return msgspec.json.decode(line, type=dict[str, str]), body
