"""The workspace's modules are imported by their text.

Python takes a module's cached bytecode as fresh if the file's time, in whole seconds, and its size are those that were
noted. A helper edited twice within a second may have both: its old code would run, and its result would be kept under
the digest of the new.
"""

import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from typing import Any


class _ByText(SourceFileLoader):
    """Compiles a module each time it is imported; leaves no bytecode behind."""

    def path_stats(self, path: Any) -> Any:
        raise OSError("a file's time does not tell whether its bytecode is fresh")


def import_by_text(root: Path) -> None:
    """From now on, import what lies in a workspace by its text. Installed packages below it keep their bytecode."""
    top = str(root.resolve())
    if top in _ROOTS:
        return
    _ROOTS.add(top)

    def hook(path: str) -> FileFinder:
        own = Path(path).resolve()
        parts = own.relative_to(top).parts if own.is_relative_to(top) else ("site-packages",)
        if "site-packages" in parts or not own.is_dir():
            raise ImportError("not a folder of the workspace's modules", path=path)
        return FileFinder(path, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_ByText, SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()


_ROOTS: set[str] = set()
