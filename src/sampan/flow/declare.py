"""What a workspace writes: ``@step``, ``@check``, ``@model``, ``File`` and ``Fitted``.

Decorated functions stay plain functions: call them in a test or a notebook. The planner reads the decorators from
source and never runs them; a worker finds the same declaration on ``function.__sampan__``.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])
Severity = Literal["error", "warn"]
ModelKind = Literal["binary", "multiclass", "regression", "ranking"]

EXECUTION_OPTIONS: Final = frozenset({"cpus", "memory", "retries", "timeout"})
"""Options that say how a step runs. They do not change its result and are no part of its key."""

OPTIONS: Final[dict[str, frozenset[str]]] = {
    "step": EXECUTION_OPTIONS | {"each", "env", "order_by", "seed"},
    "check": EXECUTION_OPTIONS | {"env", "order_by", "seed", "severity"},
    "model": EXECUTION_OPTIONS | {"env", "order_by", "seed", "kind", "target", "time", "group"},
}
SEVERITIES: Final = ("error", "warn")
MODEL_KINDS: Final = ("binary", "multiclass", "regression", "ranking")


class Declaration:
    """What a decorator said: its kind (``step``, ``check`` or ``model``) and its options."""

    def __init__(self, kind: str, options: Mapping[str, Any]) -> None:
        self.kind = kind
        self.options = dict(options)

    def __repr__(self) -> str:
        return f"Declaration({self.kind!r}, {self.options!r})"


def _declare(kind: str, function: F, options: Mapping[str, Any]) -> F:
    function.__sampan__ = Declaration(kind, options)  # type: ignore[attr-defined]
    return function


@overload
def step(function: F, /) -> F: ...
@overload
def step(
    *,
    each: str | None = None,
    cpus: int | None = None,
    memory: int | str | None = None,
    retries: int = 0,
    timeout: float | None = None,
    env: str | Sequence[str] = (),
    order_by: str | Sequence[str] = (),
    seed: int | None = None,
) -> Callable[[F], F]: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Declare a step: parameters are dependencies, parameters with a default are hyper-parameters.

    ``each`` fans out over the elements of a dependency, else over the distinct values of a column; ``cpus``,
    ``memory`` (bytes or ``"2GB"``), ``timeout`` (seconds) and ``retries`` bind on this machine; ``env`` names the
    environment variables that the result depends on; ``order_by`` gives the row order of tables that arrive.

    >>> @step
    ... def doubled(amount: int) -> int:
    ...     return amount * 2
    >>> doubled(21)
    42
    """
    if function is not None:
        return _declare("step", function, {})
    return lambda inner: _declare("step", inner, options)


@overload
def check(function: F, /) -> F: ...
@overload
def check(
    *,
    severity: Severity = "error",
    cpus: int | None = None,
    memory: int | str | None = None,
    retries: int = 0,
    timeout: float | None = None,
    env: str | Sequence[str] = (),
    order_by: str | Sequence[str] = (),
    seed: int | None = None,
) -> Callable[[F], F]: ...
def check(function: Any = None, /, **options: Any) -> Any:
    """Declare a check. It passes by returning None, True or an empty frame, and fails by returning False, a text
    that says why, a frame of the offending rows, or by raising AssertionError. ``severity="warn"``: that it
    failed is told, and holds nothing back."""
    if function is not None:
        return _declare("check", function, {})
    return lambda inner: _declare("check", inner, options)


@overload
def model(function: F, /) -> F: ...
@overload
def model(
    *,
    kind: ModelKind = "binary",
    target: str | None = None,
    time: str | None = None,
    group: str | None = None,
    cpus: int | None = None,
    memory: int | str | None = None,
    retries: int = 0,
    timeout: float | None = None,
    env: str | Sequence[str] = (),
    order_by: str | Sequence[str] = (),
    seed: int | None = None,
) -> Callable[[F], F]: ...
def model(function: Any = None, /, **options: Any) -> Any:
    """Declare a model: a step that returns ``Fitted``. Each new result becomes a frozen version of that name.

    ``target``, ``time`` and ``group`` name columns of the table that it learns from: what it predicts; when each row
    was, so that a comparison can hold out the later ones; and, for a ranking, within what rows are ranked."""
    if function is not None:
        return _declare("model", function, {})
    return lambda inner: _declare("model", inner, options)


class File(os.PathLike[str]):
    """A file or folder of the workspace that a result depends on: its content is part of the key.

    Write the path as a literal, relative to the workspace, so that planning can read it: ``File("rates.csv")``.
    """

    def __init__(self, path: str) -> None:
        self.name = path

    @property
    def path(self) -> Path:
        """Where it lies: under the workspace while a step runs, else under the current folder."""
        return Path(os.environ.get("SAMPAN_STEP_ROOT") or ".") / self.name

    def __fspath__(self) -> str:
        return str(self.path)

    def read_text(self) -> str:
        return self.path.read_text("utf-8")

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()

    def __repr__(self) -> str:
        return f"File({self.name!r})"


class Fitted:
    """What a model step returns.

    ``estimator`` is what was trained; ``features`` names the columns it takes, in order; ``target`` the column it
    predicts; ``metrics`` the figures to keep with the version; ``sample`` some rows of the features, on which the
    frozen form is verified against the estimator; ``architecture`` (``sampan.Architecture``) how a network of PyTorch
    is built, if it is made of more than layers of ``torch.nn``.
    """

    def __init__(
        self,
        estimator: Any,
        features: Sequence[str],
        target: str | None = None,
        metrics: Mapping[str, Any] | None = None,
        sample: Any = None,
        architecture: Any = None,
    ) -> None:
        self.estimator = estimator
        self.features = list(features)
        self.target = target
        self.metrics = dict(metrics or {})
        self.sample = sample
        self.architecture = architecture

    def __repr__(self) -> str:
        return f"Fitted({type(self.estimator).__name__}, {len(self.features)} features)"
