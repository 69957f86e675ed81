"""A workspace as planning sees it: modules, graph, packages and files, read once per plan and never imported."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan import __version__
from sampan.base.digests import digest_bytes, digest_value
from sampan.base.errors import BadStep, Usage
from sampan.base.settings import Folder
from sampan.flow.dbt import dbt_nodes
from sampan.flow.files import MISSING, UNREADABLE, Files
from sampan.flow.graph import MODEL, Graph, Node, build_graph, did_you_mean
from sampan.flow.interpreter import Interpreter, running
from sampan.flow.key import KEY_VERSION, KeyParts
from sampan.flow.queries import Queries
from sampan.flow.reach import Reach, load_modules
from sampan.flow.source import Parameter
from sampan.flow.syntax import is_plain

_KEYED_OPTIONS: Final = ("each", "order_by", "kind", "target", "seed", "incremental", "severity")
_SQL_PACKAGES: Final = ["duckdb"]
_TYPED: Final[dict[str, type]] = {kind.__name__: kind for kind in (int, float, str, bool, list, dict)}


class Workspace:
    """Everything that planning needs to know about the code of a workspace."""

    def __init__(
        self, folder: Folder, sets: Mapping[str, Any] | None = None, interpreter: Interpreter | None = None
    ) -> None:
        """``interpreter``: what its steps run in, if not what this process does."""
        self.folder = folder
        cache = folder.data / "cache" / "source"
        self.interpreter = running(cache / "packages") if interpreter is None else interpreter
        self.packages = self.interpreter.packages
        self.files = Files(folder.root, cache / "files")
        self.modules = load_modules(folder.root, cache / "modules")
        queries = Queries(cache / "queries", f"sampan {__version__} sqlglot {self.packages.version('sqlglot')}")
        self.graph: Graph = build_graph(
            folder.root, self.modules, queries, dbt_nodes(folder, self.packages, self.files, queries)
        )
        queries.save()
        self._reaches: dict[str, Reach] = {}
        self._events: dict[str, str] = {}
        self.sets = self._read_sets(sets or {})

    # -- parameters

    def parameters(self, node: Node) -> dict[str, Any]:
        """The values of a node's hyper-parameters that are known before it runs."""
        values = {one.name: one.default for one in node.parameters if one.has_default and one.literal}
        return {**values, **self.sets.get(node.name, {})}

    def _read_sets(self, sets: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name, value in sets.items():
            step, _, parameter = name.rpartition(".")
            node = self.graph.nodes.get(step)
            if node is None:
                known = [n.name for n in self.graph.nodes.values() if any(p.has_default for p in n.parameters)]
                hint = did_you_mean(step, known) or f"Steps with parameters: {', '.join(known) or 'none'}."
                raise Usage(f"Set {name}", f"no step {step!r}" if step else "no step is named", hint)
            settable = {one.name: one for one in node.parameters if one.has_default and not one.file}
            if parameter not in settable:
                known = sorted(settable)
                raise Usage(
                    f"Set {name}",
                    f"{step!r} has no parameter {parameter!r} with a default",
                    f"It has: {', '.join(known) or 'none'}.",
                )
            found.setdefault(step, {})[parameter] = typed(name, settable[parameter], value)
        return found

    # -- what a node's result depends on

    def reach(self, node: Node) -> Reach:
        """The code that a Python node reaches."""
        if node.name not in self._reaches:
            self._reaches[node.name] = self.modules.reach(node.module, node.name)
        return self._reaches[node.name]

    def code(self, node: Node) -> dict[str, str]:
        return {node.path: node.query.digest} if node.query else self.reach(node).code

    def code_digest(self, node: Node) -> str:
        return digest_value(self.code(node))[:16]

    def event_code(self, type: str) -> str:
        """A digest of the code that a contract reaches; empty for a built-in one."""
        if type not in self._events:
            name = self.graph.events[type]
            self._events[type] = digest_value(self.modules.reach("contracts", name).code)[:16] if name else ""
        return self._events[type]

    def declared_files(self, node: Node) -> list[str]:
        return [] if node.query else self.reach(node).files

    def code_files(self) -> list[str]:
        """The files below the root that a flow is made of: settings, modules, queries."""
        code = [one.path for one in self.modules.by_name.values() if one.path]
        return ["sampan.toml", *code, *(one.path for one in self.graph.nodes.values() if one.query and one.path)]

    def framework(self, nodes: Iterable[Node]) -> dict[str, str]:
        """Versions of the libraries that nodes themselves import."""
        nodes = list(nodes)
        imports = {name for node in nodes if not node.query for name in self.reach(node).imports}
        return self.packages.direct(sorted({*imports, *(_SQL_PACKAGES if any(one.query for one in nodes) else ())}))

    def environment(self, node: Node) -> list[str]:
        if node.query:
            return []
        return sorted({*self.reach(node).envs, *node.options.get("env", ())})

    def flags(self, node: Node) -> list[str]:
        """What makes a node's result less certain than it could be."""
        if node.query:
            return list(node.query.flags)
        return [
            f"code that cannot be followed ({where}): depends on the whole workspace"
            for where in self.reach(node).dynamic
        ]

    def parts(self, node: Node, inputs: Mapping[str, str]) -> KeyParts:
        """The key parts of a node for given input digests. Raises BadStep for a declared file that is missing."""
        engine = f"sampan {__version__} key {KEY_VERSION}"
        options = {name: node.options[name] for name in _KEYED_OPTIONS if node.options.get(name) not in (None, [], ())}
        if node.kind == MODEL:
            options.setdefault("kind", "binary")
        common: dict[str, Any] = {"node": f"{node.kind} {node.name}", "engine": engine, "options": options}
        if node.query:
            packages = self.packages.versions(_SQL_PACKAGES)
            return KeyParts(code=self.code(node), inputs=dict(inputs), packages=packages, **common)
        reach = self.reach(node)
        files = {name: self.files.digest(name) for name in reach.files}
        for name, digest in files.items():
            if digest == MISSING:
                raise BadStep(
                    f"Plan {node.name}",
                    f"the file {name!r}, which {node.where} declares, is not in {self.folder.root}",
                    "Put it there, or change the path in File(...).",
                )
            if digest.startswith(UNREADABLE):
                raise BadStep(
                    f"Plan {node.name}",
                    f"the file {name!r}, which {node.where} declares, cannot be read ({digest[len(UNREADABLE) :]})",
                    "A result needs the digest of what it was made of. Make it readable, or change the path.",
                )
        environment = {
            name: digest_bytes(value.encode("utf-8", "surrogateescape"))[:16]
            if (value := os.environ.get(name)) is not None
            else "not set"
            for name in self.environment(node)
        }
        return KeyParts(
            code=reach.code,
            inputs=dict(inputs),
            parameters=self.parameters(node),
            packages=self.packages.versions(reach.imports),
            environment=environment,
            files=files,
            python=self.interpreter.version,
            **common,
        )

    def save(self) -> None:
        self.files.save()


def typed(shown: str, parameter: Parameter, value: Any) -> Any:
    """A value for a parameter, as its annotation or default says; text is read as that type. Raises Usage."""
    wanted = _wanted(parameter)
    if isinstance(value, str) and wanted is not str:
        value = _read(shown, value, wanted, _may_be_none(parameter))
    if type(value) is int and wanted is float:
        value = float(value)
    if wanted is not None and type(value) is not wanted and not (value is None and _may_be_none(parameter)):
        raise Usage(f"Set {shown}", f"{_short(value)} is no {wanted.__name__}", "Give a value of that type.")
    if not is_plain(value):
        raise Usage(f"Set {shown}", f"{_short(value)} is no value that JSON knows", "Numbers are finite, of 64 bits.")
    return value


def _wanted(parameter: Parameter) -> type | None:
    """The one plain type that a parameter takes; None if it may be any."""
    named = {_TYPED[word] for word in re.findall(r"\w+", parameter.annotation) if word in _TYPED}
    if parameter.annotation and not re.search(r"\[", parameter.annotation.replace("Optional[", "")):
        return named.pop() if len(named) == 1 else None
    return type(parameter.default) if parameter.literal and parameter.default is not None else None


def _may_be_none(parameter: Parameter) -> bool:
    known = parameter.annotation and not re.search(r"\b(None|Optional|Any)\b", parameter.annotation)
    return (parameter.literal and parameter.default is None) or not known


def _read(shown: str, text: str, wanted: type | None, none: bool) -> Any:
    if none and text in ("null", "None"):
        return None
    try:
        if wanted is bool:
            return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[text.lower()]
        if wanted in (int, float):
            return wanted(text)
        return msgspec.json.decode(text) if wanted is None else msgspec.json.decode(text, type=wanted)
    except (ValueError, KeyError, msgspec.DecodeError):
        if wanted is None:
            return text
    raise Usage(f"Set {shown}", f"{_short(text)} is no {wanted.__name__}", "Give a value of that type.")


def _short(value: Any) -> str:
    text = repr(value) if type(value) is not int or abs(value) < 1 << 64 else "a number of more than 64 bits"
    return text if len(text) <= 60 else f"{text[:57]}…"


def git_commit(root: Path) -> str | None:
    """The commit that is checked out, read from git's own files; None outside of a repository."""
    for folder in (root, *root.parents):
        found = folder / ".git"
        if not found.exists():
            continue
        try:
            if found.is_file():  # a worktree or submodule
                found = (folder / found.read_text().partition("gitdir:")[2].strip()).resolve()
            head = (found / "HEAD").read_text().strip()
            if not head.startswith("ref: "):
                return head
            common = found / "commondir"
            shared = (found / common.read_text().strip()).resolve() if common.exists() else found
            name = head[5:]
            for base in (found, shared):
                if (base / name).exists():
                    return (base / name).read_text().strip()
            packed = shared / "packed-refs"
            for line in packed.read_text().splitlines() if packed.exists() else ():
                if line.endswith(" " + name):
                    return line.split(" ")[0]
        except (OSError, UnicodeDecodeError):
            return None
        return None
    return None
