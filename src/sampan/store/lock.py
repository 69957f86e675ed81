"""Locks held by a process and let go by the kernel when it ends, however it ends."""

import fcntl
import os
from pathlib import Path
from types import TracebackType

from sampan.base.errors import Busy


class FileLock:
    """An exclusive ``flock`` on a file that names its holder. Raises Busy if another process holds it."""

    def __init__(self, path: Path, attempted: str, advice: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 200, 0).decode(errors="replace").strip() or "another process"
            os.close(self._fd)
            raise Busy(attempted, f"{path.name} is held by {holder}", advice) from None
        except OSError as error:
            os.close(self._fd)
            raise Busy(attempted, f"{path} cannot be locked: {error}", "Keep the workspace on a local disk.") from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()}".encode(), 0)

    def release(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "FileLock":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.release()
