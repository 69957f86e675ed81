"""What an ONNX file says of its tensors, and its answers that are tensors or texts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sampan.base.errors import BadStep, Damaged
from sampan.models.tensors import packed
from sampan.models.values import BYTES, TensorType
from sampan.models.values import DATATYPES as KINDS

if TYPE_CHECKING:
    from sampan.models.formats import Output

#: ONNX Runtime's words for the types of elements, and the protocol's.
DATATYPES: Final = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(bool)": "BOOL",
    "tensor(string)": BYTES,
}
_NAMES: Final = {np.dtype(kind).str.replace("|", "<"): name for name, kind in KINDS.items()}


def is_column(given: Any) -> bool:
    """Whether an input is one value for each record: of the shape [n] or [n, 1]."""
    return len(given.shape) < 2 or (len(given.shape) == 2 and given.shape[1] == 1)


def declared(given: Any, attempted: str) -> TensorType:
    """What one record's part of an input is. Raises BadStep where its first dimension is not that of the records."""
    shape = given.shape
    if not shape or (isinstance(shape[0], int) and shape[0] != 1):
        said = f"{given.name!r} has the shape {list(shape)}, whose first dimension is not that of the records"
        raise BadStep(attempted, said, "Export it again with a first dimension of any size (dynamic_axes), or of 1.")
    return TensorType(DATATYPES[given.type], tuple(size if isinstance(size, int) else -1 for size in shape[1:]))


def one_at_a_time(inputs: Sequence[Any]) -> bool:
    """Whether it was exported for one record."""
    return any(given.shape and given.shape[0] == 1 for given in inputs)


def given_by(outputs: Sequence[Any]) -> TensorType:
    """What one record's part of the first output is. Raises BadStep for what is no tensor of known elements."""
    first = outputs[0]
    if first.type not in DATATYPES or not first.shape:
        raise BadStep("Freeze an ONNX model", f"its output {first.name!r} is a {first.type}", "Export tensors.")
    return TensorType(DATATYPES[first.type], tuple(size if isinstance(size, int) else -1 for size in first.shape[1:]))


def misfit(inputs: Mapping[str, Any], feed: "Mapping[str, np.ndarray[Any, Any]]") -> str:
    """What of some tensors is not as a model declares its inputs, in words: a size that is fixed, or one that has a
    name and is not the same wherever it stands. Empty where all is."""
    named: dict[str, tuple[int, str]] = {}
    for name, array in feed.items():
        for declared, size in list(zip(inputs[name].shape, array.shape, strict=True))[1:]:
            if isinstance(declared, int) and declared != size:
                return f"{name} has {size} where {declared} are declared"
            if isinstance(declared, str) and declared:
                first, where = named.setdefault(declared, (size, name))
                if first != size:
                    return f"{declared} is {first} in {where} and {size} in {name}"
    return ""


def read_tensors(values: Any) -> "list[Output]":
    """One tensor for each record. Raises Damaged for what is no finite number."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Damaged("Predict", "the model's answer holds NaN or infinity", "Look at what it was sent.")
    if values.dtype.kind == "O":
        return [packed(one, BYTES) for one in values]
    return [packed(one, _NAMES[values.dtype.str.replace("|", "<")]) for one in values]


def read_texts(values: Any) -> "list[Output]":
    """One text for each record. Raises Damaged for several."""
    values = np.asarray(values, object)
    if values.size != len(values):
        raise Damaged(
            "Predict", f"it gives the shape {list(values.shape[1:])} where one text is wanted", "--kind tensor."
        )
    return [str(one) for one in values.ravel()]
