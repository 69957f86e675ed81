"""What a backup holds: ``manifest.json`` names every file with its digest. Written last, or there is no backup."""

from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from sampan.base.errors import Damaged, NewerFormat, NotFound
from sampan.base.files import write_durably

FORMAT: Final = 1
NAME: Final = "manifest.json"


class Entry(msgspec.Struct, frozen=True):
    """One file: where it lies in the workspace, and under which digest in the backup."""

    path: str
    sha256: str
    bytes: int
    mode: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``position`` and ``root``: how far the log goes at least. ``missing``: what was gone when it was made.

    ``published``: tables that were published to other engines; a backup has not what names their files by place.
    """

    format: int = FORMAT
    sampan: str
    workspace: str
    made: int
    position: str
    root: str
    keys: bool
    missing: dict[str, str]
    published: tuple[str, ...] = ()
    files: tuple[Entry, ...]


def write(folder: Path, manifest: Manifest) -> None:
    """Keep it durably: one line of JSON, then the SHA-256 of that line."""
    text = msgspec.json.encode(manifest)
    write_durably(folder / NAME, b"%s\n%s\n" % (text, sha256(text).hexdigest().encode()), 0o600)


def read(folder: Path) -> Manifest:
    """Raises NotFound for what is no whole backup, Damaged, NewerFormat."""
    attempted, path = f"Open the backup {folder}", folder / NAME
    try:
        text, _, told = path.read_bytes().partition(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        there = (folder / "files").is_dir()
        obstacle = f"{NAME} is not there" + (": the backup did not come to its end" if there else "")
        raise NotFound(attempted, obstacle, "Make it again: `sampan backup FOLDER`." if there else "") from None
    if sha256(text).hexdigest().encode() != told.strip():
        raise Damaged(attempted, f"{path} does not match its own digest", "Use another copy of the backup.")
    number = msgspec.json.decode(text).get("format", 0)
    if number > FORMAT:
        raise NewerFormat(attempted, f"it has format {number}, this Sampan knows up to {FORMAT}", "Upgrade Sampan.")
    found = msgspec.json.decode(text, type=Manifest)
    for entry in found.files:
        parts = PurePosixPath(entry.path).parts
        if not parts or entry.path.startswith("/") or ".." in parts:
            raise Damaged(attempted, f"{entry.path!r} lies outside of a workspace", "Do not trust this backup.")
    return found
