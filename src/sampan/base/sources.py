"""Source files that are kept beside what they belong to: found by reading, imported from memory.

A bundle serves the rules, and a network is built by the code, as they were when they were frozen. Later edits in the
working tree do not reach them, and no file lies around that could be changed between a check and an import.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType, TracebackType

from sampan.base.errors import BadWorkspace


def collect(root: Path, entry: str) -> dict[str, bytes]:
    """``entry`` and every module of the workspace that it reaches through imports, by path. Nothing is imported.

    Raises BadWorkspace for a syntax error, with its place.
    """
    found: dict[str, bytes] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        path = root / name
        if name in found or not path.is_file():
            continue
        found[name] = path.read_bytes()
        try:
            tree = ast.parse(found[name], name)
        except (SyntaxError, ValueError) as error:
            place = f"{name}:{getattr(error, 'lineno', None) or 1}"
            raise BadWorkspace(f"Read {place}", str(getattr(error, "msg", error)), "Mend that line.") from error
        for module in _imported(tree, name):
            waiting.extend(_files(root, module))
    return dict(sorted(found.items()))


def _imported(tree: ast.AST, name: str) -> list[tuple[str, ...]]:
    modules: list[tuple[str, ...]] = []
    package = tuple(Path(name).parent.parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.extend(tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            modules.append(base)
            modules.extend((*base, alias.name) for alias in node.names)
    return modules


def _files(root: Path, module: tuple[str, ...]) -> list[str]:
    """The files that importing a dotted name runs: every package on the way and the module itself."""
    files: list[str] = []
    for length in range(1, len(module) + 1):
        stem = "/".join(module[:length])
        files.extend(name for name in (f"{stem}/__init__.py", f"{stem}.py") if (root / name).is_file())
    return files


def imported_late(sources: Mapping[str, bytes]) -> str:
    """Where one of these modules imports another only when a function is called (``rules.py:12``); empty if nowhere.

    Such an import finds what the name stands for at that time.
    """
    known = {parts for path in sources for parts in [tuple(path.removesuffix(".py").split("/"))]}
    for path, source in sources.items():
        for function in ast.walk(ast.parse(source, path)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                for node in ast.walk(function):
                    if isinstance(node, ast.Import | ast.ImportFrom) and known & set(_imported(node, path)):
                        return f"{path}:{node.lineno}"
    return ""


_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def imported_apart(sources: Mapping[str, bytes]) -> Iterator[None]:
    """Within it, imports find these modules first; after it, their names stand for what they stood for before.

    So two versions of a module can be in use in one process. What they import later than that (in a function) is
    looked for as usual.
    """
    importer = MemoryImporter(sources)
    with _ONE_AT_A_TIME:
        before = {name: sys.modules.pop(name) for name in [*sys.modules] if importer.knows(name)}
        try:
            with importer:
                yield
        finally:
            for name in [name for name in sys.modules if importer.knows(name)]:
                del sys.modules[name]
            sys.modules.update(before)


class MemoryImporter(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules from bytes, before anything on disk; used as a context manager."""

    def __init__(self, sources: Mapping[str, bytes]) -> None:
        self._sources = dict(sources)
        self._folders = {"/".join(parts[:n]) for parts in (p.split("/") for p in sources) for n in range(1, len(parts))}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self.knows(fullname):
            return None
        file = self._file(fullname)
        spec = importlib.machinery.ModuleSpec(
            fullname, self, origin=file, is_package=file is None or file.endswith("__init__.py")
        )
        spec.has_location = file is not None
        return spec

    def knows(self, fullname: str) -> bool:
        """Whether it would import a module of that name."""
        return self._file(fullname) is not None or fullname.replace(".", "/") in self._folders

    def _file(self, fullname: str) -> str | None:
        stem = fullname.replace(".", "/")
        return next((name for name in (f"{stem}/__init__.py", f"{stem}.py") if name in self._sources), None)

    def get_source(self, fullname: str) -> str | None:
        file = self._file(fullname)
        return importlib.util.decode_source(self._sources[file]) if file else None

    def get_code(self, fullname: str) -> CodeType:
        file = self._file(fullname)
        return compile(self._sources[file] if file else b"", file or fullname, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        file = self._file(fullname)
        return file is None or file.endswith("__init__.py")

    def __enter__(self) -> "MemoryImporter":
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        sys.meta_path.remove(self)
