"""What goes from hand to hand between a request and its answer: what was asked, what is said to it, whose answer it is,
and what is written down of it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from sampan.models.values import Packed
from sampan.serve.decisions import Question
from sampan.serve.faces import NATIVE
from sampan.serve.noted import Blobs

#: Records, in their order.
Records: TypeAlias = Sequence[dict[str, Any]]


class Asked(NamedTuple):
    """A request that fits the bundle's signature."""

    records: Records
    ids: list[str]
    chosen_ids: bool
    time: int
    arrived: float
    face: int = NATIVE
    wanted: Any = None
    pinned: bool = False  # to the version that is served: no other may answer
    sent: Records | None = None  # the records as they came, where features were looked up
    looked_up: Sequence[str] = ()  # for each record where, empty for what came as it is
    as_of: int | None = None  # when they were to be as of; None: now
    noted: Records | None = None  # the records as events say them, where that is something else
    blobs: Blobs | None = None  # what those name by digest

    @property
    def written(self) -> Records:
        """The records as events say them."""
        return self.records if self.noted is None else self.noted

    @property
    def words(self) -> Records:
        """The records as they came; tensors and bytes as events say them."""
        return self.written if self.sent is None else self.sent

    @property
    def chosen(self) -> frozenset[str]:
        """The ids that the client chose."""
        return frozenset(self.ids) if self.chosen_ids else frozenset()


class Verdict(msgspec.Struct, array_like=True, gc=False):
    """What a bundle says to one record. ``error``: why there is none, or why its rule gave no action of its own;
    ``fallback``: why it is not the model that says it, but what was declared for then."""

    output: float | str | list[float] | Packed | None
    action: str = ""
    rule: str = ""
    value: dict[str, Any] | None = None
    error: str = ""
    question: Question | None = None
    """What people are asked about it; the action stands until they answer."""
    fallback: str = ""
    calls: tuple[str, ...] = ()
    """Whom its rules would have called, had anybody been told the answer."""
    form: str = ""
    """``onnx`` where the model's ONNX form has said it."""
    record: dict[str, Any] | None = None
    """What it was said to, where its process has looked the features up itself; else that is what was asked."""
    looked_up: str = ""
    """Where it has: a table and its snapshot."""
    blobs: Blobs | None = None
    """Content that ``record`` names by digest."""


class Author(NamedTuple):
    """Whose answer it is: version, the bundle's digest, and what its model reads of a record."""

    version: str
    bundle: str
    inputs: tuple[str, ...]


class Arm(NamedTuple):
    """Whose answer a record of a rollout got, and what its event says about that."""

    author: Author
    told: Mapping[str, Any]


class Answered(NamedTuple):
    """What to send back once the events are durable. ``sure``: the events fit their contract, whatever a model or a
    rule has returned; ``blobs``: content that they name by digest."""

    answers: list[dict[str, Any]]
    events: list[bytes]
    sure: bool = False
    blobs: Blobs | None = None


class Data(msgspec.Struct, gc=False):
    """What every prediction's event says (``sampan.log.builtin.Prediction``)."""

    endpoint: str
    version: str
    bundle: str
    entity: str
    features: dict[str, Any]
    context: dict[str, Any]
    prediction: Any
    action: str
    rule: str
    value: dict[str, Any] | None
    latency_us: int
    error: str


class Written(msgspec.Struct, gc=False):
    id: str
    type: str
    source: str
    time: str
    data: Any
    subject: str | msgspec.UnsetType = msgspec.UNSET
