"""The end of a run that succeeded: its models get numbers and its tables appear, all together."""

from collections.abc import Mapping

from sampan.flow.state import Means, NodeState, Order


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


def publish(means: Means, order: Order, states: Mapping[str, NodeState], request: str) -> str | None:
    """One commit with all tables of this run that are not on the branch already. Returns the branch's head."""
    lake = means.lake
    head = lake.head()
    there = lake.commit_of(head).tables if head else {}
    changes: dict[str, str | None] = {}
    for name, state in states.items():
        table = state.stored.table if state.stored is not None else None
        if table is None:
            continue
        if there.get(name) != table.id or not lake.present(table.id):
            assert state.decision is not None
            lake.add(table, name, order.id, state.decision.key)
            changes[name] = table.id
    if order.target is None:
        changes.update({name: None for name in there if name not in order.workspace.graph.nodes})
    if not changes:
        return head
    reason = order.reason or f"run of {order.target or 'the flow'}"
    made = lake.commit("main", changes, expected=head, run=order.id, actor=order.actor, reason=reason, request=request)
    return made.id
