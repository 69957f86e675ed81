"""Tensors and bytes as values of a record: what is declared of one, how it is sent, how it is written down.

A tensor belongs to one record: the first dimension of what a model takes, that of the records, is left out. Sent as
JSON it is a nested list, or ``{"datatype": "FP32", "shape": [3, 224, 224], "base64": "..."}``; bytes are
``{"base64": "..."}``. Elements lie little endian, row by row; one of BYTES is its length in four bytes, and then
itself, as the Open Inference Protocol has it.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    import numpy as np

#: What the Open Inference Protocol calls the types of elements, and what they are here.
DATATYPES: Final[Mapping[str, str]] = {
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
BYTES: Final = "BYTES"


class TensorType(msgspec.Struct, frozen=True):
    """What one record's tensor is: ``datatype`` as the protocol names it; -1 in ``shape`` stands for any size."""

    datatype: str
    shape: tuple[int, ...]

    @property
    def numpy(self) -> Any:
        """What NumPy calls its elements."""
        import numpy as np

        return np.dtype(object if self.datatype == BYTES else DATATYPES[self.datatype])

    @property
    def words(self) -> str:
        """``FP32 of the shape [3, -1, -1]``"""
        return f"{self.datatype} of the shape {list(self.shape)}"


class Packed(msgspec.Struct, frozen=True, gc=False):
    """A tensor that is known to fit. As JSON it is what may be sent for one."""

    datatype: str
    shape: tuple[int, ...]
    base64: bytes

    @property
    def array(self) -> "np.ndarray[Any, Any]":
        """Its elements; those of BYTES as texts."""
        import numpy as np

        if self.datatype == BYTES:
            return np.array(unpack_texts(self.base64), object).reshape(self.shape)
        return np.frombuffer(self.base64, DATATYPES[self.datatype]).reshape(self.shape)


class Content(msgspec.Struct, frozen=True, gc=False):
    """Bytes that a model takes as they are, such as a picture's file."""

    base64: bytes


def pack_texts(texts: Sequence[Any]) -> bytes:
    """Texts, or bytes, each behind its length."""
    raws = [one if isinstance(one, bytes) else str(one).encode() for one in texts]
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in raws)


def unpack_texts(data: bytes) -> list[str]:
    """Texts of such bytes. Raises ValueError, UnicodeDecodeError among them."""
    return [raw.decode() for raw in unpack_bytes(data)]


def unpack_bytes(data: bytes) -> Iterator[bytes]:
    """The elements of a BYTES tensor. Raises ValueError if one ends beyond its data."""
    at = 0
    while at < len(data):
        if len(data) - at < 4 or len(data) - at - 4 < (size := struct.unpack_from("<I", data, at)[0]):
            raise ValueError("an element of BYTES ends beyond its data")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size
