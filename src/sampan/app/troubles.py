"""What of rollouts needs somebody, as the watch tells it: at most one thing of each endpoint, what could not be done
first, else the newest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sampan.base.errors import Refused, SampanError
from sampan.release.stages import ASKING
from sampan.watch.releasing import Trouble

if TYPE_CHECKING:
    from sampan.app import App


def troubles(app: "App") -> Sequence[Trouble]:
    """What a rollout came to and could not be done, open incidents, and rollouts whose patience is over."""
    found: dict[str, Trouble] = {}
    for name, stuck in list(app.stuck.items()):
        newest = app.rollouts.list(name)[0]
        found[name] = Trouble(
            name,
            f"{stuck.candidate} could not be taken back from {name}, and answers"
            if stuck.back
            else f"{stuck.candidate} cannot be led on over {name}",
            stuck.says,
            f"rollout {newest.id}: {app.rollouts.lines(newest)[-1].why}",
            f"/rollouts/{newest.id}",
            f"{stuck.advice} It is tried again every few seconds.".strip(),
            newest.id,
        )
    for one in app.rollouts.incidents():
        if one.closed is None and one.endpoint not in found:
            begun = app.rollouts.get(one.rollout)
            champion, candidate = begun.versions
            found[one.endpoint] = Trouble(
                one.endpoint,
                f"{candidate} was taken back from {one.endpoint}",
                one.says,
                "its rollout stopped it by itself; what was in force before answers again"
                + (
                    f", until its process starts anew: {unsigned}. Sign it: `sampan model sign {champion} --key FILE`"
                    if (unsigned := _unsigned(app, one.endpoint, begun.champion))
                    else ""
                ),
                f"/incidents/{one.id}",
                f'Look at its predictions, then say what it was: `sampan incident close {one.id} --finding "…"`.',
                one.id,
            )
    for endpoint in app.endpoints.list():
        asking = app.rollouts.active(endpoint.name)
        if asking is not None and endpoint.name not in found:
            state, _ = app.rollouts.state(asking)
            if state.phase == ASKING:
                found[endpoint.name] = Trouble(
                    endpoint.name,
                    f"The rollout of {asking.versions[1]} on {endpoint.name} asks what is to become of it",
                    state.why,
                    "there was not enough evidence within its patience",
                    f"/rollouts/{asking.id}",
                    f"`sampan rollout resume {endpoint.name} --reason …` waits on, `… back` ends it.",
                    asking.id,
                )
    return list(found.values())


def _unsigned(app: "App", endpoint: str, champion: str) -> str:
    """Why what answers again would not be loaded any more; empty where it would."""
    now = app.endpoints.find(endpoint)
    try:
        if now is not None and now.bundle == champion:
            app.endpoints.demand(champion)
    except Refused as error:
        return error.obstacle
    except SampanError:
        return ""  # it is told elsewhere that settings or records cannot be read
    return ""
