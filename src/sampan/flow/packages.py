"""Which installed distributions an import stands for, and their versions, requirements of requirements included.

Reading the metadata of a full environment takes a tenth of a second, so the index is cached under a stamp of the
folders on the import path: installing, upgrading or removing a package changes its folder's time.
"""

import csv
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sampan.base.files import write_cache

if TYPE_CHECKING:
    from email.message import Message
    from importlib.metadata import Distribution as Installed

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_VERSION: Final = 2


class Distribution(msgspec.Struct, array_like=True):
    name: str
    version: str
    requires: list[str]
    source: str = ""
    """Where it came from, if from no index: an address as PEP 610 records it."""


class _Index(msgspec.Struct):
    stamp: str
    distributions: dict[str, Distribution]
    imports: dict[str, list[str]]
    """Top-level import name to normalised distribution names."""


class Packages:
    """The environment as the key of a step sees it: of this process, or what lies in the folders of ``where``."""

    def __init__(self, cache: Path | None, where: Sequence[str] | None = None) -> None:
        self._cache = cache
        self._where = sys.path if where is None else where
        self._index: _Index | None = None

    def like(self, versions: Mapping[str, str]) -> "Packages":
        """What these would be in other versions, as far as that can be told before they are installed: what a package
        requires, and which imports it stands for, is taken to be as here."""
        here, made = self._load(), Packages(None)
        made._index = index = _Index("", {}, {})
        for name, version in versions.items():
            known = here.distributions.get(normalised(name))
            requires = known.requires if known is not None else []
            index.distributions[normalised(name)] = Distribution(name, version, requires)
            if known is None:
                index.imports[normalised(name).replace("-", "_")] = [normalised(name)]
        for top, owners in here.imports.items():
            if there := [one for one in owners if one in index.distributions]:
                index.imports[top] = there
        return made

    def versions(self, imports: list[str]) -> dict[str, str]:
        """Versions of what the imports belong to and of all that these require; absent ones are marked so."""
        if not imports:
            return {}
        index = self._load()
        found: dict[str, str] = {}
        todo = []
        for name in imports:
            owners = index.imports.get(name)
            if owners:
                todo += owners
            else:
                found[name] = "not installed"
        while todo:
            one = index.distributions.get(todo.pop())
            if one is not None and one.name not in found:
                found[one.name] = one.version
                todo += one.requires
        return dict(sorted(found.items()))

    def all(self) -> dict[str, str]:
        """Every installed distribution, for the manifest."""
        return {one.name: one.version for _, one in sorted(self._load().distributions.items())}

    def direct(self, imports: Iterable[str]) -> dict[str, str]:
        """Versions of what the imports belong to, without what these require."""
        index = self._load()
        owners = [index.distributions[owner] for name in imports for owner in index.imports.get(name, ())]
        return {one.name: one.version for one in sorted(owners, key=lambda one: one.name)}

    def sources(self) -> dict[str, str]:
        """Addresses of those that came from no index: a folder, a repository, a file."""
        return {one.name: one.source for _, one in sorted(self._load().distributions.items()) if one.source}

    def version(self, name: str) -> str:
        one = self._load().distributions.get(normalised(name))
        return one.version if one else "not installed"

    def _load(self) -> _Index:
        if self._index is None:
            stamp = _stamp(self._where)
            self._index = self._read(stamp) or self._build(stamp)
        return self._index

    def _read(self, stamp: str) -> _Index | None:
        if self._cache is None:
            return None
        try:
            index = msgspec.msgpack.decode(self._cache.read_bytes(), type=_Index)
        except (OSError, msgspec.DecodeError):
            return None
        return index if index.stamp == stamp else None

    def _build(self, stamp: str) -> _Index:
        from importlib.metadata import distributions

        index = _Index(stamp, {}, {})
        for one in distributions(path=list(self._where)):
            told = _told(one)
            name = told.get("Name", "")
            if not name or normalised(name) in index.distributions:
                continue  # the first on the path wins, as with imports
            key = normalised(name)
            asked = told.get_all("Requires-Dist") or (one.read_text("requires.txt") and one.requires) or ()
            requires = [required for text in asked if (required := _required(text))]
            index.distributions[key] = Distribution(name, told.get("Version", ""), requires, _source(one))
            for top in _top_levels(one):
                index.imports.setdefault(top, []).append(key)
        if self._cache is not None:
            write_cache(self._cache, msgspec.msgpack.encode(index))
        return index


def normalised(name: str) -> str:
    """A distribution's name as the index of packages compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _required(text: str) -> str | None:
    """The name in a requirement; None for one that only an extra asks for."""
    if "extra ==" in text or "extra==" in text:
        return None
    found = _NAME.match(text)
    return normalised(found.group().rstrip("._-")) if found else None


def _told(one: "Installed") -> "Message":
    """What a distribution says of itself, read once and without its description, which is most of it."""
    from email.parser import HeaderParser

    text = next(filter(None, map(one.read_text, ("METADATA", "PKG-INFO", ""))), "")
    return HeaderParser().parsestr(text.partition("\n\n")[0] + "\n\n")


def _source(one: "Installed") -> str:
    """The address of a folder, a file, or a repository with its commit, as its installer noted it (PEP 610); empty for
    what came from an index."""
    try:
        told = json.loads(one.read_text("direct_url.json") or "{}")
        address, vcs = str(told.get("url", "")), told.get("vcs_info")
        return f"{vcs['vcs']}+{address}@{vcs['commit_id']}" if vcs else address
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _top_levels(one: "Installed") -> set[str]:
    text = one.read_text("top_level.txt")
    if text:
        return set(text.split())
    names = set()
    record = one.read_text("RECORD")
    files = [row[0] for row in csv.reader(record.splitlines()) if row] if record else map(str, one.files or ())
    for first, below in {(first, bool(below)) for first, below, _ in (file.partition("/") for file in files)}:
        if not below:
            if first.endswith((".py", ".so", ".pyd")):
                names.add(first.partition(".")[0])
        elif not first.endswith((".dist-info", ".data", ".egg-info")) and first not in ("..", "__pycache__"):
            names.add(first)
    return names


def _stamp(where: Sequence[str]) -> str:
    parts = [str(_VERSION), sys.version]
    for entry in where:
        if entry.endswith(("site-packages", "dist-packages")):
            try:
                status = Path(entry).stat()
            except OSError:
                continue
            parts.append(f"{entry} {status.st_mtime_ns} {status.st_ino}")
    return "\n".join(parts)
