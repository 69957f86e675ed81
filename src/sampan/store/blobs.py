"""Bytes by their SHA-256, in local files. Written once, checked on reading, never changed."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from sampan.base.digests import digest_bytes, digest_file
from sampan.base.errors import Damaged, NotFound
from sampan.base.files import make_folder, sync, sync_folder, write_durably

_AGE: Final = threading.Lock()  # held between looking how old a file is and doing something about it


class Blobs:
    """A folder of files named by their content's SHA-256, two characters of fan-out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the bytes of a digest lie (or would lie). Raises NotFound for a text that is no digest."""
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise NotFound("Open a blob", f"{digest!r} is not a SHA-256 digest")
        return self.folder / digest[:2] / digest[2:]

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def put(self, data: bytes) -> str:
        """Keep bytes durably and return their digest."""
        digest = digest_bytes(data)
        path = self.path(digest)
        if _renew(path):
            sync_folder(path.parent)  # whoever named it may not have come to that yet
        else:
            make_folder(path.parent)
            write_durably(path, data, 0o444)
        return digest

    def adopt(self, temporary: Path) -> str:
        """Take over a finished file on the same disk and return its digest."""
        digest = digest_file(temporary)
        fd = os.open(temporary, os.O_RDONLY)
        try:
            sync(fd)
        finally:
            os.close(fd)
        self.place(temporary, digest)
        return digest

    def place(self, temporary: Path, digest: str) -> Path:
        """Give a finished, synced file of a known digest its name, durably. A file that is there already stays."""
        path = self.path(digest)
        if _renew(path):
            temporary.unlink()
        else:
            make_folder(path.parent)
            temporary.chmod(0o444)
            temporary.replace(path)
        sync_folder(path.parent)
        return path

    def share(self, other: Path, digest: str) -> None:
        """Keep the bytes of another folder's file here, too, without a copy where the disk can do so.

        Raises NotFound if the file is absent, Damaged if it holds other bytes.
        """
        path = self.path(digest)
        if _renew(path):
            return
        try:
            if digest_file(other) != digest:
                raise Damaged("Keep a file", f"{other} does not match its digest", "Restore it from a backup.")
        except FileNotFoundError:
            raise NotFound("Keep a file", f"its bytes ({digest[:12]}) are gone", "Restore a backup.") from None
        make_folder(path.parent)
        try:
            os.link(other, path)
        except FileExistsError:
            return
        except OSError:
            write_durably(path, other.read_bytes(), 0o444)
        sync_folder(path.parent)

    def get(self, digest: str) -> bytes:
        """The bytes of a digest. Raises NotFound if absent, Damaged if they are not those that were put."""
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise NotFound("Read a blob", f"{digest} is not in {self.folder.name}") from None
        if digest_bytes(data) != digest:
            said = f"{path.relative_to(self.folder.parent)} does not match its digest"  # clients read it, too
            raise Damaged("Read a blob", said, "Restore it from a backup.")
        return data

    def fault(self, digest: str) -> str:
        """Where the bytes of a digest lie and what is wrong with them; empty if they are those that were put."""
        path = self.path(digest)
        place = path.relative_to(self.folder.parent)
        try:
            return "" if digest_file(path) == digest else f"{place} does not match its digest"
        except FileNotFoundError:
            return f"{place} is missing"
        except OSError as error:
            return f"{place} cannot be read ({error.strerror})"

    def state(self, digest: str) -> tuple[int, ...] | None:
        """What is another after any change of a file; None where there is none."""
        try:
            found = self.path(digest).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def discard(self, digest: str, before: float) -> bool:
        """Remove bytes that nothing names and that nobody has put since an instant (seconds). Whether they went."""
        path = self.path(digest)
        with _AGE:
            try:
                if path.stat().st_mtime >= before:
                    return False
                path.unlink()
            except FileNotFoundError:
                return False
        return True


def _renew(path: Path) -> bool:
    """Whether a file is there. If so it is young again: whoever put it may be about to name it."""
    with _AGE, suppress(PermissionError):
        try:
            os.utime(path)
        except FileNotFoundError:
            return False
    return True
