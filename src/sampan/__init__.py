"""Sampan: from raw events to decisions in production and back, on one machine.

The names below are the whole public surface. They are imported on first use, so that ``import sampan`` in a
step's module costs next to nothing and a command line that needs none of them pays for none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sampan.app.notebook import show as show
    from sampan.app.notebook import sql as sql
    from sampan.app.notebook import table as table
    from sampan.flow.declare import File as File
    from sampan.flow.declare import Fitted as Fitted
    from sampan.flow.declare import check as check
    from sampan.flow.declare import model as model
    from sampan.flow.declare import step as step
    from sampan.flow.metaflow import metaflow as metaflow
    from sampan.log.adapt import adapt as adapt
    from sampan.log.contracts import Blob as Blob
    from sampan.log.contracts import Event as Event
    from sampan.log.contracts import Field as Field
    from sampan.log.contracts import Text as Text
    from sampan.log.contracts import upcast as upcast
    from sampan.models import metrics as metrics
    from sampan.models.architecture import Architecture as Architecture
    from sampan.models.format_package import EntryPoint as EntryPoint
    from sampan.serve.decisions import PREVIOUS as PREVIOUS
    from sampan.serve.decisions import Action as Action
    from sampan.serve.decisions import Cap as Cap
    from sampan.serve.decisions import decision as decision
    from sampan.serve.decisions import review as review
    from sampan.track.spool import log as log
    from sampan.track.spool import log_params as log_params
    from sampan.track.spool import logged_run as logged_run

_HOME = {
    "Action": "sampan.serve.decisions",
    "Architecture": "sampan.models.architecture",
    "Blob": "sampan.log.contracts",
    "Cap": "sampan.serve.decisions",
    "EntryPoint": "sampan.models.format_package",
    "Event": "sampan.log.contracts",
    "Field": "sampan.log.contracts",
    "File": "sampan.flow.declare",
    "Fitted": "sampan.flow.declare",
    "PREVIOUS": "sampan.serve.decisions",
    "adapt": "sampan.log.adapt",
    "Text": "sampan.log.contracts",
    "check": "sampan.flow.declare",
    "decision": "sampan.serve.decisions",
    "log_params": "sampan.track.spool",
    "logged_run": "sampan.track.spool",
    "metaflow": "sampan.flow.metaflow",
    "model": "sampan.flow.declare",
    "review": "sampan.serve.decisions",
    "step": "sampan.flow.declare",
    "show": "sampan.app.notebook",
    "sql": "sampan.app.notebook",
    "table": "sampan.app.notebook",
    "upcast": "sampan.log.contracts",
}

__version__ = "0.1.0"  # the one place that says so; part of every step's key
__all__ = [*_HOME, "__version__", "log", "metrics"]


def __getattr__(name: str) -> Any:
    if home := _HOME.get(name):
        return getattr(import_module(home), name)
    if name == "log":
        return import_module("sampan.log")  # a package that can be called
    if name == "metrics":
        return import_module("sampan.models.metrics")
    if name == "load_ipython_extension":  # what %load_ext looks for
        return import_module("sampan.app.notebook").load_ipython_extension
    raise AttributeError(f"module 'sampan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
