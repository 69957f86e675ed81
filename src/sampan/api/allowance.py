"""How large an artifact may be: told before its bytes are read where its length is declared, else as they come."""

import shutil
from pathlib import Path

from sampan.api.bodies import TooLarge
from sampan.api.guard import Scope
from sampan.base.errors import DiskFull


def declared(scope: Scope) -> int:
    """The bytes that a request says it has; 0 where it says nothing."""
    said = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    return int(said) if said.isdigit() and len(said) < 20 else 0


class Allowance:
    """The setting ``artifact_limit``, in bytes, and the room on the disk of a folder."""

    def __init__(self, limit: int, folder: Path) -> None:
        self.limit, self._folder = limit, folder

    def expect(self, attempted: str, size: int, before: int = 0) -> None:
        """Whether so many bytes may come after those ``before``. Raises TooLarge, DiskFull for what has no room."""
        self.check(attempted, before + size)
        disk = self._folder if self._folder.exists() else self._folder.parent
        if (free := shutil.disk_usage(disk).free) < size:
            obstacle = f"it has {size} bytes, and the hub's disk has room for {free}"
            raise DiskFull(attempted, obstacle, "Free some space there and send it again.")

    def check(self, attempted: str, size: int) -> None:
        """Raises TooLarge for more than the setting allows."""
        if size > self.limit:
            obstacle = f"it has {size} bytes or more, and an artifact may have {self.limit}"
            raise TooLarge(attempted, obstacle, "Log a smaller file, or raise the hub's setting artifact_limit.")
