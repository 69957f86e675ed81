"""The log: contracts, intake, append, seal, read, quarantine, verify. It knows nothing of what is derived from it."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """``sampan.log`` is this package, and ``sampan.log(loss=0.3)`` logs a metric: one name cannot be two things."""

    def __call__(self, *values: Any, **named: Any) -> None:
        import_module("sampan.track.spool").log(*values, **named)


sys.modules[__name__].__class__ = _Callable
