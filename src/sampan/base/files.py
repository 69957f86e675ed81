"""Writing files so that they are there after a power cut: sync the file, rename it, sync its folder.

On macOS ``fsync`` leaves the bytes in the drive's cache; ``F_FULLFSYNC`` does not.
"""

import errno
import fcntl
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from sampan.base.errors import DiskFull, SampanError

_FULL = getattr(fcntl, "F_FULLFSYNC", None) if sys.platform == "darwin" else None


def sync(fd: int) -> None:
    """Make the bytes written to an open file durable."""
    if _FULL is not None:
        fcntl.fcntl(fd, _FULL)
    else:
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Make names created, renamed or removed in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, durably: a file in it cannot outlive its folder."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def unfinished(path: Path) -> Path:
    """Where a thread writes what is to become ``path``, beside it: no other thread or process writes there."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")


def publish(temporary: Path, final: Path) -> None:
    """Sync a finished temporary file and give it its name; the name appears whole or not at all."""
    fd = os.open(temporary, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)
    temporary.replace(final)
    sync_folder(final.parent)


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file's content as a whole, durably.

    Raises DiskFull if the disk has no room; the old content is then untouched.
    """
    temporary = unfinished(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            sync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"Write {path}", "the disk is full", "Free some space and try again.") from error
        raise


def write_cache(path: Path, data: bytes) -> None:
    """Replace a file of a cache as a whole, not durably.

    Where that cannot be done, on a full disk or on one that may only be read, nothing is kept.
    """
    temporary = unfinished(path)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)


def of_the_disk(error: OSError) -> SampanError | None:
    """What a full disk, or one that may not be written, did to us, as our error; None for any other cause."""
    where = error.filename if isinstance(error.filename, str) else "to the disk"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"Write {where}", "the disk is full", "Free some space and try again.")
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        advice = "Get the right to write there, or work in a copy of the folder."
        return SampanError(f"Open {where}", (error.strerror or "not allowed").lower(), advice)
    return None
