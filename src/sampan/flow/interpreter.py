"""The Python that steps run in: the one that drives the run, or another that was made from what a run recorded."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sampan.base import pythons
from sampan.flow.key import python_version
from sampan.flow.packages import Packages


@dataclass(frozen=True)
class Interpreter:
    """``version`` as keys name it; ``packages`` that are installed for it; ``path`` of another one's executable."""

    version: str
    packages: Packages
    path: Path | None = None

    @property
    def executable(self) -> str:
        return sys.executable if self.path is None else str(self.path)

    def variables(self) -> Mapping[str, str]:
        """Of this process, less those that lead another Python to the packages of this one."""
        return pythons.variables(other=self.path is not None)


def running(cache: Path | None) -> Interpreter:
    """The one of this process; ``cache``: where the list of its packages may lie."""
    return Interpreter(python_version(), Packages(cache))
