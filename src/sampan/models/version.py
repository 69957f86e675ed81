"""What a frozen model is: its files by digest, its signature, and the number it gets when it is registered."""

from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from sampan.base.digests import digest_bytes
from sampan.models.values import TensorType

Kind: TypeAlias = Literal["binary", "multiclass", "regression", "ranking", "tensor", "text", "unknown"]
#: Kinds whose answers nothing is measured by: a tensor, or a text, for each record.
UNMEASURED: Final = ("tensor", "text")
#: The kinds that a model step may say its model is of; of what people registered it is unknown.
KINDS: Final = tuple(kind for kind in get_args(Kind) if kind not in ("unknown", *UNMEASURED))
#: The format of a version that is a live service: its one file says where and how it is called.
SERVICE: Final = "service"
Label: TypeAlias = bool | int | float | str
InputType: TypeAlias = Literal["number", "integer", "boolean", "text", "category", "tensor", "bytes"]
#: Inputs that are no single value: sent as nested lists or base64, and kept beside the log where they are large.
WHOLE: Final = ("tensor", "bytes")

_ENCODER = msgspec.json.Encoder()


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """What a version takes and gives.

    ``inputs`` maps each feature, in the model's own order, to its type; ``categories`` holds the values known to a
    ``category`` input. ``missing`` says whether an input may be null. ``classes`` are the labels of a classifier;
    of a binary one the second is the positive class. ``tensors``: what each ``tensor`` input is; ``gives``: what comes
    out of a model whose output is one. Neither is written where there is none, so that older digests stay.
    """

    inputs: dict[str, InputType]
    output: Literal["probability", "probabilities", "number", "score", "tensor", "text", "unknown"]
    classes: tuple[Label, ...] = ()
    categories: dict[str, tuple[Label, ...]] = {}
    missing: bool = False
    frame: bool = False  # the estimator was fitted on a frame with column names, and wants one
    tensors: dict[str, TensorType] | msgspec.UnsetType = msgspec.UNSET
    gives: TensorType | msgspec.UnsetType = msgspec.UNSET

    def cell(self, name: str) -> InputType | None:
        """As what the cell of a text file is read; of a category, as what its labels are. None: it is no input."""
        kind, labels = self.inputs.get(name), self.categories.get(name, ())
        if kind != "category" or not labels or any(isinstance(one, str) for one in labels):
            return kind
        return "boolean" if all(isinstance(one, bool) for one in labels) else "number"

    def tensor(self, name: str) -> TensorType:
        """What the tensor of an input is."""
        assert not isinstance(self.tensors, msgspec.UnsetType)
        return self.tensors[name]

    @property
    def heavy(self) -> tuple[str, ...]:
        """The inputs that are tensors or bytes."""
        return tuple(name for name, type in self.inputs.items() if type in WHOLE)


class Origin(msgspec.Struct, frozen=True):
    """What a version was registered from, where no step of the flow made it: a logged run, or a logged model of one.

    ``path`` lies below the artifacts of either. ``adopted``: it is of neither, but was brought in from outside; the
    name of the file, or the address of the service.
    """

    run: str = ""
    model: str = ""
    path: str = ""
    adopted: str = ""


class GoldenFile(msgspec.Struct, frozen=True):
    """Where a version's golden requests lie, how many they are, and of how many rows of its sample they were picked."""

    digest: str
    requests: int
    rows: int


class OnnxFile(msgspec.Struct, frozen=True):
    """The same model as ONNX: where that lies, and its largest absolute difference on so many rows of the sample; or,
    without a digest, ``why`` it is not kept. ``nulls``: it answered the same with each input null, too."""

    digest: str = ""
    apart: float | None = None
    rows: int = 0
    why: str = ""
    nulls: bool = False


class VersionDraft(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A frozen model whose files are kept, but which has no number yet. Made in a worker, registered by the hub.

    ``digest`` covers format, kind, files and signature, not the metrics: a model that is measured anew, or whose
    metrics hold a duration, is still the same model. Nor does it cover ``golden`` and ``onnx``, which are derived. What
    a draft does not have is not written, so that the bytes of a bundle stay those that older ones had.
    """

    digest: str
    kind: Kind
    format: str
    files: dict[str, str]
    signature: Signature
    metrics: dict[str, Any]
    made_with: dict[str, str]
    golden: GoldenFile | None = None
    onnx: OnnxFile | None = None

    def held(self) -> tuple[str, ...]:
        """The digests of all files that are kept with it."""
        derived = (self.golden.digest if self.golden else "", self.onnx.digest if self.onnx else "")
        return (*self.files.values(), *filter(None, derived))


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version. Nothing changes it."""

    model: str
    number: int
    digest: str
    kind: Kind
    format: str
    files: dict[str, str]
    signature: Signature
    metrics: dict[str, Any]
    made_with: dict[str, str] = {}
    run: str | None = None
    key: str | None = None
    created: int = 0
    origin: Origin | None = None
    actor: str = ""
    golden: GoldenFile | None = None
    onnx: OnnxFile | None = None

    @property
    def ref(self) -> str:
        """``reorder@3``"""
        return f"{self.model}@{self.number}"

    def draft(self) -> VersionDraft:
        """The same model without the name and number that it has here."""
        return VersionDraft(**{field: getattr(self, field) for field in VersionDraft.__struct_fields__})


def version_digest(kind: str, format: str, files: dict[str, str], signature: Signature) -> str:
    """The content address of a model. The order of inputs counts: it is the order of the model's columns."""
    return digest_bytes(_ENCODER.encode(("model-1", kind, format, sorted(files.items()), signature)))
