"""What one module of the workspace says, read with ``ast``: never imported, never run.

A module is a list of *units*, its top-level statements. A unit binds names, uses names, may have an effect when the
module is imported (a bare call), may change what another name holds, and has a digest of its syntax tree without
comments, formatting and docstrings. ``reach`` follows uses from a step through units and modules.

Facts depend only on a file's bytes, so they are cached by its digest. What is *not* here: anything that needs a
second file (``reach``) or the meaning of the whole flow (``graph``).
"""

import ast
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_bytes
from sampan.base.errors import BadStep, BadWorkspace
from sampan.flow.declare import MODEL_KINDS, OPTIONS, SEVERITIES
from sampan.flow.syntax import NO_LITERAL, UseCollector, dump, is_plain, literal
from sampan.log.declare import snake_case

FACTS_VERSION: Final = 4
"""Raise it when facts of the same text change: cached ones are then thrown away."""


class Use(msgspec.Struct, frozen=True, array_like=True):
    """A name that a unit needs: ``chain`` of attributes from a global of its module, or from an import inside it."""

    chain: tuple[str, ...]
    module: str | None = None
    level: int = 0


class Alias(msgspec.Struct, frozen=True, array_like=True):
    """What an import binds: ``module`` itself, or ``attribute`` of it. ``dotted``: ``import a.b`` binds only ``a``."""

    module: str
    attribute: str = ""
    level: int = 0


class Unit(msgspec.Struct, frozen=True, array_like=True):
    line: int
    digest: str
    binds: tuple[str, ...]
    uses: tuple[Use, ...]
    effect: bool = False
    """It does something on import beyond binding its names: it counts for every name of the module."""
    pure_import: bool = False
    runs: bool = False
    """It calls something on import (a value, a decorator), which might change what other names hold."""
    changes: tuple[Use, ...] = ()
    """Globals whose content this unit changes, itself or in its functions."""
    dynamic: str = ""
    """A construct that names cannot be read from (``exec``, ``importlib.import_module(x)``, ``globals()``)."""
    files: tuple[str, ...] = ()
    envs: tuple[str, ...] = ()


class Parameter(msgspec.Struct, frozen=True):
    name: str
    has_default: bool = False
    literal: bool = False
    """Whether the default could be read from source; else only the worker knows it."""
    default: Any = None
    file: str = ""
    """The default is ``File(file)``."""
    annotation: str = ""
    """As written, with the first name resolved through imports: ``pandas.DataFrame``."""
    positional: bool = False


class Definition(msgspec.Struct, frozen=True):
    name: str
    kind: str
    line: int
    parameters: tuple[Parameter, ...]
    options: dict[str, Any]
    returns: str = ""


class ClassFacts(msgspec.Struct, frozen=True):
    """A class at the top of a module. ``type`` and ``version``: what it declares if it is an event; ``bases``: dotted
    names, through imports."""

    name: str
    type: str
    version: int
    bases: tuple[str, ...]


class ModuleFacts(msgspec.Struct, frozen=True):
    units: tuple[Unit, ...]
    aliases: dict[str, tuple[Alias, ...]]
    stars: tuple[Alias, ...]
    loads: tuple[Alias, ...]
    """Modules that importing this one imports."""
    public: tuple[str, ...] | None
    """``__all__``, if it is a literal."""
    definitions: tuple[Definition, ...] = ()
    classes: tuple[ClassFacts, ...] = ()
    renamed: dict[str, str] = {}
    """Further names of what has one: ``Base = Event``."""


_SAMPAN: Final = {"sampan", "sampan.flow.declare"}
EVENT: Final = {"sampan.Event", "sampan.log.declare.Event"}
"""What ``Event`` is called where it is not imported."""


def read_module(text: str, path: str) -> ModuleFacts:
    """The facts of one module. Raises BadWorkspace for a syntax error, BadStep for a declaration that is wrong."""
    try:
        if "\0" in text:
            line = text[: text.index("\0")].count("\n") + 1
            raise BadWorkspace(f"Read {path}", f"line {line} holds a null byte", "Save the file as plain UTF-8 text.")
        tree = ast.parse(text, path)
    except SyntaxError as error:
        column = " " * max((error.offset or 1) - 1, 0) + "^"
        shown = f"\n    {(error.text or '').rstrip()}\n    {column}" if error.text else ""
        raise BadWorkspace(
            f"Read {path}", f"line {error.lineno}: {error.msg}{shown}", "Mend that line and try again."
        ) from None
    except (RecursionError, MemoryError):
        raise BadWorkspace(
            f"Read {path}", "it is nested too deeply to be read", "Break its longest expression up."
        ) from None
    return _Reader(tree, path).facts()


def read_bytes(path: Path, shown: str) -> bytes:
    """A source file's content. Raises BadWorkspace if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise BadWorkspace(f"Read {shown}", said, "Mend it, or take it out of the workspace.") from None


def decode(data: bytes, shown: str) -> str:
    """A source file as text. Raises BadWorkspace, naming the line, if it is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        said = f"line {line} holds the byte 0x{data[error.start]:02x}, which is not UTF-8"
        raise BadWorkspace(f"Read {shown}", said, "Save the file as UTF-8.") from None


class _Reader:
    def __init__(self, tree: ast.Module, path: str) -> None:
        self.path = path
        self.body = [part for statement in tree.body for part in _unwrap(statement)]
        self.aliases: dict[str, list[Alias]] = {}
        self.stars: list[Alias] = []
        self.loads: list[Alias] = []
        self.definitions: list[Definition] = []
        self.classes: list[ClassFacts] = []
        self.renamed: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        self.public: tuple[str, ...] | None = None

    def facts(self) -> ModuleFacts:
        for statement in self.body:
            self._imports(statement)
            self._constants(statement)
        for statement in self.body:
            self._classes(statement)
        self._misplaced()
        loaded = {name.id for part in self.body for name in ast.walk(part) if isinstance(name, ast.Name)}
        units = tuple(self._unit(statement, loaded) for statement in self.body)
        return ModuleFacts(
            units,
            {name: tuple(found) for name, found in self.aliases.items()},
            tuple(self.stars),
            tuple(self.loads),
            self.public,
            tuple(self.definitions),
            tuple(self.classes),
            self.renamed,
        )

    # -- first pass: imports and literal constants

    def _imports(self, statement: ast.stmt) -> None:
        for node in _module_scope(statement):
            if isinstance(node, ast.Import):
                for name in node.names:
                    self.loads.append(Alias(name.name))
                    bound = name.asname or name.name.partition(".")[0]
                    self.aliases.setdefault(bound, []).append(Alias(name.name if name.asname else bound))
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                self.loads.append(Alias(module, "", node.level))
                for name in node.names:
                    if name.name == "*":
                        self.stars.append(Alias(module, "", node.level))
                        continue
                    self.loads.append(Alias(module, name.name, node.level))
                    found = Alias(module, name.name, node.level)
                    self.aliases.setdefault(name.asname or name.name, []).append(found)

    def _constants(self, statement: ast.stmt) -> None:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            return
        try:
            literal = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError):
            return
        for target in targets:
            if isinstance(target, ast.Name):
                self.constants[target.id] = literal
                if target.id == "__all__" and isinstance(literal, list | tuple):
                    self.public = tuple(str(name) for name in literal)

    # -- second pass: units

    def _unit(self, statement: ast.stmt, loaded: set[str]) -> Unit:
        binds = tuple(sorted(_binds(statement)))
        declared = self._declaration(statement)
        collector = UseCollector(self.resolve, self._bad_file)
        collector.statement(statement)
        pure_import = isinstance(statement, ast.Import | ast.ImportFrom)
        effect = _effect(statement, self.aliases)
        if pure_import and binds and not loaded & set(binds) and self.public is None:
            effect = True  # nobody uses the name: imported for what importing does
        if (
            isinstance(statement, ast.Assign | ast.AnnAssign)
            and collector.calls
            and not loaded_elsewhere(binds, statement, self.body)
        ):
            effect = True  # `_ = register(x)`
        return Unit(
            line=statement.lineno,
            digest=digest_bytes(dump(statement, declared))[:16],
            binds=binds,
            uses=tuple(Use(*use) for use in dict.fromkeys(collector.uses)),
            effect=effect,
            pure_import=pure_import,
            runs=collector.calls and not (declared and len(getattr(statement, "decorator_list", ())) == 1),
            changes=tuple(Use(*use) for use in dict.fromkeys(collector.changes)),
            dynamic=collector.dynamic,
            files=tuple(dict.fromkeys(collector.files)),
            envs=tuple(dict.fromkeys(collector.envs)),
        )

    def resolve(self, chain: tuple[str, ...]) -> str:
        """The dotted name that a chain stands for, through this module's imports."""
        found = self.aliases.get(chain[0])
        if not found:
            return ".".join(chain)
        alias = found[0]
        head = f"{alias.module}.{alias.attribute}" if alias.attribute else alias.module
        return ".".join(["." * alias.level + head, *chain[1:]])

    def _bad_file(self, node: ast.Call) -> None:
        raise BadStep(
            f"Read {self.path}",
            f"line {node.lineno}: File(...) is not given one literal path",
            'Write it out, as in File("rates.csv"), so that planning can see which file counts.',
        )

    # -- declarations

    def _declaration(self, statement: ast.stmt) -> ast.expr | None:
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            return None
        for decorator in statement.decorator_list:
            if kind := self._kind(decorator):
                self._define(statement, kind, decorator if isinstance(decorator, ast.Call) else None)
                return decorator
        return None

    def _misplaced(self) -> None:
        """Refuse a declaration that planning would not see: on a class, or not at the top level of its module."""
        at_top = {id(part) for part in self.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)}
        for part in self.body:
            for node in ast.walk(part):
                if id(node) in at_top or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    continue
                kinds = [kind for decorator in node.decorator_list if (kind := self._kind(decorator))]
                if not kinds:
                    continue
                what = "a class" if isinstance(node, ast.ClassDef) else "inside another statement"
                raise BadStep(
                    f"Read {self.path}",
                    f"line {node.lineno}: {kinds[0]} {node.name!r} is {what}",
                    "Make it a plain function at the top level of its module.",
                )

    def _kind(self, decorator: ast.expr) -> str:
        """Which of our decorators this is; empty if it is none."""
        chain = _chain(decorator.func if isinstance(decorator, ast.Call) else decorator)
        home, _, kind = self.resolve(chain).rpartition(".") if chain else ("", "", "")
        return kind if home in _SAMPAN and kind in OPTIONS else ""

    def _define(self, statement: ast.FunctionDef | ast.AsyncFunctionDef, kind: str, call: ast.Call | None) -> None:
        where = f"line {statement.lineno}: {kind} {statement.name!r}"
        if isinstance(statement, ast.AsyncFunctionDef):
            raise BadStep(f"Read {self.path}", f"{where} is an async function", "Make it a plain `def`.")
        if statement.args.vararg or statement.args.kwarg:
            raise BadStep(
                f"Read {self.path}",
                f"{where} takes *args or **kwargs",
                "Name each dependency as a parameter of its own.",
            )
        options = self._options(where, kind, call)
        args = statement.args
        positional = [*args.posonlyargs, *args.args]
        padding: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
        pairs = [*zip(positional, [*padding, *args.defaults], strict=True)]
        parameters = [self._parameter(arg, default, arg in args.posonlyargs) for arg, default in pairs]
        parameters += [self._parameter(*pair) for pair in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
        returns = self._annotation(statement.returns)
        self.definitions.append(Definition(statement.name, kind, statement.lineno, tuple(parameters), options, returns))

    def _options(self, where: str, kind: str, call: ast.Call | None) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if call is None:
            return options
        if call.args:
            raise BadStep(f"Read {self.path}", f"{where} has an option without a name", f"Known: {_known(kind)}.")
        for keyword in call.keywords:
            if keyword.arg not in OPTIONS[kind]:
                said = keyword.arg or "**"
                raise BadStep(
                    f"Read {self.path}", f"{where} has the unknown option {said!r}", f"Known: {_known(kind)}."
                )
            try:
                options[keyword.arg] = ast.literal_eval(keyword.value)
            except ValueError:
                constant = keyword.value.id if isinstance(keyword.value, ast.Name) else None
                if constant not in self.constants:
                    raise BadStep(
                        f"Read {self.path}",
                        f"{where}: the option {keyword.arg} is not a literal",
                        "Planning reads source without running it: write the value out.",
                    ) from None
                options[keyword.arg] = self.constants[constant]
        check_options(f"Read {self.path}", where, options)
        return options

    def _parameter(self, arg: ast.arg, default: ast.expr | None, positional: bool = False) -> Parameter:
        annotation = self._annotation(arg.annotation)
        if default is None:
            return Parameter(arg.arg, annotation=annotation, positional=positional)
        if isinstance(default, ast.Call) and (chain := _chain(default.func)):
            first = default.args[0] if default.args else None
            if self.resolve(chain) in {f"{home}.File" for home in _SAMPAN} and isinstance(first, ast.Constant):
                return Parameter(arg.arg, True, file=str(first.value), annotation=annotation, positional=positional)
        value = literal(default)
        if isinstance(default, ast.Name) and is_plain(self.constants.get(default.id, NO_LITERAL)):
            value = self.constants[default.id]
        known = value is not NO_LITERAL
        return Parameter(arg.arg, True, known, value if known else None, annotation=annotation, positional=positional)

    def _annotation(self, node: ast.expr | None) -> str:
        if node is None:
            return ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                return ""
        chain = _chain(node)
        return self.resolve(chain) if chain else ast.unparse(node)

    def _classes(self, statement: ast.stmt) -> None:
        """Classes, and further names that something has, wherever they stand in the module's own scope."""
        for node in _module_scope(statement):
            if isinstance(node, ast.ClassDef):
                self._class(node)
            elif isinstance(node, ast.Assign) and (chain := _chain(node.value)):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                self.renamed.update(dict.fromkeys(names, self.resolve(chain)))

    def _class(self, node: ast.ClassDef) -> None:
        told = {keyword.arg: self._constant(keyword.value) for keyword in node.keywords}
        type, version = told.get("type"), told.get("version")
        bases = tuple(self.resolve(chain) for base in node.bases if (chain := _chain(base)))
        name = type if isinstance(type, str) else snake_case(node.name)
        self.classes.append(ClassFacts(node.name, name, version if isinstance(version, int) else 1, bases))

    def _constant(self, node: ast.expr) -> Any:
        return self.constants.get(node.id) if isinstance(node, ast.Name) else literal(node)


def check_options(attempted: str, where: str, options: dict[str, Any]) -> None:
    """Refuse an option of the wrong type or range. Raises BadStep."""

    def refuse(name: str, wanted: str) -> None:
        raise BadStep(attempted, f"{where}: {name} is {options[name]!r}", f"{name} takes {wanted}.")

    def whole(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    for name in ("cpus", "seed", "retries"):
        least = 1 if name == "cpus" else 0
        if options.get(name) is not None and not (whole(options[name]) and options[name] >= least):
            refuse(name, f"a whole number of {least} or more")
    if options.get("memory") is not None and parse_bytes(options["memory"]) is None:
        refuse("memory", 'bytes, or a text such as "512MB" or "2GB"')
    timeout = options.get("timeout")
    if timeout is not None and (not isinstance(timeout, int | float) or isinstance(timeout, bool) or timeout <= 0):
        refuse("timeout", "seconds above 0")
    if options.get("severity") not in (None, *SEVERITIES):
        refuse("severity", " or ".join(map(repr, SEVERITIES)))
    for name in ("each", "target", "time", "group"):
        if options.get(name) is not None and not isinstance(options[name], str):
            refuse(name, "a name")
    for name in ("env", "order_by"):
        value = options.get(name)
        if isinstance(value, str):
            options[name] = [value]
        elif value is not None and not (
            isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        ):
            refuse(name, "a name or a list of names")
        elif value is not None:
            options[name] = list(value)
    if options.get("kind", "binary") not in MODEL_KINDS:
        refuse("kind", ", ".join(MODEL_KINDS))


_UNITS: Final = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(value: Any) -> int | None:
    """A number of bytes from ``2000000`` or ``"2GB"``; None if it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value > 0 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    number = text.rstrip("BbKkMmGgIi ")
    unit = _UNITS.get(text[len(number) :].strip().upper())
    try:
        return int(float(number) * unit) if unit and float(number) > 0 else None
    except (ValueError, OverflowError):
        return None


def _known(kind: str) -> str:
    return ", ".join(sorted(OPTIONS[kind]))


def _chain(node: ast.expr) -> tuple[str, ...] | None:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return (node.id, *reversed(names))


def _is_main_guard(node: ast.stmt) -> bool:
    if not (isinstance(node, ast.If) and isinstance(node.test, ast.Compare)):
        return False
    sides = [node.test.left, *node.test.comparators]
    return any(isinstance(s, ast.Name) and s.id == "__name__" for s in sides) and any(
        isinstance(s, ast.Constant) and s.value == "__main__" for s in sides
    )


def _unwrap(statement: ast.stmt) -> list[ast.stmt]:
    """Statements that importing runs: a ``__main__`` guard's body is not among them."""
    if _is_main_guard(statement):
        assert isinstance(statement, ast.If)
        return [part for inner in statement.orelse for part in _unwrap(inner)]
    if isinstance(statement, ast.Pass) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    ):
        return []
    return [statement]


def _module_scope(statement: ast.stmt) -> list[ast.AST]:
    """Nodes of a statement that run in the module's own scope (not inside its functions and classes)."""
    found: list[ast.AST] = []
    todo: list[ast.AST] = [statement]
    while todo:
        node = todo.pop()
        found.append(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        todo.extend(ast.iter_child_nodes(node))
    return found


def _binds(statement: ast.stmt) -> set[str]:
    """Names of the module that a statement binds, or whose content it replaces in part (``X["a"] = 1``)."""
    names: set[str] = set()
    for node in _module_scope(statement):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
        elif isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            root: ast.expr = node
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name):
                names.add(root.id)
        elif isinstance(node, ast.Import):
            names |= {name.asname or name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {name.asname or name.name for name in node.names if name.name != "*"}
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            names.add(node.rest)
        elif hasattr(ast, "TypeAlias") and isinstance(node, ast.TypeAlias) and isinstance(node.name, ast.Name):
            names.add(node.name.id)
    return names


def _effect(statement: ast.stmt, aliases: dict[str, list[Alias]]) -> bool:
    """Whether importing does something here that could matter to names which this statement does not bind."""
    for node in _module_scope(statement):
        if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
            return True
        if isinstance(node, ast.Raise | ast.Assert | ast.With | ast.AsyncWith):
            return True
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            root: ast.expr = node
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if not isinstance(root, ast.Name) or root.id in aliases:
                return True  # `os.environ["A"] = "1"`, `pd.options.x = 2`
    return False


def loaded_elsewhere(binds: tuple[str, ...], statement: ast.stmt, body: list[ast.stmt]) -> bool:
    """Whether another statement of the module reads one of the names (or other modules may: a public name)."""
    return any(not name.startswith("_") for name in binds) or any(
        isinstance(node, ast.Name) and node.id in binds
        for other in body
        if other is not statement
        for node in ast.walk(other)
    )
