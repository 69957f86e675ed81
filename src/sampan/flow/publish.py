"""The end of a run that succeeded: its models get numbers and its tables appear, all together."""

from collections.abc import Mapping, Sequence
from typing import Any

from sampan.base.digests import digest_value
from sampan.flow.state import Means, NodeState, Order
from sampan.flow.workspace import Workspace
from sampan.runs.records import SCORED


def register(means: Means, order: Order, states: Mapping[str, NodeState]) -> tuple[str, ...]:
    """Number this run's models. Returns their references (``reorder@3``)."""
    if means.models is None:
        return ()
    found = []
    for name, state in states.items():
        if state.stored is not None and state.stored.model is not None:
            assert state.decision is not None
            version = means.models.register(state.stored.model, name, run=order.id, key=state.decision.key)
            found.append(version.ref)
    return tuple(found)


def definitions(workspace: Workspace, recipes: Mapping[str, Any]) -> dict[str, str]:
    """Node to a digest of all that defines it: code, parameters, packages, files; not its inputs. And ``contract T``
    to a digest of the code of each of the workspace's own contracts."""
    contracts = {
        f"contract {type}": workspace.event_code(type) for type, name in workspace.graph.events.items() if name
    }
    return {**contracts, **{name: digest_value(recipe)[:16] for name, recipe in recipes.items()}}


def _scored(means: Means, snapshot: str) -> bool:
    """Whether a table holds what a version answered: the flow does not make it, and does not take it away."""
    key = means.lake.snapshot(snapshot).key if means.lake.present(snapshot) else None
    result = means.runs.result(key) if key else None
    return result is not None and SCORED in result.parts


def publish(
    means: Means,
    order: Order,
    states: Mapping[str, NodeState],
    versions: Sequence[str],
    recipes: Mapping[str, Any],
    request: str,
) -> str | None:
    """One commit with all of this run that is not on its branch already: tables, models, definitions.

    Returns the branch's head."""
    lake = means.lake
    head = lake.head(order.branch)
    last = lake.commit_of(head) if head else None
    there = last.tables if last else {}
    changes: dict[str, str | None] = {}
    for name, state in states.items():
        table = state.stored.table if state.stored is not None else None
        if table is None:
            continue
        if there.get(name) != table.id or not lake.present(table.id):
            assert state.decision is not None
            lake.add(table, name, order.id, state.decision.key)
            changes[name] = table.id
    code = definitions(order.workspace, recipes)
    models: dict[str, int | None] = {}
    for name, at, number in (ref.partition("@") for ref in versions):
        models[name] = int(number) if at else None
    if order.target is None:
        nodes = order.workspace.graph.nodes
        changes.update({name: None for name, id in there.items() if name not in nodes and not _scored(means, id)})
        models.update({name: None for name in (last.models if last else {}) if name not in nodes})
    elif last is not None:
        code = {**last.code, **code}
    same = last is not None and last.code == code and {**last.models, **models} == last.models
    if same and not changes:
        return head
    made = lake.commit(
        order.branch,
        changes,
        expected=head,
        models=models,
        code=code,
        run=order.id,
        actor=order.actor,
        reason=order.reason or f"run of {order.target or 'the flow'}",
        request=request,
    )
    return made.id
