"""Tensors of the Open Inference Protocol: as JSON, and as bytes after it (the binary tensor data extension).

Little endian, row by row; an element of BYTES is its length in four bytes, and then itself.
"""

import base64
import binascii
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from sampan.base.errors import Usage
from sampan.models.tensors import Array
from sampan.models.values import DATATYPES as _TYPES
from sampan.models.values import pack_texts, unpack_bytes

_ATTEMPT: Final = "Predict"
_KINDS: Final = {"BOOL": bool, "FP": float, "INT": int, "UINT": int, "BYTES": str}


class Tensor(NamedTuple):
    """``values``: all elements row by row, as bool, int, float or str, or as an array if they came as bytes."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    values: list[Any] | Array

    @property
    def listed(self) -> list[Any]:
        """The elements; a NaN is None."""
        if isinstance(self.values, list):
            return self.values
        values: list[Any] = self.values.tolist()
        return [None if one != one else one for one in values] if self.datatype.startswith("FP") else values

    @property
    def array(self) -> Array:
        """The elements in their shape. Raises ValueError for a null among numbers."""
        if not isinstance(self.values, list):
            return self.values.reshape(self.shape)
        kind = object if self.datatype == "BYTES" else np.dtype(_TYPES[self.datatype])
        try:
            return np.array(self.values, kind).reshape(self.shape)
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from None


def read_tensors(inputs: Any, rest: bytes, raw: Collection[str] = ()) -> list[Tensor]:
    """The inputs of a request and the bytes that followed its JSON; elements of those named in ``raw`` stay bytes.
    Raises Usage for what does not fit together."""
    if not isinstance(inputs, list) or not inputs:
        raise Usage(_ATTEMPT, "inputs: expected a list of tensors", "Send name, shape, datatype and data of each.")
    found, at = [], 0
    for place, one in enumerate(inputs):
        tensor, at = _read(place, one, rest, at, raw)
        found.append(tensor)
    if at != len(rest):
        raise _wrong("inputs", f"{len(rest)} bytes follow the JSON, the tensors account for {at}")
    return found


def _read(place: int, one: Any, rest: bytes, at: int, raw: Collection[str]) -> tuple[Tensor, int]:
    if not isinstance(one, dict) or not isinstance(name := one.get("name"), str):
        raise _wrong(f"input {place}", "it is no tensor with a name")
    shape, datatype = one.get("shape"), one.get("datatype")
    if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise _wrong(f"input {name!r}", "shape: expected a list of whole numbers, 0 and above")
    if not isinstance(datatype, str) or (datatype != "BYTES" and datatype not in _TYPES):
        known = ", ".join([*_TYPES, "BYTES"])
        raise _wrong(f"input {name!r}", f"datatype: expected one of {known}, got {str(datatype)[:40]!r}")
    count = math.prod(shape)
    parameters = one.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    values: list[Any] | Array
    if size is None:
        values = _listed(name, datatype, one.get("data"), shape)
        if datatype == "BYTES" and (name in raw or flags(parameters).get("content_type") == "base64"):
            values = _as_bytes(name, values, flags(parameters).get("content_type"), texts=name not in raw)
    else:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest) - at:
            raise _wrong(f"input {name!r}", f"binary_data_size is {size!r}, and {len(rest) - at} bytes are left")
        values, at = _unpacked(name, datatype, rest[at : at + size], name in raw), at + size
    if len(values) != count:
        raise _wrong(f"input {name!r}", f"its shape {shape} has {count} elements, its data {len(values)}")
    return Tensor(name, tuple(shape), datatype, values), at


def _listed(name: str, datatype: str, data: Any, shape: Sequence[int]) -> list[Any]:
    """The elements of JSON data, flat or nested as the shape says."""
    if not isinstance(data, list):
        raise _wrong(f"input {name!r}", "data: expected a list")
    flat: list[Any] = data
    if data and isinstance(data[0], list):
        sizes = [len(data)]
        while flat and isinstance(flat[0], list):
            lengths = {len(one) if isinstance(one, list) else -1 for one in flat}
            if len(lengths) > 1 or len(sizes) > len(shape):
                raise _wrong(f"input {name!r}", f"data: its lists do not have the shape {list(shape)}")
            sizes.append(lengths.pop())
            flat = [element for one in flat for element in one]
        if [size for size in sizes if size != 1] != [size for size in shape if size != 1]:
            raise _wrong(f"input {name!r}", f"data: lists of the shape {sizes}, expected {list(shape)}")
    kind = next(kind for prefix, kind in _KINDS.items() if datatype.startswith(prefix))
    return [_element(name, datatype, kind, one) for one in flat]


def _element(name: str, datatype: str, kind: type, one: Any) -> Any:
    if one is None or (type(one) is kind and kind is not float):
        return one
    if kind is float and type(one) in (int, float):
        return float(one)
    raise _wrong(f"input {name!r}", f"data: {one!r:.60} is not of {datatype}")


def _as_bytes(name: str, values: list[Any], content_type: Any, *, texts: bool) -> list[Any]:
    """Elements of BYTES in JSON: as texts, or, where the tensor's content type says so, as base64."""
    try:
        found = [
            base64.b64decode(one, validate=True) if content_type == "base64" else str(one).encode() for one in values
        ]
        return [one.decode() for one in found] if texts else found
    except (binascii.Error, ValueError, TypeError) as error:
        raise _wrong(f"input {name!r}", f"an element is not base64 of what it takes: {error}"[:200]) from None


def _unpacked(name: str, datatype: str, data: bytes, raw: bool) -> list[Any] | Array:
    if datatype != "BYTES":
        kind = np.dtype(_TYPES[datatype])
        if len(data) % kind.itemsize:
            raise _wrong(f"input {name!r}", f"{len(data)} bytes are no whole number of {datatype}")
        return np.frombuffer(data, kind)
    try:
        found = list(unpack_bytes(data))
        return found if raw else [one.decode() for one in found]
    except UnicodeDecodeError as error:
        raise _wrong(f"input {name!r}", f"an element is not UTF-8: {error}"[:200]) from None
    except ValueError as error:
        raise _wrong(f"input {name!r}", str(error)) from None


def write_tensor(tensor: Tensor, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """A tensor of an answer, and the bytes that follow the JSON where it goes as those."""
    head: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
    if not binary:
        return {**head, "data": tensor.listed}, b""
    if tensor.datatype == "BYTES":
        data = pack_texts(tensor.listed)
    else:
        data = np.asarray(tensor.values, np.dtype(_TYPES[tensor.datatype])).tobytes()
    return {**head, "parameters": {"binary_data_size": len(data)}}, data


def flags(given: Any) -> Mapping[str, Any]:
    """The parameters of a request or of an output; none where there are none."""
    return given if isinstance(given, dict) else {}


def rows(tensors: Sequence[Tensor]) -> int:
    """How many records they stand for: the first dimension, which all share. Raises Usage."""
    counts = {tensor.shape[0] if tensor.shape else 1 for tensor in tensors}
    if len(counts) != 1:
        listed = ", ".join(f"{tensor.name}: {list(tensor.shape)}" for tensor in tensors)
        raise _wrong("inputs", f"their first dimensions differ ({listed})")
    return counts.pop()


def _wrong(where: str, what: str) -> Usage:
    advice = "The model's metadata lists its inputs: GET /v2/models/NAME."
    return Usage(_ATTEMPT, f"{where}: {what}", advice, field=where)
