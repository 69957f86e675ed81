"""The bytes that an event carries, as its page offers them."""

from typing import Any

import msgspec

from sampan.hub.parts import Parts
from sampan.log.attachments import Attachments
from sampan.log.read import StoredEvent


class AttachedLine(msgspec.Struct):
    """Bytes of one field. ``picture``: they are an image that a browser may show; ``there``: they can be read."""

    field: str
    digest: str
    media_type: str
    size: int
    picture: bool
    there: bool


def attached(parts: Parts, event: StoredEvent, data: Any) -> list[AttachedLine]:
    """What an accepted event carries, in the contract's order."""
    if event.verdict != "accepted" or event.type not in parts.contracts or not isinstance(data, dict):
        return []
    store = Attachments(parts.folder.data / "attachments")
    lines = []
    for field in parts.contracts.contract(event.type or "").blobs:
        value = data.get(field.name)
        if isinstance(value, dict) and isinstance(digest := value.get("digest"), str):
            kind, size = str(value.get("media_type", "")), value.get("size")
            there = store.find(digest) is not None
            picture = store.picture(digest) is not None
            lines.append(AttachedLine(field.name, digest, kind, size if isinstance(size, int) else 0, picture, there))
    return lines
