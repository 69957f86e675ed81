"""``sampan restore``: a workspace from a backup, in an empty folder.

All digests are checked before the first file is written, and each file's again while it is. ``sampan.toml`` comes
last: without it a folder is no workspace. Killed in between, the same command goes on.
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.clock import SystemClock
from sampan.base.errors import Damaged, NotFound, Refused
from sampan.base.files import make_folder, sync, sync_folder, write_durably
from sampan.base.settings import Settings
from sampan.keep.manifest import Entry, Manifest, read
from sampan.keep.reach import Reach
from sampan.keep.retention import Retention
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.position import Position
from sampan.store.blobs import Blobs
from sampan.store.database import Database
from sampan.track.artifacts import all_named
from sampan.track.tracking import ARTIFACTS, open_database

_GOING_ON: Final = ".restoring"
_LAST: Final = "sampan.toml"
_PIECE: Final = 1 << 20


class Restored(msgspec.Struct, frozen=True):
    """What was restored: how much, and how far its log goes at least. ``published``: tables to publish once more."""

    folder: str
    files: int
    bytes: int
    made: int
    position: str
    root: str
    keys: bool
    missing: dict[str, str]
    published: tuple[str, ...]


def restore(backup: Path, to: Path) -> Restored:
    """Raises NotFound or Damaged for a backup that is not whole, Refused for a folder that is not empty."""
    manifest = read(backup)
    if _prepare(to, manifest):
        return _told(manifest, to)
    objects = Blobs(backup / "files")
    for entry in manifest.files:
        _check(objects, entry)
    make_folder(to)
    write_durably(to / _GOING_ON, _stamp(manifest))
    for entry in sorted(manifest.files, key=lambda entry: entry.path == _LAST):
        if entry.path != _LAST:
            _place(objects, entry, to)
    _look(manifest, to)
    for entry in manifest.files:
        if entry.path == _LAST:
            _place(objects, entry, to)
    (to / _GOING_ON).unlink()
    sync_folder(to)
    return _told(manifest, to)


def _told(manifest: Manifest, to: Path) -> Restored:
    size = sum(entry.bytes for entry in manifest.files)
    return Restored(
        str(to),
        len(manifest.files),
        size,
        manifest.made,
        manifest.position,
        manifest.root,
        manifest.keys,
        manifest.missing,
        manifest.published,
    )


def _stamp(manifest: Manifest) -> bytes:
    return sha256(msgspec.json.encode(manifest)).hexdigest().encode()


def _prepare(to: Path, manifest: Manifest) -> bool:
    """Whether all of it has been restored already, by one that was killed just before it could say so."""
    attempted = f"Restore to {to}"
    try:
        for left in to.glob(f".{_GOING_ON}.*.tmp"):
            left.unlink()  # of one that was killed as it began
        there = sorted(path.name for path in to.iterdir())
    except FileNotFoundError:
        return False
    except NotADirectoryError:
        raise Refused(attempted, "it is a file", "Choose an empty folder.") from None
    if not there:
        return False
    if _GOING_ON in there and (to / _GOING_ON).read_bytes() == _stamp(manifest):
        if _LAST in there:
            (to / _GOING_ON).unlink()
        return _LAST in there
    raise Refused(attempted, f"it holds {there[0]!r}", "Choose an empty folder: nothing is ever overwritten.")


def _check(objects: Blobs, entry: Entry) -> None:
    digest, size = sha256(), 0
    path = objects.path(entry.sha256)
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except FileNotFoundError:
        raise _bad(entry, path, "is missing") from None
    if size != entry.bytes:
        raise _bad(entry, path, f"has {size} bytes instead of {entry.bytes}")
    if digest.hexdigest() != entry.sha256:
        raise _bad(entry, path, "does not match its digest")


def _bad(entry: Entry, path: Path, what: str) -> Damaged:
    return Damaged(f"Restore {entry.path}", f"{path} {what}", "Nothing of it counts. Use another copy of the backup.")


def _place(objects: Blobs, entry: Entry, to: Path) -> None:
    path = to / entry.path
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.restoring")
    source = objects.path(entry.sha256)
    digest = sha256()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with source.open("rb") as file, os.fdopen(descriptor, "wb") as copy:
        while piece := file.read(_PIECE):
            digest.update(piece)
            copy.write(piece)
        copy.flush()
        sync(copy.fileno())
    if digest.hexdigest() != entry.sha256:
        temporary.unlink()
        raise _bad(entry, source, "does not match its digest")
    temporary.chmod(entry.mode)
    temporary.replace(path)
    sync_folder(path.parent)


def _look(manifest: Manifest, to: Path) -> None:
    """Whether records, files and log agree, before the folder becomes a workspace."""
    data = to / ".sampan"
    db = Database(data / "records.db", writable=False)
    try:
        reach = Reach(db, Blobs(data / "blobs"), Retention(), manifest.made)
    finally:
        db.close()
    for kind, named in (("lake", reach.lake), ("blobs", reach.bytes)):
        for name, why in named.items():
            if not Blobs(data / kind).has(name) and name not in manifest.missing:
                raise Damaged(f"Restore to {to}", f"{kind} {name[:16]} is missing: {why}", "Use another backup.")
    tracking = open_database(data, writable=False)
    try:
        for name, owner in all_named(tracking):
            if not Blobs(data / ARTIFACTS).has(name) and name not in manifest.missing:
                raise Damaged(f"Restore to {to}", f"artifact {owner} is missing", "Use another backup.")
    finally:
        tracking.close()
    log = Log(data / "log", Contracts(), SystemClock(), Settings())
    try:
        root = log.root(Position.parse(manifest.position))
    except NotFound as error:
        raise Damaged(f"Restore to {to}", str(error.obstacle), "Use another backup.") from error
    if root != manifest.root:
        raise Damaged(f"Restore to {to}", f"the log's root is {root}, not {manifest.root}", "Use another backup.")
