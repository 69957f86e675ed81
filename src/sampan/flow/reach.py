"""Which code a step reaches: a walk over uses, from its function through units, imports and modules.

The result names every reached global with the digest of what binds it (``{"helpers.clean": "…"}``), so that a
changed key can say which helper changed. Where names cannot be read from source the walk is conservative: the
whole module, or the whole workspace, and the step is flagged.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.files import write_cache
from sampan.flow.source import FACTS_VERSION, Alias, ModuleFacts, Unit, Use, decode, read_bytes, read_module
from sampan.flow.syntax import LOAD_ONLY

_SKIPPED: Final = frozenset({"tests", "node_modules", "site-packages", "build", "dist", "venv", "env", "__pycache__"})
_NOTHING: Final = ModuleFacts((), {}, (), (), None)


class Module(msgspec.Struct, frozen=True):
    name: str
    path: str
    """Relative to the workspace; empty for a folder without ``__init__.py``."""
    package: bool
    facts: ModuleFacts
    bindings: dict[str, tuple[int, ...]]


class Reach(msgspec.Struct):
    """What a step's result can depend on in the workspace's code and beyond."""

    code: dict[str, str]
    imports: list[str]
    """Top-level names of packages from outside the workspace."""
    files: list[str]
    envs: list[str]
    dynamic: list[str]
    changes: bool
    """It changes globals: a worker that ran it once is not used again."""
    loads: list[str]
    """Modules from outside the workspace that importing the step's module imports."""


class Modules:
    """All modules of a workspace."""

    def __init__(self, modules: dict[str, Module]) -> None:
        self.by_name = modules

    def get(self, name: str) -> Module | None:
        return self.by_name.get(name)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.by_name.values())

    def reach(self, module: str, function: str) -> Reach:
        """Follow a function's uses. The function must be one that ``read_module`` found."""
        return _Walk(self).run(self.by_name[module], function)


def load_modules(root: Path, cache: Path | None) -> Modules:
    """Read every module under a workspace. Facts of unchanged files come from ``cache``.

    Raises BadWorkspace for a file that does not parse, BadStep for a wrong declaration.
    """
    known, stamp = _read_cache(cache)
    facts: dict[str, ModuleFacts] = {}
    modules: dict[str, Module] = {}
    for relative in sorted(_python_files(root, "")):
        data = read_bytes(root / relative, relative)
        digest = digest_bytes(data)
        found = known.get(digest)
        if found is None:
            found = read_module(decode(data, relative), relative)
        facts[digest] = found
        name = relative[:-3].replace("/", ".")
        package = name == "__init__" or name.endswith(".__init__")
        name = name.removesuffix("__init__").rstrip(".")
        if name:
            modules[name] = Module(name, relative, package, found, _bindings(found))
    for name in list(modules):
        while "." in name:
            name = name.rpartition(".")[0]
            modules.setdefault(name, Module(name, "", True, _NOTHING, {}))
    if cache is not None and facts.keys() != known.keys():
        _keep_facts(cache, stamp, facts)
    return Modules(modules)


def _bindings(facts: ModuleFacts) -> dict[str, tuple[int, ...]]:
    bindings: dict[str, list[int]] = {}
    for number, unit in enumerate(facts.units):
        for name in unit.binds:
            bindings.setdefault(name, []).append(number)
    return {name: tuple(numbers) for name, numbers in bindings.items()}


def _python_files(root: Path, below: str) -> Iterator[str]:
    with os.scandir(root / below) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = f"{below}{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in _SKIPPED and not (Path(entry.path) / "pyvenv.cfg").exists():
                    yield from _python_files(root, path + "/")
            elif entry.name.endswith(".py") and entry.is_file():
                yield path


def _read_cache(cache: Path | None) -> tuple[dict[str, ModuleFacts], str]:
    stamp = f"{FACTS_VERSION} {sys.version_info[:3]}"
    if cache is None:
        return {}, stamp
    try:
        found_stamp, facts = msgspec.msgpack.decode(cache.read_bytes(), type=tuple[str, dict[str, ModuleFacts]])
    except (OSError, msgspec.DecodeError, RecursionError):
        return {}, stamp
    return (facts if found_stamp == stamp else {}), stamp


def _keep_facts(cache: Path, stamp: str, facts: dict[str, ModuleFacts]) -> None:
    write_cache(cache, msgspec.msgpack.encode((stamp, facts)))


