"""Reads tensors and bytes out of records, and says what of one does not fit. What they are: ``models.values``."""

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np

from sampan.models.values import BYTES, DATATYPES, Content, Packed, TensorType, pack_texts, unpack_texts

Array: TypeAlias = np.ndarray[Any, Any]

_SHOWN: Final = 60
_DIMENSIONS: Final = 16  # more than any model here has


class Unfit(ValueError):
    """A value that does not fit. ``expected`` and ``got`` are in words."""

    def __init__(self, expected: str, got: str) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = expected, got


def packed(array: Array, datatype: str) -> Packed:
    """An array of that type as a value."""
    shape = tuple(int(size) for size in array.shape)
    if datatype == BYTES:
        return Packed(datatype, shape, pack_texts(array.ravel().tolist()))
    return Packed(datatype, shape, np.ascontiguousarray(array, DATATYPES[datatype]).tobytes())


class TensorReader:
    """Reads one input's tensors out of records."""

    def __init__(self, type: TensorType) -> None:
        self.type = type

    def __call__(self, value: Any) -> Array:
        """The tensor. Raises Unfit, with what was expected and what came."""
        if isinstance(value, Packed) and value.datatype == self.type.datatype:
            return self._fitting(value.array)
        if isinstance(value, Packed):
            raise self._unfit(value.datatype)
        if isinstance(value, np.ndarray):
            return self._checked(self._fitting(value))
        if isinstance(value, Mapping):
            return self._checked(self._fitting(self._unpacked(value)))
        if not isinstance(value, list):
            raise self._unfit(shown(value))
        return self._checked(self._fitting(self._listed(value)))

    def _listed(self, value: list[Any]) -> Array:
        """A nested list."""
        if self.type.datatype == BYTES:
            return self._texts(value)
        try:
            array = np.array(value)
        except (ValueError, OverflowError, RecursionError):
            raise self._unfit("lists of different lengths, or nested too deep") from None
        kind, wanted = array.dtype.kind, np.dtype(DATATYPES[self.type.datatype])
        if array.size == 0:
            return array.astype(wanted)
        takes = {"f": "fiu", "i": "iuf", "u": "iuf", "b": "b"}[wanted.kind]
        if kind not in takes:
            raise self._unfit(_odd(value, takes))
        if wanted.kind in "iu":
            bounds = np.iinfo(wanted)
            whole = kind != "f" or bool((array == np.floor(array)).all())
            if not whole or array.min() < bounds.min or array.max() > bounds.max:
                raise self._unfit("a number that is not of that type")
        with np.errstate(over="ignore"):  # what is too large for it is found as infinite
            return array.astype(wanted)

    def _texts(self, value: list[Any]) -> Array:
        shape: list[int] = [len(value)]
        level: list[Any] = value
        while level and isinstance(level[0], list):
            sizes = {len(one) if isinstance(one, list) else -1 for one in level}
            if len(sizes) > 1 or len(shape) > _DIMENSIONS:
                raise self._unfit("lists of different lengths, or nested too deep")
            shape.append(sizes.pop())
            level = [item for one in level for item in one]
        if odd := [one for one in level if not isinstance(one, str)]:
            raise self._unfit(shown(odd[0]))
        return np.array(level, object).reshape(shape)

    def _unpacked(self, value: Mapping[str, Any]) -> Array:
        """What was sent as ``{"datatype": ..., "shape": [...], "base64": "..."}``."""
        if set(value) != {"datatype", "shape", "base64"}:
            raise self._unfit(f"an object with {', '.join(map(str, value)) or 'nothing'}"[:_SHOWN])
        datatype, shape = value["datatype"], value["shape"]
        if datatype != self.type.datatype:
            raise self._unfit(f"the datatype {shown(datatype)}")
        sizes = list(shape) if isinstance(shape, list | tuple) else [-1]
        if len(sizes) > _DIMENSIONS or not all(type(one) is int and one >= 0 for one in sizes):
            raise self._unfit(f"the shape {shown(shape)}")
        data, count = decoded(value["base64"], f"a tensor {self.type.words}"), math.prod(sizes)
        if datatype == BYTES:
            try:
                texts: Any = unpack_texts(data)
            except ValueError as error:
                raise self._unfit(str(error)) from None
            if len(texts) == count:
                return np.array(texts, object).reshape(sizes)
            raise self._unfit(f"{len(texts)} elements for the shape {sizes}")
        kind = np.dtype(DATATYPES[datatype])
        if len(data) != count * kind.itemsize:
            raise self._unfit(f"{len(data)} bytes where the shape {sizes} has {count * kind.itemsize}")
        return np.frombuffer(data, kind).reshape(sizes)

    def _fitting(self, array: Array) -> Array:
        """Raises Unfit for another shape."""
        wanted = self.type.shape
        fits = len(wanted) == array.ndim and all(a in (-1, b) for a, b in zip(wanted, array.shape, strict=True))
        if not fits:
            raise self._unfit(f"the shape {list(array.shape)}")
        if not array.size:
            raise self._unfit(f"the shape {list(array.shape)}, which holds nothing")
        return array

    def _checked(self, array: Array) -> Array:
        """Raises Unfit for what is no finite number."""
        if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
            at = [int(one) for one in np.argwhere(~finite)[0]]
            said = "NaN" if np.isnan(array[tuple(at)]) else "infinite, or too large for it"
            raise self._unfit(f"an element that is {said}, at {at}")
        return array

    def _unfit(self, got: str) -> Unfit:
        return Unfit(f"a tensor {self.type.words}", got)


def read_content(value: Any) -> bytes:
    """The bytes of an input of the type ``bytes``. Raises Unfit."""
    if isinstance(value, Content):
        data = value.base64
    elif isinstance(value, Mapping) and set(value) == {"base64"}:
        data = decoded(value["base64"], _CONTENT)
    else:
        raise Unfit(_CONTENT, shown(value))
    if not data:
        raise Unfit(_CONTENT, "none at all")
    return data


_CONTENT: Final = 'bytes as {"base64": "..."}'


def decoded(value: Any, expected: str) -> bytes:
    """Bytes of base64. Raises Unfit."""
    if isinstance(value, bytes):  # from another process, which has read them already
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Unfit(expected, f"what is not base64: {shown(value)}") from None


def shown(value: Any) -> str:
    """A value in an error message."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _odd(value: list[Any], takes: str) -> str:
    """The first element of nested lists that is not of these kinds."""
    kinds: tuple[type, ...] = (bool,) if takes == "b" else (int, float)
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, list):
            waiting[:0] = one
        elif type(one) not in kinds:
            return shown(one)
    return "elements of another type"
