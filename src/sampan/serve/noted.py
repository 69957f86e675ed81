"""What the log says of tensors and bytes: small ones as they are, large ones by their digest.

Larger content lies once, beside the log, where the bytes of events lie (``sampan.log.attachments``); it is durable
before the event that names it. A record that is read back gets its content again.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from sampan.base.digests import digest_bytes
from sampan.log.attachments import ANYTHING, Attachments, image_type
from sampan.models.values import BYTES, DATATYPES, Content, Packed

#: Bytes that a tensor, or other content, may have to stand in an event itself.
INLINE: Final = 1_024
#: Content by its digest, with its media type.
Blobs: TypeAlias = dict[str, tuple[bytes, str]]
_TENSOR: Final = {"datatype", "shape", "digest", "size"}
_PREDICTED: Final = {"datatype", "shape", "data"}
_SHOWN: Final = 4
_CONTENT: Final = {"media_type", "digest", "size"}


def noted(record: Mapping[str, Any], names: Iterable[str], blobs: Blobs) -> dict[str, Any]:
    """A record as its event says it; what it names by digest is added to ``blobs``."""
    made = dict(record)
    for name in names:
        value = made.get(name)
        if isinstance(value, Packed):
            made[name] = value.array.tolist() if len(value.base64) <= INLINE else _apart(value, blobs)
        elif isinstance(value, Content):
            made[name] = _content(value, blobs)
    return made


def noted_output(tensor: Packed, blobs: Blobs) -> dict[str, Any]:
    """A tensor that was predicted: ``{"datatype": ..., "shape": [...], "data": [...]}``, row by row, as the Open
    Inference Protocol has it; a large one has a digest in place of its data."""
    if len(tensor.base64) > INLINE:
        return _apart(tensor, blobs)
    return {"datatype": tensor.datatype, "shape": list(tensor.shape), "data": tensor.array.ravel().tolist()}


def restored(record: Mapping[str, Any], names: Iterable[str], attachments: Attachments) -> dict[str, Any]:
    """A record as it was sent, from what its event says. Raises NotFound, Damaged where content is not there."""
    made = dict(record)
    for name in names:
        value = made.get(name)
        if isinstance(value, dict) and set(value) == _TENSOR:
            made[name] = Packed(value["datatype"], tuple(value["shape"]), attachments.get(value["digest"]))
        elif isinstance(value, dict) and set(value) == _CONTENT:
            made[name] = Content(attachments.get(value["digest"]))
    return made


def restored_output(said: Any, attachments: Attachments | None) -> Any:
    """The nested list of a tensor that was predicted; without ``attachments`` a large one stays as the event has it."""
    import numpy as np

    if not isinstance(said, dict):
        return said
    if "data" in said:
        kind = object if said["datatype"] == BYTES else DATATYPES[said["datatype"]]
        return np.array(said["data"], kind).reshape(said["shape"]).tolist()
    if attachments is None:
        return said
    return Packed(said["datatype"], tuple(said["shape"]), attachments.get(said["digest"])).array.tolist()


def in_words(value: Any) -> str:
    """A tensor, or bytes, that an event names by digest, and a tensor that was predicted; empty for anything else,
    whatever it looks like."""
    if not isinstance(value, dict) or set(value) not in (_PREDICTED, _TENSOR, _CONTENT):
        return ""
    kind = str(value.get("media_type") or value.get("datatype"))
    if isinstance(shape := value.get("shape"), list):
        kind += f" {shape}"
    if isinstance(data := value.get("data"), list):
        some = ", ".join(str(one) for one in data[:_SHOWN])
        return f"{kind}: {some}{', …' if len(data) > _SHOWN else ''}"
    return f"{kind}, {size:,} bytes" if isinstance(size := value.get("size"), int) else ""


def _apart(tensor: Packed, blobs: Blobs) -> dict[str, Any]:
    digest = digest_bytes(tensor.base64)
    blobs[digest] = (tensor.base64, ANYTHING)
    told = {"datatype": tensor.datatype, "shape": list(tensor.shape)}
    return {**told, "digest": digest, "size": len(tensor.base64)}


def _content(content: Content, blobs: Blobs) -> dict[str, Any]:
    data = content.base64
    if len(data) <= INLINE:
        small: dict[str, Any] = msgspec.to_builtins(content)
        return small
    digest, media_type = digest_bytes(data), image_type(data) or ANYTHING
    blobs[digest] = (data, media_type)
    return {"media_type": media_type, "digest": digest, "size": len(data)}