class _Walk:
    def __init__(self, modules: Modules) -> None:
        self._modules = modules
        self._labels: dict[str, list[str]] = {}
        self._units: set[tuple[str, int]] = set()
        self._names: set[tuple[str, str]] = set()
        self._visits: set[tuple[str, str, tuple[str, ...]]] = set()
        self._chains: set[tuple[str, tuple[str, ...]]] = set()
        self._loaded: set[str] = set()
        self._whole: set[str] = set()
        self._imports: set[str] = set()
        self._outside: set[str] = set()
        self._files: dict[str, None] = {}
        self._envs: set[str] = set()
        self._dynamic: dict[str, None] = {}
        self._everything = False

    def run(self, module: Module, name: str) -> Reach:
        self._load(module)
        self._name(module, name, ())
        self._import_time_changes()
        code = {
            label: digests[0] if len(digests) == 1 else digest_bytes("\n".join(digests).encode())[:16]
            for label, digests in sorted(self._labels.items())
        }
        changes = any(self._unit(*key).changes and not self._unit(*key).effect for key in self._units)
        return Reach(
            code,
            sorted(self._imports),
            list(self._files),
            sorted(self._envs),
            list(self._dynamic),
            changes,
            sorted(self._outside),
        )

    def _unit(self, module: str, number: int) -> Unit:
        return self._modules.by_name[module].facts.units[number]

    # -- following names

    def _name(self, module: Module, name: str, rest: tuple[str, ...]) -> None:
        if (module.name, name, rest) in self._visits:
            return
        self._visits.add((module.name, name, rest))
        label = f"{module.name}.{name}"
        first = (module.name, name) not in self._names
        self._names.add((module.name, name))
        if first:
            for number in module.bindings.get(name, ()):
                unit = module.facts.units[number]
                if not unit.pure_import:
                    self._labels.setdefault(label, []).append(unit.digest)
                    self._take(module, number)
        for alias in module.facts.aliases.get(name, ()):
            target = self._absolute(module, alias.module, alias.level)
            if first:
                self._labels.setdefault(label, []).append(f"import {target} {alias.attribute}".rstrip())
            self._follow(target, ((alias.attribute,) if alias.attribute else ()) + rest)

    def _take(self, module: Module, number: int) -> None:
        if (module.name, number) in self._units:
            return
        self._units.add((module.name, number))
        unit = module.facts.units[number]
        self._files.update(dict.fromkeys(unit.files))
        self._envs.update(unit.envs)
        if unit.dynamic:
            self._dynamic[f"{module.path} line {unit.line}: {unit.dynamic}"] = None
            self._all()
        for use in unit.uses:
            self._use(module, use)

    def _use(self, module: Module, use: Use) -> None:
        if use.module is not None:
            target = self._absolute(module, use.module, use.level)
            if use.chain == LOAD_ONLY:
                self._load_name(target)
                if not self._in_workspace(target):
                    self._external(target)
            else:
                self._labels.setdefault(f"{module.name} imports {target} {'.'.join(use.chain)}", ["in a function"])
                self._follow(target, use.chain)
        else:
            self._chain(module, use.chain, strict=False)

    def _chain(self, module: Module, chain: tuple[str, ...], *, strict: bool) -> None:
        """Follow a chain of attributes from a module. ``strict``: the module's own attribute, not a builtin."""
        key = (module.name, chain)
        if key in self._chains and not strict:
            return
        self._chains.add(key)
        name, rest = chain[0], chain[1:]
        if name in module.bindings:
            self._name(module, name, rest)
            return
        for star in reversed(module.facts.stars):
            target = self._absolute(module, star.module, star.level)
            inner = self._modules.get(target)
            if inner is None:
                self._external(target)
                self._labels.setdefault(f"{module.name}.{name}", [f"import {target} *"])
            elif self._exports(inner, name, set()):
                self._load_name(target)
                self._labels.setdefault(f"{module.name}.{name}", [f"import {target} *"])
                self._chain(inner, chain, strict=True)
                return
        if (inner := self._modules.get(f"{module.name}.{name}")) is not None and (strict or module.package):
            self._load(inner)
            self._attribute(inner, rest)
        elif "__getattr__" in module.bindings:
            self._name(module, "__getattr__", ())
        elif strict and not name.startswith("__"):
            self._all_of(module)

    def _exports(self, module: Module, name: str, seen: set[str]) -> bool:
        if module.facts.public is not None:
            return name in module.facts.public
        if name.startswith("_") or module.name in seen:
            return False
        seen.add(module.name)
        if name in module.bindings:
            return True
        targets = (self._modules.get(self._absolute(module, star.module, star.level)) for star in module.facts.stars)
        return any(inner is not None and self._exports(inner, name, seen) for inner in targets)

    def _follow(self, target: str, chain: tuple[str, ...]) -> None:
        """Follow a chain from a module named absolutely."""
        module = self._modules.get(target)
        if module is None:
            self._external(target)
            return
        self._load(module)
        self._attribute(module, chain)

    def _attribute(self, module: Module, chain: tuple[str, ...]) -> None:
        if chain:
            self._chain(module, chain, strict=True)
        else:
            self._all_of(module)

    def _external(self, target: str) -> None:
        top = target.partition(".")[0]
        if top and top not in sys.stdlib_module_names and top != "sampan":
            self._imports.add(top)

    def _in_workspace(self, target: str) -> bool:
        return target in self._modules.by_name

    def _absolute(self, module: Module, name: str, level: int) -> str:
        if not level:
            return name
        base = module.name if module.package else module.name.rpartition(".")[0]
        for _ in range(level - 1):
            base = base.rpartition(".")[0]
        return ".".join(part for part in (base, name) if part)

    # -- what importing does

    def _load_name(self, name: str) -> None:
        module = self._modules.get(name)
        if module is not None:
            self._load(module)
        elif "." in name:
            self._load_name(name.rpartition(".")[0])

    def _load(self, module: Module) -> None:
        if module.name in self._loaded:
            return
        self._loaded.add(module.name)
        if "." in module.name:
            self._load_name(module.name.rpartition(".")[0])
        for alias in module.facts.loads:
            self._load_alias(module, alias)
        for number, unit in enumerate(module.facts.units):
            if not unit.effect:
                continue
            self._labels.setdefault(f"{module.name} (top level)", []).append(unit.digest)
            self._take(module, number)
            if unit.pure_import:
                for name in unit.binds:
                    self._name(module, name, ())

    def _load_alias(self, module: Module, alias: Alias) -> None:
        target = self._absolute(module, alias.module, alias.level)
        if alias.attribute and self._in_workspace(f"{target}.{alias.attribute}"):
            target = f"{target}.{alias.attribute}"
        if self._in_workspace(target):
            self._load_name(target)
        elif not alias.attribute and target.partition(".")[0] not in sys.stdlib_module_names:
            self._outside.add(target)

    def _all_of(self, module: Module) -> None:
        if module.name in self._whole:
            return
        self._whole.add(module.name)
        self._load(module)
        for name in module.bindings:
            self._name(module, name, ())
        if module.package:
            for inner in self._modules:
                if inner.name.startswith(module.name + "."):
                    self._all_of(inner)

    def _all(self) -> None:
        if self._everything:
            return
        self._everything = True
        for module in self._modules:
            self._all_of(module)

    # -- `X = register("a")` where register changes a list that the step reads

    def _import_time_changes(self) -> None:
        while True:
            before = len(self._units)
            for name in sorted(self._loaded):
                module = self._modules.by_name[name]
                for number, unit in enumerate(module.facts.units):
                    if (
                        unit.runs
                        and not unit.effect
                        and (name, number) not in self._units
                        and self._touches(module, unit)
                    ):
                        label = f"{name}.{unit.binds[0]}" if unit.binds else f"{name} (top level)"
                        self._labels.setdefault(label, []).append(unit.digest)
                        self._take(module, number)
            if len(self._units) == before:
                return

    def _touches(self, module: Module, unit: Unit) -> bool:
        inner = _Walk(self._modules)
        inner._loaded = set(self._modules.by_name)  # effects count already where they happen
        for use in unit.uses:
            inner._use(module, use)
        changes = [(module, use) for use in unit.changes]
        for name, number in inner._units:
            home = self._modules.by_name[name]
            changes += [(home, use) for use in home.facts.units[number].changes]
        for home, use in changes:
            owner = _Walk(self._modules)
            owner._loaded = inner._loaded
            owner._use(home, use)
            if owner._names & self._names:
                return True
        return False
