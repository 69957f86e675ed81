"""What a run was made from, recorded before its first step and completed after its last.

``sampan.runs.provenance`` tells it as the eleven things that a result may depend on. What cannot be recorded keeps the
run from starting.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sampan import __version__
from sampan.base.digests import digest_file
from sampan.base.errors import BadWorkspace
from sampan.flow.graph import Node
from sampan.flow.hardware import accelerator, device, runtime
from sampan.flow.key import seed_of
from sampan.flow.state import NodeState
from sampan.flow.workspace import Workspace
from sampan.money.prices import Prices


def opening(workspace: Workspace, nodes: Iterable[Node], prices: Prices, **facts: Any) -> dict[str, Any]:
    """The part of a manifest that is known before the first step. Raises SampanError for what cannot be recorded."""
    system = os.uname()
    packages = workspace.packages.all()
    return {
        "sampan": __version__,
        "python": workspace.interpreter.version,
        "os": f"{system.sysname} {system.release}",
        **device(),
        "executable": workspace.interpreter.executable,
        "lock": _lock(workspace.folder.root / "uv.lock"),
        "packages": packages,
        "sources": workspace.packages.sources(),
        "framework": workspace.framework(nodes),
        "accelerator": accelerator(packages),
        "runtime": runtime(),
        "prices": {"currency": prices.currency, "this_machine_per_hour": prices.this_machine_per_hour},
        **facts,
    }


def closing(workspace: Workspace, states: Mapping[str, NodeState]) -> dict[str, Any]:
    """The part of a manifest that tells what became of each step."""
    return {
        name: {
            "state": state.state,
            "key": state.decision.key if state.decision else None,
            "code": workspace.code_digest(state.node),
            "inputs": dict(state.decision.parts.inputs) if state.decision else {},
            "parameters": workspace.parameters(state.node),
            "seed": _seed(state),
            "output": state.digest or None,
            "seconds": state.seconds,
            "memory": state.memory,
            "warnings": state.warnings,
            "flags": flags(workspace, state),
        }
        for name, state in states.items()
    }


def flags(workspace: Workspace, state: NodeState) -> list[str]:
    """What makes a node's result less certain than it could be."""
    table = state.stored.table if state.stored is not None else None
    return [*workspace.flags(state.node), *(table.flags if table is not None else ())]


def _lock(path: Path) -> str | None:
    """The digest of the lock of the packages; None where there is none. Raises BadWorkspace for one that hides."""
    try:
        return digest_file(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadWorkspace(
            "Record the packages of this run",
            f"{path} is there and cannot be read ({error.strerror})",
            "Make it readable, or remove it: `uv lock` writes another.",
        ) from None


def _seed(state: NodeState) -> int | None:
    if state.node.query or state.decision is None:
        return None
    return seed_of(state.decision.key, state.node.options.get("seed"))
