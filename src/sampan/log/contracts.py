"""The contracts of a workspace: loaded from its ``contracts.py``, compared with those it had, looked up by type."""

import importlib.util
import sys
import traceback
from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import BadContract, NotFound
from sampan.base.modules import import_by_text
from sampan.log.adapt import Mapping, declarations, refuse_clashes
from sampan.log.builtin import BUILTIN
from sampan.log.compare import breaking
from sampan.log.declare import Blob as Blob
from sampan.log.declare import Event as Event
from sampan.log.declare import Field as Field
from sampan.log.declare import Text as Text
from sampan.log.declare import Upcast
from sampan.log.declare import upcast as upcast
from sampan.log.registry import record, registered
from sampan.log.spec import ContractSpec, FieldSpec, describe
from sampan.store.database import Database


class Contract:
    """One type of event: its newest class, older classes if they are still declared, and upcasts between them."""

    def __init__(self, newest: type[Event], older: dict[int, type[Event]]) -> None:
        self.cls = newest
        self.type: str = newest.__sampan_type__
        self.version: int = newest.__sampan_version__
        self.older = older
        self.spec: ContractSpec = describe(newest)
        self._upcasts = newest.__sampan_upcasts__

    @property
    def digest(self) -> str:
        """SHA-256 of what the newest version says."""
        return self.spec.digest

    @property
    def label(self) -> str:
        return f"{self.type}@{self.version}"

    @cached_property
    def labels(self) -> frozenset[str]:
        """``type@version`` of every version that may be in the log."""
        return frozenset(f"{self.type}@{version}" for version in range(1, self.version + 1))

    @cached_property
    def versions(self) -> tuple[int, ...]:
        """Every version that can still be read: those from which upcasts lead to the newest."""
        known = [self.version]
        for since in range(self.version - 1, 0, -1):
            if since not in self._upcasts:
                break
            known.append(since)
        return tuple(sorted(known))

    @cached_property
    def personal(self) -> tuple[str, ...]:
        """Names of the fields whose values are encrypted."""
        specs = [self.spec, *(describe(cls) for cls in self.older.values())]
        return tuple(sorted({field.name for spec in specs for field in spec.fields if field.personal}))

    @cached_property
    def blobs(self) -> tuple[FieldSpec, ...]:
        """The fields that hold bytes, as the newest version that has each of them says."""
        specs = [*(describe(cls) for cls in self.older.values()), self.spec]
        found = {field.name: field for spec in specs for field in spec.fields if "blob" in field.type.split(" | ")}
        return tuple(found.values())

    @cached_property
    def subject_field(self) -> str | None:
        """The field that names the subject where the event does not."""
        return next((field.name for field in self.spec.fields if field.subject), None)

    def upcast(self, data: dict[str, Any], version: int) -> dict[str, Any]:
        """Data of an older version as the newest says it. Raises whatever a declared upcast raises."""
        for since in range(version, self.version):
            data = self._upcasts[since](dict(data))
        return data

    def upcasts(self) -> list[tuple[int, Upcast]]:
        """The declared upcast functions, by the version that they start from."""
        return sorted(self._upcasts.items())

    def read(self, data: dict[str, Any], version: int) -> Event:
        """Data of any known version as the newest class. Raises msgspec.ValidationError."""
        return msgspec.convert(self.upcast(data, version), self.cls)


