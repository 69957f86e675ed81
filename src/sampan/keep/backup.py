"""``sampan backup``: a whole copy of a workspace, taken while the hub goes on.

The order makes it whole. Records first: what they name (tables, blobs, positions in the log) was durable before them,
is never changed, and no clean-up runs meanwhile. Logged runs likewise, then their artifacts. Then files, then the log,
which so holds every event that the records know of; then attachments and keys, which are durable before the events
that need them. The manifest comes last.

Files lie under their digests, so the next backup into the same folder copies only what is new. Until its manifest is
written the one before stays whole; then what only that one named is removed.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from sampan import __version__
from sampan.base.clock import Clock
from sampan.base.errors import Busy, Damaged, NotFound, Refused
from sampan.base.files import make_folder, sync
from sampan.base.settings import Folder
from sampan.keep.manifest import NAME, Entry, Manifest, read, write
from sampan.keep.reach import Reach
from sampan.keep.retention import Retention
from sampan.lake.publish import Publications
from sampan.log.log import Log
from sampan.log.stream import Stream, packed, read_manifest, read_mark
from sampan.store.blobs import Blobs
from sampan.store.database import Database
from sampan.store.lock import FileLock
from sampan.track.artifacts import all_named
from sampan.track.tracking import ARTIFACTS, DATABASE, open_database

_PIECE: Final = 1 << 20
_OURS: Final = {NAME, "files", "tmp", "lock"}
_NOT_CODE: Final = {"__pycache__", "node_modules", "dist", "build"}
_TRIES: Final = 5


class Made(msgspec.Struct, frozen=True):
    """What a backup came to. ``copied``: files that were not in the folder yet."""

    folder: str
    files: int
    bytes: int
    copied: int
    copied_bytes: int
    position: str
    root: str
    keys: bool
    missing: dict[str, str]


class Backup:
    """One backup of one workspace into one folder."""

    def __init__(self, folder: Folder, db: Database, log: Log, clock: Clock, retention: Retention, to: Path) -> None:
        self._folder, self._data, self._db, self._log = folder, folder.data, db, log
        self._clock, self._retention, self._to = clock, retention, to.resolve()
        self._objects = Blobs(self._to / "files")
        self._entries: dict[str, Entry] = {}
        self._copied = self._copied_bytes = 0

    def make(self, *, keys: bool = True) -> Made:
        """Make it. Raises Refused for a folder that holds something else, Damaged for a file that is not as it was."""
        attempted = f"Back up to {self._to}"
        self._prepare(attempted)
        with FileLock(self._to / "lock", attempted, "Wait until that backup has ended."):
            temporary = self._to / "tmp"
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(mode=0o700)
            self._db.copy_to(temporary / "records.db")
            missing = self._tables_and_blobs(temporary / "records.db")
            self._take(temporary / "records.db", ".sampan/records.db", 0o600)
            missing |= self._tracking(temporary / DATABASE)
            self._plain(self._data / "runs", 0o644)
            self._plain(self._data / "format", 0o644)
            position = self._log.position()
            root = self._log.root(position)
            for stream in sorted(path for path in self._log.folder.glob("*") if path.is_dir()):
                self._stream(stream)
            self._plain(self._data / "attachments", 0o444)
            kept = keys and self._log.keys.copy_to(temporary / "keys.db")
            if kept:
                self._take(temporary / "keys.db", ".sampan/keys.db", 0o600)
            self._code()
            files = tuple(self._entries[path] for path in sorted(self._entries))
            published = Publications(self._data)
            manifest = Manifest(
                sampan=__version__,
                workspace=self._folder.root.name,
                made=self._clock.micros(),
                position=str(position),
                root=root,
                keys=kept,
                missing=missing,
                published=tuple(published.again(one) for one in published.list()),
                files=files,
            )
            write(self._to, manifest)
            self._sweep({entry.sha256 for entry in files})
            shutil.rmtree(temporary, ignore_errors=True)
        size = sum(entry.bytes for entry in files)
        counts = (len(files), size, self._copied, self._copied_bytes)
        return Made(str(self._to), *counts, str(position), root, kept, missing)

    def _prepare(self, attempted: str) -> None:
        root = self._folder.root.resolve()
        if self._to == root or root in self._to.parents:
            raise Refused(attempted, "it lies in the workspace itself", "Choose a folder outside, on another disk.")
        for left in self._to.glob(f".{NAME}.*.tmp"):
            left.unlink()  # of one that was killed at its end
        with suppress(FileNotFoundError):
            if strange := sorted({path.name for path in self._to.iterdir()} - _OURS):
                raise Refused(attempted, f"{strange[0]!r} lies there, which no backup makes", "Choose an empty folder.")
        make_folder(self._to)
        self._to.chmod(0o700)  # it holds keys, and hashes of tokens
        with suppress(NotFound):
            if (other := read(self._to).workspace) != self._folder.root.name:
                raise Refused(attempted, f"it is a backup of {other}", "Choose another folder.")

    # -- what is copied

    def _tables_and_blobs(self, records: Path) -> dict[str, str]:
        """All that the records name; gives what of it is not there, with who names it."""
        copy = Database(records, writable=False)
        try:
            published = Publications(self._data).list()
            reach = Reach(copy, Blobs(self._data / "blobs"), self._retention, self._clock.micros(), published)
        finally:
            copy.close()
        there = set()
        for kind in ("lake", "blobs"):
            for path in sorted((self._data / kind).glob("??/*")):
                name = path.parent.name + path.name
                if len(name) == 64 and not path.name.startswith("."):
                    self._take(path, self._where(path), 0o444, digest=name)
                    there.add(name)
        return {name: why for name, why in {**reach.lake, **reach.bytes}.items() if name not in there}

    def _tracking(self, records: Path) -> dict[str, str]:
        """Logged runs and all artifacts; gives which of those that runs name are not there, with who names them."""
        if not (self._data / DATABASE).exists():
            return {}
        tracking = open_database(self._data, writable=False)
        try:
            tracking.copy_to(records)
        finally:
            tracking.close()
        there = set()
        for path in sorted((self._data / ARTIFACTS).glob("??/*")):
            name = path.parent.name + path.name
            if len(name) == 64 and not path.name.startswith("."):
                self._take(path, self._where(path), 0o444, digest=name)
                there.add(name)
        copy = open_database(records.parent, writable=False)
        try:
            missing = {name: f"artifact {owner}" for name, owner in all_named(copy) if name not in there}
        finally:
            copy.close()
        self._take(records, f".sampan/{DATABASE}", 0o600)
        return missing

    def _stream(self, folder: Path) -> None:
        """Sealed segments, and of the others what had been synced when it was looked."""
        mark, alive = read_mark(folder)
        if alive and mark is None:
            raise Busy(f"Back up the log stream {folder.name}", "its writer has only begun", "Try again.")
        stream = Stream(folder)
        numbers = {path.name[:8] for path in folder.iterdir() if path.suffix in (".json", ".log")}
        for number in sorted(int(name) for name in numbers if name.isdecimal()):
            if mark is None or not alive or number <= mark.number:
                end = mark.offset if mark is not None and alive and number == mark.number else None
                self._segment(stream, number, end)
        if mark is not None:
            self._put(packed(mark), f".sampan/log/{folder.name}/durable", 0o644)

    def _segment(self, stream: Stream, number: int, end: int | None) -> None:
        for _ in range(_TRIES):
            try:
                path = stream.path(number, "json")
                if not path.exists():
                    raw = stream.log_path(number)
                    self._take(raw, self._where(raw), 0o644, end=end)
                    return
                manifest = read_manifest(path)
                for name, digest in manifest.files.items():
                    self._take(stream.folder / name, self._where(stream.folder / name), 0o644, digest=digest)
                for one in (stream.path(number, "sums"), path):
                    if one.exists() and self._where(one) not in self._entries:
                        self._take(one, self._where(one), 0o644)
                return
            except FileNotFoundError:
                continue  # it was sealed meanwhile
        raise Damaged(f"Back up segment {number} of {stream.name}", "its files come and go", "Run `sampan log verify`.")

    def _plain(self, folder: Path, mode: int) -> None:
        """A file, or all files of a folder."""
        for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if path.is_file() and not path.name.startswith("."):
                with suppress(FileNotFoundError):
                    self._take(path, self._where(path), mode)

    def _code(self) -> None:
        """The workspace's own files: what git knows or would, else all that are not hidden."""
        root = self._folder.root
        for name in sorted({*_code_files(root), "sampan.toml"}):
            path = root / name
            if path.is_file() and not path.is_symlink():
                self._take(path, name, 0o755 if os.access(path, os.X_OK) else 0o644)

    # -- how

    def _where(self, path: Path) -> str:
        return f".sampan/{path.relative_to(self._data).as_posix()}"

    def _take(self, path: Path, where: str, mode: int, *, digest: str = "", end: int | None = None) -> None:
        """Have a file in the backup, up to byte ``end``. Raises Damaged if it does not have the digest it should."""
        if digest and self._objects.has(digest):
            size = path.stat().st_size
            if self._objects.path(digest).stat().st_size == size:
                self._entries[where] = Entry(where, digest, size, mode)
                return
        temporary = self._to / "tmp" / "copy"
        found, size = _copy(path, temporary, end)
        if digest and found != digest:
            temporary.unlink()
            raise Damaged(
                f"Back up {path}", "it does not match its digest", "Restore it from an older backup, or build it again."
            )
        self._have(temporary, found, size, where, mode)

    def _put(self, data: bytes, where: str, mode: int) -> None:
        temporary = self._to / "tmp" / "made"
        temporary.write_bytes(data)
        self._take(temporary, where, mode)
        temporary.unlink()

    def _have(self, temporary: Path, digest: str, size: int, where: str, mode: int) -> None:
        path = self._objects.path(digest)
        if path.exists() and path.stat().st_size != size:
            path.unlink()  # half of it, from a disk that failed
        if not path.exists():
            self._copied += 1
            self._copied_bytes += size
        self._objects.place(temporary, digest)
        if mode & 0o077 == 0:
            path.chmod(0o400)
        self._entries[where] = Entry(where, digest, size, mode)

    def _sweep(self, named: set[str]) -> None:
        """Remove what only an older backup in this folder named: keys of people who have been forgotten, too."""
        for path in self._objects.folder.glob("??/*"):
            if path.parent.name + path.name not in named:
                path.unlink()


def _copy(source: Path, target: Path, end: int | None = None) -> tuple[str, int]:
    """Copy a file durably; gives its SHA-256 and size."""
    digest, size = sha256(), 0
    with source.open("rb") as original, target.open("wb") as copy:
        while piece := original.read(_PIECE if end is None else min(_PIECE, end - size)):
            digest.update(piece)
            copy.write(piece)
            size += len(piece)
        copy.flush()
        sync(copy.fileno())
    return digest.hexdigest(), size


def _code_files(root: Path) -> Iterator[str]:
    command = ["git", "ls-files", "-c", "-o", "--exclude-standard", "-z", "--", "."]
    try:
        asked = subprocess.run(command, cwd=root, capture_output=True, check=False)
        names = asked.stdout.decode("utf-8", "surrogateescape").split("\0") if asked.returncode == 0 else []
    except OSError:
        names = []
    if any(names):
        yield from (name for name in names if name and not name.startswith(".sampan/"))
        return
    for path in root.rglob("*"):
        parts = path.relative_to(root).parts
        if not any(part.startswith(".") or part in _NOT_CODE for part in parts):
            yield "/".join(parts)
