"""Imports that do without packages which are installed."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def lacking(names: Iterable[str]) -> Iterator[None]:
    """Within, importing one of these fails as if it were not installed, unless that has been done already."""
    absent = _Absent(names)
    sys.meta_path.insert(0, absent)
    try:
        yield
    finally:
        sys.meta_path.remove(absent)


class _Absent:
    """Finds none of them. Not by None in ``sys.modules``: compiled code takes that for the module."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self._names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