class Contracts:
    """All contracts of a workspace, the built-in ones included."""

    def __init__(
        self, classes: Iterable[type[Event]] = (), path: Path | None = None, mappings: Iterable[Mapping] = ()
    ) -> None:
        self.path = path
        self._read: dict[Path, str] = {}  # that file and those it imports, with their digests as they were loaded
        self.mappings = tuple(mappings)  # how messages of other protocols become events
        self._contracts: dict[str, Contract] = {}
        by_type: dict[str, dict[int, type[Event]]] = {}
        for cls in (*BUILTIN, *classes):
            name, version = cls.__sampan_type__, cls.__sampan_version__
            versions = by_type.setdefault(name, {})
            if version in versions:
                raise BadContract(
                    f"Read contract {name}",
                    f"{versions[version].__name__} and {cls.__name__} both declare its version {version}",
                    "Give one of them another type= or version=.",
                )
            versions[version] = cls
        for name, versions in by_type.items():
            newest = versions.pop(max(versions))
            self._contracts[name] = Contract(newest, versions)

    @classmethod
    def load(cls, path: Path) -> "Contracts":
        """The contracts that a workspace's ``contracts.py`` declares; only the built-in ones if there is none.

        Raises BadContract, with file and line, for a module that cannot be imported or declares nonsense.
        """
        if not path.exists():
            return cls((), path)
        read = {path: _digest(path)}
        with declarations() as mappings:
            module = _import(path)
        found = [
            value
            for value in vars(module).values()
            if isinstance(value, type)
            and issubclass(value, Event)
            and value is not Event
            and value.__module__ == module.__name__
        ]
        classes = dict.fromkeys(found)
        try:
            _refuse_strangers(mappings, {*classes, *BUILTIN})
            refuse_clashes(mappings)
        except BadContract as error:
            raise BadContract(f"Read {path}: {error.attempted}", error.obstacle, error.advice) from None
        made = cls(classes, path, mappings)
        made._read = read | {file: _digest(file) for file in _imported(path.parent)}
        return made

    @property
    def unchanged(self) -> bool:
        """Whether the files that they were loaded from are as they were then."""
        now = {file: _digest(file) for file in self._read}
        return now == self._read and (bool(now) or self.path is None or not self.path.exists())

    def own(self) -> list[Contract]:
        """Those that the workspace declares itself, by type."""
        builtin = {cls.__sampan_type__ for cls in BUILTIN}
        return [self._contracts[type] for type in self.types() if type not in builtin]

    def types(self) -> list[str]:
        """Names of all types, sorted."""
        return sorted(self._contracts)

    def __contains__(self, type: object) -> bool:
        return type in self._contracts

    def __iter__(self) -> Any:
        return iter(self._contracts.values())

    def contract(self, type: str) -> Contract:
        """The contract of a type. Raises NotFound."""
        try:
            return self._contracts[type]
        except KeyError:
            known = ", ".join(self.types())
            raise NotFound("Look up a contract", f"there is none for type {type!r}", f"Known: {known}.") from None

    def get(self, type: str, version: int | None = None) -> ContractSpec:
        """What a contract says; without a version, the newest. Raises NotFound."""
        contract = self.contract(type)
        if version in (None, contract.version):
            return contract.spec
        if version in contract.older:
            return describe(contract.older[version])
        raise NotFound("Look up a contract", f"{type} has no declared version {version}", "See `sampan contract list`.")

    def register(self, db: Database, clock: Clock) -> list[ContractSpec]:
        """Record the contracts and return those that are new or changed.

        Raises BadContract, naming the field, if a change would break a producer or a reader and the version is the
        same as before, or if a version went backwards.
        """
        changed = self.check(db)
        if changed:
            record(db, changed, clock.micros())
        return changed

    def check(self, db: Database) -> list[ContractSpec]:
        """The contracts that are new or changed since they were recorded. Raises as ``register``; writes nothing."""
        recorded = registered(db)
        changed = []
        for contract in self._contracts.values():
            before = [one.spec for one in recorded.get(contract.type, [])]
            self._refuse_breaking(contract, before)
            if not before or before[-1] != contract.spec:
                changed.append(contract.spec)
        return changed

    def _refuse_breaking(self, contract: Contract, before: list[ContractSpec]) -> None:
        spec = contract.spec
        if not before:
            return
        newest = before[-1]
        where = f" in {self.path.name}" if self.path else ""
        if spec.version < newest.version:
            raise BadContract(
                f"Register contract {spec.type}{where}",
                f"it has version {spec.version}, but version {newest.version} was in force",
                "Versions only go up: events of the newer version may be in the log.",
            )
        if spec.version == newest.version and (faults := breaking(newest, spec)):
            raise BadContract(
                f"Register contract {spec.type}{where}",
                f"{'; '.join(faults)}. That breaks events of version {spec.version}",
                f"Write version={spec.version + 1} and declare @upcast({contract.cls.__name__}, since={spec.version}), "
                "or take the change back.",
                fields=faults,
            )


def _refuse_strangers(mappings: Iterable[Mapping], classes: set[type[Event]]) -> None:
    """Raises BadContract, with the line, for a mapping to a contract that this workspace does not declare."""
    for mapping in mappings:
        if mapping.contract not in classes:
            raise BadContract(
                f"Adapt {mapping.protocol} {mapping.name!r}, line {mapping.line}",
                f"{mapping.contract.__name__} is no contract of this workspace",
                "Declare its class in contracts.py.",
            )


def _digest(path: Path) -> str:
    """SHA-256 of a file; empty if there is none."""
    try:
        return sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return ""


def _imported(root: Path) -> set[Path]:
    """The files of modules below a folder that are loaded; packages that are installed there do not count."""
    files = {Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    return {
        file
        for file in files
        if file.is_relative_to(root) and not any(part.startswith(".") for part in file.relative_to(root).parts)
    }


def _import(path: Path) -> Any:
    """A module from a file, fresh, under a name of its own. Raises BadContract with file and line."""
    name = f"sampan_contracts_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    attempted = f"Read {path}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    import_by_text(path.parent)
    sys.path.insert(0, str(path.parent))
    try:
        code = compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
        exec(code, module.__dict__)  # noqa: S102 - the workspace's own code
    except SyntaxError as error:
        where = f"line {error.lineno}: {error.msg}"
        raise BadContract(
            attempted, where, f"  {(error.text or '').strip()}\n  Mend that line and try again."
        ) from error
    except BadContract as error:
        line = _line(error, path)
        raise BadContract(f"{attempted}, line {line}", f"{error.attempted}: {error.obstacle}", error.advice) from error
    except Exception as error:
        line = _line(error, path)
        raise BadContract(
            f"{attempted}, line {line}", f"{type(error).__name__}: {error}", "Mend that line and try again."
        ) from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _line(error: BaseException, path: Path) -> int:
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno or 0 for frame in reversed(frames) if frame.filename == str(path)), 0)
