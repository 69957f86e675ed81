"""Digests of the files that steps read: those declared with ``File`` and those seen while a step ran.

A big file's digest is remembered with its size, time and inode, and used again only when the file was already old
at the time of hashing: one written within the clock's grain afterwards would look the same (git calls it racy).
"""

import errno
import stat
import time
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.digests import digest_bytes, digest_file, digest_value
from sampan.base.files import write_cache

MISSING: Final = "missing"
UNREADABLE: Final = "unreadable: "
_SMALL: Final = 1 << 20
_SETTLED: Final = 2_000_000_000


class _Known(msgspec.Struct, array_like=True):
    size: int
    mtime: int
    ctime: int
    inode: int
    digest: str


class Files:
    """Digests of files and folders, relative to the workspace or absolute."""

    def __init__(self, root: Path, cache: Path | None) -> None:
        self._root = root
        self._cache = cache
        self._known: dict[str, _Known] | None = None
        self._changed = False

    def digest(self, name: str) -> str:
        """A file's or folder's digest, ``missing``, or ``unreadable: `` and why."""
        path = self._root / name
        try:
            if path.is_dir():
                return self._folder(path)
            return self._file(path)
        except (FileNotFoundError, NotADirectoryError):
            return MISSING
        except OSError as error:
            return f"{UNREADABLE}{error.strerror}"

    def save(self) -> None:
        if not self._changed or self._cache is None or self._known is None:
            return
        write_cache(self._cache, msgspec.msgpack.encode(self._known))
        self._changed = False

    def _file(self, path: Path) -> str:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "a device or a pipe, and no file")  # reading it might never end
        if status.st_size <= _SMALL:
            return digest_bytes(path.read_bytes())
        known = self._load().get(str(path))
        facts = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if known is not None and (known.size, known.mtime, known.ctime, known.inode) == facts:
            return known.digest
        began = time.time_ns()
        digest = digest_file(path)
        if began - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED:
            self._load()[str(path)] = _Known(*facts, digest)
            self._changed = True
        return digest

    def _folder(self, path: Path) -> str:
        inside = sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())
        return digest_value([[name, self._file(path / name)] for name in inside])

    def _load(self) -> dict[str, _Known]:
        if self._known is None:
            self._known = {}
            if self._cache is not None:
                try:
                    self._known = msgspec.msgpack.decode(self._cache.read_bytes(), type=dict[str, _Known])
                except (OSError, msgspec.DecodeError):
                    self._known = {}
        return self._known
