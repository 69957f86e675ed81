"""Reads what came of a run of Metaflow's, in a process that ends with it. It runs as a script and imports no Sampan.

Arguments: a file to write, the flow's file, the run's id. Artifacts are pickles, of the user's own flow, loaded here as
the flow itself loads them. Written is JSON, as ``sampan.flow.metaflow`` reads it: plain data, and of all else size and
SHA-1.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

LARGEST = 1 << 20
"""Bytes of a pickle that is looked into."""
DEEPEST = 20
NO = object()


def main(out: str, path: str, id: str) -> None:
    import metaflow

    metaflow.namespace(None)
    names = re.findall(r"^class\s+(\w+)\s*\(", Path(path).read_text("utf-8", "replace"), re.MULTILINE)
    run = next(found for name in names if (found := _run(metaflow, f"{name}/{id}")) is not None)
    flow = run.pathspec.partition("/")[0]
    parameters, _ = _artifacts(run["_parameters"].task, flow)
    artifacts, opaque = _artifacts(run["end"].task, flow)
    tasks = []
    for step in run:
        found = sorted(step, key=lambda task: int(task.id))
        if len(found) > 1:
            tasks += [
                {"step": step.id, "number": at, "artifacts": _less(_artifacts(task, flow)[0], parameters)}
                for at, task in enumerate(found)
            ]
    said = {
        "flow": flow,
        "parameters": parameters,
        "artifacts": _less(artifacts, parameters),
        "opaque": {name: one for name, one in opaque.items() if name not in parameters},
        "tasks": sorted(tasks, key=lambda one: (one["step"], one["number"])),
    }
    Path(out).write_text(json.dumps(said), "utf-8")


def _run(metaflow: Any, pathspec: str) -> Any:
    try:
        return metaflow.Run(pathspec)
    except metaflow.exception.MetaflowNotFound:
        return None


def _less(artifacts: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in artifacts.items() if name not in parameters}


def _artifacts(task: Any, flow: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those that are plain, and of the others what Metaflow keeps them by."""
    plain: dict[str, Any] = {}
    opaque: dict[str, Any] = {}
    for one in sorted(task, key=lambda one: one.id):
        if one.id.startswith("_"):
            continue
        value: Any = NO
        if one.size <= LARGEST:
            try:
                value = _plain(one.data)
            except Exception:  # noqa: BLE001 - whatever a pickle does: then it is no plain data
                value = NO
        if value is NO:
            opaque[one.id] = {"bytes": one.size, "sha1": one.sha}
        elif not (one.id == "name" and value == flow):  # a flow's own name
            plain[one.id] = value
    return plain, opaque


def _plain(value: Any, deep: int = 0) -> Any:
    """A value as JSON holds it; ``NO`` for what it would change."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if value is None or type(value) in (bool, str):
        return value
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else NO
    if type(value) is float:
        return value if value - value == 0 else NO
    if deep < DEEPEST and type(value) is list:
        items = [_plain(one, deep + 1) for one in value]
        return NO if any(one is NO for one in items) else items
    if deep < DEEPEST and type(value) is dict and all(type(key) is str for key in value):
        pairs = {key: _plain(one, deep + 1) for key, one in value.items()}
        return NO if any(one is NO for one in pairs.values()) else pairs
    return NO


if __name__ == "__main__":
    main(*sys.argv[1:])
