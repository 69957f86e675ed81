"""The bytes that an event carries, as its page offers them."""

from typing import Any

import msgspec

from sampan.hub.parts import Parts
from sampan.log.attachments import Attachments
from sampan.log.read import StoredEvent
from sampan.serve.noted import in_words


class AttachedLine(msgspec.Struct):
    """Bytes of one field. ``picture``: they are an image that a browser may show; ``there``: they can be read."""

    field: str
    digest: str
    media_type: str
    size: int
    picture: bool
    there: bool


def attached(parts: Parts, event: StoredEvent, data: Any) -> list[AttachedLine]:
    """What an accepted event carries, in the contract's order; of a prediction its large tensors and files."""
    if event.verdict != "accepted" or event.type not in parts.contracts or not isinstance(data, dict):
        return []
    if event.type in ("prediction", "shadow"):
        return of_prediction(parts, data)
    return _lines(
        parts, {field.name: data.get(field.name) for field in parts.contracts.contract(event.type or "").blobs}
    )


def of_prediction(parts: Parts, data: dict[str, Any]) -> list[AttachedLine]:
    """The tensors and files that a prediction's event names by digest."""
    named = {**(data.get("context") or {}), **(data.get("features") or {})}
    return _lines(
        parts, {name: one for name, one in [*named.items(), ("prediction", data.get("prediction"))] if in_words(one)}
    )


def _lines(parts: Parts, named: dict[str, Any]) -> list[AttachedLine]:
    store = Attachments(parts.folder.data / "attachments")
    lines = []
    for name, value in named.items():
        if isinstance(value, dict) and isinstance(digest := value.get("digest"), str):
            kind, size = str(value.get("media_type", "")), value.get("size")
            if "datatype" in value:
                kind = f"{value['datatype']} {value['shape']}, little endian"
            there = store.find(digest) is not None
            picture = store.picture(digest) is not None
            lines.append(AttachedLine(name, digest, kind, size if isinstance(size, int) else 0, picture, there))
    return lines
