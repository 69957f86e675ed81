"""What of rollouts needs somebody, as the watch tells it: at most one thing of each endpoint, the newest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.release.stages import ASKING
from sampan.watch.releasing import Trouble

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace


def troubles(app: "Workplace") -> Sequence[Trouble]:
    """Open incidents, and rollouts whose patience is over."""
    found: dict[str, Trouble] = {}
    for one in app.rollouts.incidents():
        if one.closed is None and one.endpoint not in found:
            candidate = app.rollouts.get(one.rollout).versions[1]
            found[one.endpoint] = Trouble(
                one.endpoint,
                f"{candidate} was taken back from {one.endpoint}",
                one.says,
                "its rollout stopped it by itself; what was in force before answers again",
                f"/incidents/{one.id}",
                f'Look at its predictions, then say what it was: `sampan incident close {one.id} --finding "…"`.',
                one.id,
            )
    for endpoint in app.endpoints.list():
        begun = app.rollouts.active(endpoint.name)
        if begun is not None and endpoint.name not in found:
            state, _ = app.rollouts.state(begun)
            if state.phase == ASKING:
                found[endpoint.name] = Trouble(
                    endpoint.name,
                    f"The rollout of {begun.versions[1]} on {endpoint.name} asks what is to become of it",
                    state.why,
                    "there was not enough evidence within its patience",
                    f"/rollouts/{begun.id}",
                    f"`sampan rollout resume {endpoint.name} --reason …` waits on, `… back` ends it.",
                    begun.id,
                )
    return list(found.values())
