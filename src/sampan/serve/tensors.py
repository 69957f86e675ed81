"""Tensors of the Open Inference Protocol: as JSON, and as bytes after it (the binary tensor data extension).

Little endian, row by row; an element of BYTES is its length in four bytes, and then itself.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from sampan.base.errors import Usage

_ATTEMPT: Final = "Predict"
_TYPES: Final = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_KINDS: Final = {"BOOL": bool, "FP": float, "INT": int, "UINT": int, "BYTES": str}


class Tensor(NamedTuple):
    """``values``: all elements row by row, as bool, int, float or str; a NaN is None."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    values: list[Any]


def read_tensors(inputs: Any, rest: bytes) -> list[Tensor]:
    """The inputs of a request and the bytes that followed its JSON. Raises Usage for what does not fit together."""
    if not isinstance(inputs, list) or not inputs:
        raise Usage(_ATTEMPT, "inputs: expected a list of tensors", "Send name, shape, datatype and data of each.")
    found, at = [], 0
    for place, one in enumerate(inputs):
        tensor, at = _read(place, one, rest, at)
        found.append(tensor)
    if at != len(rest):
        raise _wrong("inputs", f"{len(rest)} bytes follow the JSON, the tensors account for {at}")
    return found


def _read(place: int, one: Any, rest: bytes, at: int) -> tuple[Tensor, int]:
    if not isinstance(one, dict) or not isinstance(name := one.get("name"), str):
        raise _wrong(f"input {place}", "it is no tensor with a name")
    shape, datatype = one.get("shape"), one.get("datatype")
    if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise _wrong(f"input {name!r}", "shape: expected a list of whole numbers, 0 and above")
    if datatype != "BYTES" and datatype not in _TYPES:
        known = ", ".join([*_TYPES, "BYTES"])
        raise _wrong(f"input {name!r}", f"datatype: expected one of {known}, got {str(datatype)[:40]!r}")
    count = math.prod(shape)
    parameters = one.get("parameters") or {}
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        values = _listed(name, datatype, one.get("data"))
    else:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest) - at:
            raise _wrong(f"input {name!r}", f"binary_data_size is {size!r}, and {len(rest) - at} bytes are left")
        values, at = _unpacked(name, datatype, rest[at : at + size]), at + size
    if len(values) != count:
        raise _wrong(f"input {name!r}", f"its shape {shape} has {count} elements, its data {len(values)}")
    return Tensor(name, tuple(shape), datatype, values), at


def _listed(name: str, datatype: str, data: Any) -> list[Any]:
    """The elements of JSON data, which may be nested."""
    if not isinstance(data, list):
        raise _wrong(f"input {name!r}", "data: expected a list")
    flat: list[Any] = []
    waiting = [iter(data)]
    while waiting:
        for one in waiting[-1]:
            if isinstance(one, list):
                waiting.append(iter(one))
                break
            flat.append(one)
        else:
            waiting.pop()
    kind = next(kind for prefix, kind in _KINDS.items() if datatype.startswith(prefix))
    return [_element(name, datatype, kind, one) for one in flat]


def _element(name: str, datatype: str, kind: type, one: Any) -> Any:
    if one is None or (type(one) is kind and kind is not float):
        return one
    if kind is float and type(one) in (int, float):
        return float(one)
    raise _wrong(f"input {name!r}", f"data: {one!r:.60} is not of {datatype}")


def _unpacked(name: str, datatype: str, data: bytes) -> list[Any]:
    if datatype != "BYTES":
        kind = np.dtype(_TYPES[datatype])
        if len(data) % kind.itemsize:
            raise _wrong(f"input {name!r}", f"{len(data)} bytes are no whole number of {datatype}")
        values: list[Any] = np.frombuffer(data, kind).tolist()
        return [None if one != one else one for one in values] if datatype.startswith("FP") else values
    texts, at = [], 0
    while at < len(data):
        if len(data) - at < 4 or len(data) - at - 4 < (size := struct.unpack_from("<I", data, at)[0]):
            raise _wrong(f"input {name!r}", "an element of BYTES ends beyond its data")
        try:
            texts.append(data[at + 4 : at + 4 + size].decode())
        except UnicodeDecodeError as error:
            raise _wrong(f"input {name!r}", f"an element is not UTF-8: {error}") from None
        at += 4 + size
    return texts


def write_tensor(tensor: Tensor, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    """A tensor of an answer, and the bytes that follow the JSON where it goes as those."""
    head: dict[str, Any] = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype}
    if not binary:
        return {**head, "data": tensor.values}, b""
    if tensor.datatype == "BYTES":
        data = b"".join(struct.pack("<I", len(raw)) + raw for raw in (str(one).encode() for one in tensor.values))
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
