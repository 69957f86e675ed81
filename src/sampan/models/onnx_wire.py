"""Looks through an ONNX file's protobuf structure before the native runtime sees it.

ONNX lets a tensor live in another file (``external_data``), which has been a path traversal three times over
(CVE-2022-25882, CVE-2024-27318, CVE-2026-27489). Sampan takes single files only, and operators of the two
standard domains only. The walk needs no ONNX package: it follows the few fields that can hold a tensor or a node.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from collections.abc import Iterator
from typing import Final

_DOMAINS: Final = ("", "ai.onnx", "ai.onnx.ml")
_DEPTH: Final = 64

# message -> field number -> message in that field
_PARTS: Final[dict[str, dict[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}


def objection(data: bytes) -> str | None:
    """Why these bytes are not an ONNX model that Sampan loads; None if they are."""
    try:
        fields = {number for number, _, _ in _fields(memoryview(data))}
        if 7 not in fields:
            return "it is not an ONNX model (no graph)"
        return _walk("Model", memoryview(data), 0)
    except (ValueError, IndexError):
        return "it is not an ONNX model (its bytes do not parse)"


def _walk(message: str, data: memoryview, depth: int) -> str | None:
    if depth > _DEPTH:
        return f"its graphs are nested more than {_DEPTH} deep"
    for number, number_value, part in _fields(data):
        if message == "Tensor" and (number == 13 or (number == 14 and number_value == 1)):
            return "a tensor of it lies in another file (external data); save it as one file"
        if message == "Node" and number == 7 and part is not None:
            domain = bytes(part).decode("utf-8", "replace")
            if domain not in _DOMAINS:
                return f"it uses an operator of the domain {domain!r}; only standard operators run"
        inner = _PARTS[message].get(number)
        if inner and part is not None and (found := _walk(inner, part, depth + 1)):
            return found
    return None


def _fields(data: memoryview) -> Iterator[tuple[int, int, memoryview | None]]:
    """(field number, number, bytes) of each field of a message; bytes only where the field has a length."""
    place, end = 0, len(data)
    while place < end:
        tag, place = _varint(data, place)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield number, value, None
        elif wire == 2:
            length, place = _varint(data, place)
            if place + length > end:
                raise ValueError
            yield number, 0, data[place : place + length]
            place += length
        elif wire in (1, 5):
            place += 8 if wire == 1 else 4
            if place > end:
                raise ValueError
            yield number, 0, None
        else:
            raise ValueError


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError
