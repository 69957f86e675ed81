"""Two walks over a syntax tree: its meaning as bytes, and the names that it needs from outside.

``dump`` writes a tree without positions, docstrings and what cannot change a result (execution options of our
decorators, literal defaults of a step's hyper-parameters: these are keyed by value). ``UseCollector`` follows
Python's scopes, so that a parameter or a local variable named like a global is not mistaken for it.
"""

import ast
import math
from collections.abc import Callable
from typing import Any, Final

from sampan.flow.declare import EXECUTION_OPTIONS

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SKIPPED: Final = frozenset({"type_comment", "kind", "type_ignores", "ctx"})


def dump(node: ast.AST, declared: ast.expr | None = None) -> bytes:
    """A tree's meaning as bytes. ``declared``: our decorator on this function, if it has one."""
    out: list[str] = []
    _dump(node, out, declared)
    return "".join(out).encode("utf-8", "surrogatepass")


def _dump(value: object, out: list[str], declared: ast.expr | None) -> None:
    if isinstance(value, ast.AST):
        out.append(f"({type(value).__name__}")
        for field in value._fields:
            if field in _SKIPPED:
                continue
            inner = getattr(value, field, None)
            if field == "body" and isinstance(value, (*_FUNCTIONS, ast.ClassDef, ast.Module)):
                inner = _without_docstring(inner or [])
            if declared and field == "decorator_list":
                inner = [_plain_decorator(node) if node is declared else node for node in inner or []]
            if declared and isinstance(inner, ast.arguments):
                inner = _plain_arguments(inner)
            out.append(f" {field}=")
            _dump(inner, out, None)
        out.append(")")
    elif isinstance(value, list):
        out.append("[")
        for item in value:
            _dump(item, out, None)
            out.append(",")
        out.append("]")
    elif isinstance(value, frozenset):
        out.append(f"frozenset {sorted(map(repr, value))}")
    else:
        out.append(f"{type(value).__name__}:{value!r}")


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        body = body[1:]
    return [statement for statement in body if not isinstance(statement, ast.Pass)]


def _plain_decorator(node: ast.expr) -> ast.expr:
    if not isinstance(node, ast.Call):
        return node
    kept = [word for word in node.keywords if word.arg not in EXECUTION_OPTIONS]
    if not kept:
        return node.func  # `@step()` and `@step(cpus=2)` mean `@step`
    kept.sort(key=lambda word: word.arg or "")
    return ast.Call(node.func, node.args, kept)


def _plain_arguments(node: ast.arguments) -> ast.arguments:
    """Literal defaults replaced by a mark: hyper-parameters are keyed by their values."""

    def plain(default: ast.expr) -> ast.expr:
        return default if literal(default) is NO_LITERAL else ast.Constant(...)

    return ast.arguments(
        posonlyargs=node.posonlyargs,
        args=node.args,
        vararg=node.vararg,
        kwonlyargs=node.kwonlyargs,
        kw_defaults=[plain(default) if default is not None else None for default in node.kw_defaults],
        kwarg=node.kwarg,
        defaults=[plain(default) for default in node.defaults],
    )


NO_LITERAL: Final = object()


def literal(node: ast.expr) -> Any:
    """The value of a literal that JSON tells from every other; NO_LITERAL for all else (a tuple, bytes, 1e999)."""
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return NO_LITERAL
    return value if is_plain(value) else NO_LITERAL


def is_plain(value: Any) -> bool:
    """Whether a value survives JSON as it is."""
    if value is None or type(value) in (bool, str):
        return True
    if type(value) is int:
        return -(1 << 63) <= value < 1 << 64
    if type(value) is float:
        return math.isfinite(value)
    if type(value) is list:
        return all(is_plain(item) for item in value)
    return type(value) is dict and all(type(key) is str and is_plain(item) for key, item in value.items())


class _Scope:
    """Names bound in one function, class or comprehension. An import inside is remembered with what it names."""

    def __init__(self, kind: str, bound: set[str], imports: dict[str, tuple[str, str, int]]) -> None:
        self.kind = kind
        self.bound = bound
        self.imports = imports


LOAD_ONLY: Final = ("*",)
"""The chain of a use that imports a module inside a function; what it takes from there are uses of their own."""
RawUse = tuple[tuple[str, ...], str | None, int]
_CHANGING: Final = frozenset(
    {"append", "add", "update", "extend", "insert", "pop", "popitem", "setdefault", "clear", "remove"}
    | {"discard", "register", "sort", "reverse", "appendleft", "extendleft", "write", "set"}
)
_DYNAMIC: Final = {
    "exec",
    "eval",
    "globals",
    "__import__",
    "importlib.import_module",
    "importlib.reload",
    "runpy.run_path",
    "runpy.run_module",
    "sys.modules",
}
_FILES: Final = {"sampan.File", "sampan.flow.declare.File"}


class UseCollector:
    """Collects the globals that one top-level statement needs; nested scopes are followed."""

    def __init__(self, resolve: Callable[[tuple[str, ...]], str], bad_file: Callable[[ast.Call], None]) -> None:
        self._resolve = resolve
        self._bad_file = bad_file
        self._scopes: list[_Scope] = []
        self.uses: list[RawUse] = []
        self.changes: list[RawUse] = []
        self.files: list[str] = []
        self.envs: list[str] = []
        self.dynamic = ""
        self.calls = False

    def statement(self, node: ast.stmt) -> None:
        self._visit(node)

    # -- scopes

    def _look_up(self, name: str) -> tuple[str, tuple[str, str, int] | None]:
        for depth, scope in enumerate(reversed(self._scopes)):
            if scope.kind == "class":
                if depth == 0 and name in scope.imports:
                    return "import", scope.imports[name]
                continue  # a class's names are seen by its own body only, and there a global may be meant first
            if name in scope.imports:
                return "import", scope.imports[name]
            if name in scope.bound:
                return "local", None
        return "global", None

    def _use(self, chain: tuple[str, ...], into: list[RawUse] | None = None) -> None:
        where, found = self._look_up(chain[0])
        into = self.uses if into is None else into
        if where == "global":
            into.append((chain, None, 0))
        elif found is not None:
            module, attribute, level = found
            rest = ((attribute,) if attribute else ()) + chain[1:]
            into.append((rest, module, level))

    def _dotted(self, chain: tuple[str, ...]) -> str:
        where, found = self._look_up(chain[0])
        if where == "global":
            return self._resolve(chain)
        if found is None:
            return ""
        module, attribute, level = found
        return ".".join(part for part in ("." * level + module, attribute, *chain[1:]) if part)

    @property
    def _at_import(self) -> bool:
        return not any(scope.kind == "function" for scope in self._scopes)

    # -- the walk

    def _visit(self, node: ast.AST) -> None:
        method = getattr(self, "_" + type(node).__name__, None)
        if method is not None:
            method(node)
        elif isinstance(node, _COMPREHENSIONS):
            self._comprehension(node)
        else:
            self._children(node)

    def _children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self._visit(child)

    def _Name(self, node: ast.Name) -> None:  # noqa: N802
        if isinstance(node.ctx, ast.Load):
            self._mark((node.id,))
            self._use((node.id,))
        elif self._scopes and self._look_up(node.id)[0] == "global":
            self._use((node.id,), self.changes)  # `global x; x = 1`
            self._use((node.id,))

    def _Attribute(self, node: ast.Attribute) -> None:  # noqa: N802
        chain = _chain(node)
        if chain is None:
            if not isinstance(node.ctx, ast.Load):
                self._change(node)
            self._visit(node.value)
            return
        self._mark(chain)
        self._use(chain)
        if not isinstance(node.ctx, ast.Load):
            self._change(node)

    def _Subscript(self, node: ast.Subscript) -> None:  # noqa: N802
        if not isinstance(node.ctx, ast.Load):
            self._change(node)
        chain = _chain(node.value)
        if chain and self._dotted(chain) == "os.environ" and isinstance(node.slice, ast.Constant):
            self.envs.append(str(node.slice.value))
        self._children(node)

    def _change(self, node: ast.expr) -> None:
        root: ast.expr = node
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name):
            chain = _chain(node.value) if isinstance(node, ast.Attribute | ast.Subscript) else None
            self._use(chain or (root.id,), self.changes)
            if isinstance(node, ast.Attribute) and chain:
                self._use((*chain, node.attr), self.changes)

    def _Call(self, node: ast.Call) -> None:  # noqa: N802
        if self._at_import:
            self.calls = True
        chain = _chain(node.func)
        if chain:
            dotted = self._dotted(chain)
            if dotted in _FILES:
                self._file(node)
            elif dotted in ("os.getenv", "os.environ.get") and node.args and isinstance(node.args[0], ast.Constant):
                self.envs.append(str(node.args[0].value))
            elif dotted == "getattr" and len(node.args) >= 2:
                self._getattr(node)
            elif dotted == "importlib.import_module" and len(node.args) == 1:
                name = node.args[0]
                if isinstance(name, ast.Constant) and isinstance(name.value, str) and name.value[:1] != ".":
                    self.uses.append(((), name.value, 0))
                    self._visit_call_parts(node)
                    return
            if len(chain) > 1 and chain[-1] in _CHANGING:
                self._use(chain[:-1], self.changes)
        self._visit(node.func)
        self._visit_call_parts(node)

    def _visit_call_parts(self, node: ast.Call) -> None:
        for argument in node.args:
            self._visit(argument)
        for keyword in node.keywords:
            self._visit(keyword.value)

    def _getattr(self, node: ast.Call) -> None:
        chain, name = _chain(node.args[0]), node.args[1]
        if chain and isinstance(name, ast.Constant) and isinstance(name.value, str):
            self._use((*chain, name.value))

    def _file(self, node: ast.Call) -> None:
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if len(arguments) != 1 or not isinstance(arguments[0], ast.Constant) or not isinstance(arguments[0].value, str):
            self._bad_file(node)
            return
        self.files.append(arguments[0].value)

    def _mark(self, chain: tuple[str, ...]) -> None:
        dotted = self._dotted(chain)
        for length in range(len(dotted.split(".")), 0, -1):
            head = ".".join(dotted.split(".")[:length])
            if head in _DYNAMIC and not self.dynamic:
                self.dynamic = head
        if dotted == "builtins.exec" or dotted == "builtins.eval":
            self.dynamic = dotted

    def _Import(self, node: ast.Import) -> None:  # noqa: N802
        if self._scopes:
            for name in node.names:
                self.uses.append((LOAD_ONLY, name.name, 0))

    def _ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802
        if self._scopes:
            for name in node.names:
                self.uses.append(((name.name,), node.module or "", node.level))

    def _FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:  # noqa: N802
        for decorator in node.decorator_list:
            if self._at_import:
                self.calls = True
                self._registers(decorator)
            self._visit(decorator)
        self._signature(node.args)
        if node.returns is not None:
            self._annotation(node.returns)
        self._function(node, node.args, node.body)

    _AsyncFunctionDef = _FunctionDef

    def _Lambda(self, node: ast.Lambda) -> None:  # noqa: N802
        self._signature(node.args)
        self._function(node, node.args, [node.body])

    def _signature(self, arguments: ast.arguments) -> None:
        for default in [*arguments.defaults, *arguments.kw_defaults]:
            if default is not None:
                self._visit(default)
        for argument in _all_arguments(arguments):
            if argument.annotation is not None:
                self._annotation(argument.annotation)

    def _annotation(self, node: ast.expr) -> None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                node = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                return
        self._visit(node)

    def _AnnAssign(self, node: ast.AnnAssign) -> None:  # noqa: N802
        self._visit(node.target)
        self._annotation(node.annotation)
        if node.value is not None:
            self._visit(node.value)

    def _registers(self, decorator: ast.expr) -> None:
        """`@upcast(OrderLine, since=1)` may change what it is given."""
        for argument in decorator.args if isinstance(decorator, ast.Call) else ():
            chain = _chain(argument)
            if chain:
                self._use(chain, self.changes)

    def _function(self, node: ast.AST, arguments: ast.arguments, body: list[ast.stmt] | list[ast.expr]) -> None:
        bound, imports = _bound(body)
        bound |= {argument.arg for argument in _all_arguments(arguments)}
        bound |= {getattr(parameter, "name", "") for parameter in getattr(node, "type_params", [])}
        self._scopes.append(_Scope("function", bound, {k: v for k, v in imports.items() if k not in bound}))
        for part in body:
            self._visit(part)
        self._scopes.pop()

    def _ClassDef(self, node: ast.ClassDef) -> None:  # noqa: N802
        for part in [*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)]:
            self._visit(part)
        if self._at_import and (node.decorator_list or node.keywords or node.bases):
            self.calls = True
        bound, imports = _bound(node.body)
        self._scopes.append(_Scope("class", bound, imports))
        for statement in node.body:
            self._visit(statement)
        self._scopes.pop()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self._visit(node.generators[0].iter)  # runs in the scope around
        targets = {name.id for part in node.generators for name in ast.walk(part.target) if isinstance(name, ast.Name)}
        self._scopes.append(_Scope("comprehension", targets, {}))
        for number, part in enumerate(node.generators):
            if number:
                self._visit(part.iter)
            self._visit(part.target)
            for condition in part.ifs:
                self._visit(condition)
        for field in ("elt", "key", "value"):
            if (value := getattr(node, field, None)) is not None:
                self._visit(value)
        self._scopes.pop()


def _chain(node: ast.expr) -> tuple[str, ...] | None:
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else None


def _all_arguments(arguments: ast.arguments) -> list[ast.arg]:
    rest = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def _bound(body: list[ast.stmt] | list[ast.expr]) -> tuple[set[str], dict[str, tuple[str, str, int]]]:
    """Names that a function's or class's own scope binds, and those among them that only imports bind."""
    bound: set[str] = set()
    imports: dict[str, tuple[str, str, int]] = {}
    outside: set[str] = set()
    todo: list[ast.AST] = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            bound.add(node.name)
            todo += node.decorator_list
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, _COMPREHENSIONS):
            # walruses inside bind here; targets do not
            bound |= {
                inner.target.id
                for inner in ast.walk(node)
                if isinstance(inner, ast.NamedExpr) and isinstance(inner.target, ast.Name)
            }
            continue
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            bound.add(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            outside |= set(node.names)
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.asname:
                    imports[name.asname] = (name.name, "", 0)
                else:
                    imports[name.name.partition(".")[0]] = (name.name.partition(".")[0], "", 0)
        elif isinstance(node, ast.ImportFrom):
            for name in node.names:
                imports[name.asname or name.name] = (node.module or "", name.name, node.level)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            bound.add(node.rest)
        todo.extend(ast.iter_child_nodes(node))
    imports.pop("*", None)
    bound -= outside
    return bound, {name: found for name, found in imports.items() if name not in bound and name not in outside}
