"""Bytes that events carry: pictures, documents, recordings. They lie beside the log under their SHA-256.

An event that carries bytes is acknowledged only after they are durable; one that names bytes which are not there goes
to quarantine. They have a folder of their own (``.sampan/attachments``), apart from the blobs of models and runs: who
may send events must not be able to name, and so to read, anything else.
"""

import base64
import binascii
import re
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.errors import NotFound
from sampan.base.files import make_folder, write_durably
from sampan.log.explain import Wrong
from sampan.log.spec import FieldSpec
from sampan.store.blobs import Blobs

ANYTHING: Final = "application/octet-stream"
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,60}/[a-z0-9][a-z0-9!#$&^_.+-]{0,60}")
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class Attached(msgspec.Struct, frozen=True):
    """What the log says of an event's bytes."""

    digest: str
    media_type: str
    size: int


class Attachments:
    """The bytes of one workspace's events."""

    def __init__(self, folder: Path) -> None:
        self._blobs = Blobs(folder / "bytes")
        self._told = folder / "types"  # what an upload said of its media type, by digest

    def put(self, data: bytes) -> str:
        """Keep bytes durably and return their digest."""
        return self._blobs.put(data)

    def upload(self, data: bytes, media_type: str) -> Attached:
        """Keep bytes before an event names them."""
        digest = self.put(data)
        path = self._told / digest[:2] / digest[2:]
        make_folder(path.parent)
        write_durably(path, media_type.encode())
        return Attached(digest, media_type, len(data))

    def find(self, digest: str) -> Attached | None:
        """What is known of a digest; None if its bytes are not here."""
        try:
            size = self._blobs.path(digest).stat().st_size
        except (FileNotFoundError, NotFound):
            return None
        try:
            media_type = (self._told / digest[:2] / digest[2:]).read_text("ascii")
        except (FileNotFoundError, UnicodeDecodeError):
            media_type = ANYTHING
        return Attached(digest, media_type, size)

    def picture(self, digest: str) -> str | None:
        """The media type of a picture that a browser may show, by its first bytes; None for anything else."""
        try:
            with self._blobs.path(digest).open("rb") as file:
                return image_type(file.read(16))
        except (FileNotFoundError, NotFound):
            return None

    def get(self, digest: str) -> bytes:
        """The bytes of a digest. Raises NotFound, Damaged."""
        return self._blobs.get(digest)


def media_type_of(text: str) -> str | None:
    """A media type without parameters, in small letters; None for what is none."""
    plain = text.partition(";")[0].strip().lower()
    return plain if _MEDIA_TYPE.fullmatch(plain) else None


def image_type(data: bytes) -> str | None:
    """The media type of a picture that a browser may show, by its bytes alone; None for anything else."""
    for magic, media_type in _MAGIC:
        if data.startswith(magic):
            return media_type
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def attach(
    value: Any, field: FieldSpec, store: Attachments | None, waiting: dict[str, tuple[bytes, str]]
) -> Attached | Wrong:
    """What the log shall say of a Blob as it was sent, or what is wrong with it. ``waiting``: bytes of the same request
    by digest, with their media types; those sent inline are added. Without ``store`` a reference is not looked up."""
    place = f"$.data.{field.name}"
    given = value.get("media_type")
    media_type = media_type_of(given) if isinstance(given, str) else None
    if given is not None and media_type is None:
        return f"invalid: {given!r:.60} is no media type", f"{place}.media_type"
    if (coded := value.get("base64")) is not None:
        if media_type is None or value.get("digest") is not None:
            return "invalid: a blob needs media_type and base64, or a digest", place
        try:
            data = base64.b64decode(coded, validate=True)
        except (binascii.Error, ValueError, TypeError):
            return "invalid: not base64", f"{place}.base64"
        found = Attached(digest_bytes(data), media_type, len(data))
        if (wrong := _bounded(found, field, place)) is None:
            waiting[found.digest] = (data, media_type)
        return wrong or found
    digest = value.get("digest")
    if not isinstance(digest, str):
        return "invalid: a blob needs media_type and base64, or a digest", place
    if digest in waiting:
        data, known = waiting[digest]
        found = Attached(digest, media_type or known, len(data))
    elif store is None:
        size = value.get("size")
        return Attached(digest, media_type or ANYTHING, size if isinstance(size, int) else 0)
    elif (there := store.find(digest)) is not None:
        found = Attached(digest, media_type or there.media_type, there.size)
    else:
        return "missing blob: nothing with this digest was uploaded", f"{place}.digest"
    return _bounded(found, field, place) or found


def _bounded(found: Attached, field: FieldSpec, place: str) -> Wrong | None:
    most = field.bounds.get("max_bytes")
    if most is not None and found.size > float(most):
        return f"invalid: {found.size} bytes are more than {most}", place
    if field.media_types and found.media_type not in field.media_types:
        return f"invalid: {found.media_type} is not one of {', '.join(field.media_types)}", f"{place}.media_type"
    return None
