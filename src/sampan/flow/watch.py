"""Seeing what a step reads without saying so. It cannot see reads that native code makes; it never prevents any.

Files that Python opens while the step runs, outside of the installation and of Sampan's own folder, are noted with
their digests, so that the next plan can look whether they changed; network connections are noted as warnings.
"""

import os
import sys
import sysconfig
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sampan.flow.files import Files

_IGNORED: Final = (".py", ".pyc", ".pyi", ".so", ".dylib", ".pth", ".pyd")
_METADATA: Final = (f".dist-info{os.sep}", f".egg-info{os.sep}")  # of packages, wherever they lie: the environment's
_SYSTEM: Final = ("/dev/", "/proc/", "/sys/", "/etc/", "/usr/", "/lib", "/System/", "/Library/", "/private/etc/")


class Watch:
    """One per worker process: an audit hook cannot be removed, so it is switched on and off."""

    def __init__(self, root: str) -> None:
        self._root = os.path.realpath(root)
        paths = sysconfig.get_paths()
        installed = {sys.prefix, sys.base_prefix, sys.exec_prefix, paths["stdlib"], paths["purelib"], paths["platlib"]}
        self._installed = tuple(os.path.realpath(path) + os.sep for path in installed)
        self._own = f"{self._root}{os.sep}.sampan{os.sep}"
        self._on = False
        self._written: set[str] = set()
        self._reads: dict[str, str] = {}
        self._connections: dict[str, str] = {}
        sys.addaudithook(self._hook)

    def start(self, declared: list[str]) -> None:
        self._declared = tuple(f"{self._root}{os.sep}{name}" for name in declared)
        self._reads, self._connections, self._written = {}, {}, set()
        self._on = True

    def stop(self) -> tuple[dict[str, str], list[str]]:
        """Digests of undeclared reads by path, and warnings about them."""
        self._on = False
        files = Files(Path(self._root), None)
        seen = {path: files.digest(path) for path in self._reads if path not in self._written}
        warnings = [
            f"{path} was read{self._reads[path]} without being declared: write sampan.File({path!r})" for path in seen
        ]
        warnings += [
            f"it connected to {to}{where}: what came back is not part of its key"
            for to, where in self._connections.items()
        ]
        return seen, warnings

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._on:
            return
        if event == "open":
            self._opened(*arguments)
        elif event == "socket.connect":
            self._on = False
            try:
                self._connected(arguments[1])
            finally:
                self._on = True

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not isinstance(path, str):
            return
        writes = bool(isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        self._on = False  # what follows must not be seen itself
        try:
            path = os.path.realpath(path)
            if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
                self._written.add(self._short(path))
                return
            if path.endswith(_IGNORED) or path.startswith((*_SYSTEM, *self._installed, self._own)):
                return
            if any(folder in path for folder in _METADATA):
                return
            if any(path == one or path.startswith(one + os.sep) for one in self._declared):
                return
            if os.path.isdir(path):  # noqa: PTH112
                return
            self._reads.setdefault(self._short(path), self._where())
        finally:
            self._on = True

    def _connected(self, address: Any) -> None:
        to = ":".join(str(part) for part in address[:2]) if isinstance(address, tuple) else str(address)
        self._connections.setdefault(to, self._where())

    def _short(self, path: str) -> str:
        return path[len(self._root) + 1 :] if path.startswith(self._root + os.sep) else path

    def _where(self) -> str:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(self._root + os.sep) and not name.startswith((*self._installed, self._own)):
                return f" ({self._short(name)}:{frame.f_lineno})"
            frame = frame.f_back
        return ""
