"""What a rollout's shadow said beside what was answered."""

import msgspec

from sampan.hub.charts import Chart, Series
from sampan.hub.parts import Parts, Query, as_of, begun
from sampan.release.records import RolloutRecords
from sampan.release.shadowed import Bin, Calibration, Compared, compare

_TENTHS = [(at + 0.5) / 10 for at in range(10)]


class ShadowedPage(msgspec.Struct):
    """Context of ``shadowed.html``."""

    rollout: str
    endpoint: str
    candidate: str
    champion: str
    compared: Compared
    charts: list[Chart]
    as_of: int | None = None


def shadowed(parts: Parts, query: Query) -> ShadowedPage:
    """The shadow of a rollout by its id."""
    then = as_of(query)
    found = RolloutRecords(parts.db, parts.clock).get(query["rollout"])
    begun(f"the rollout {found.id}", found.began, then)
    compared = compare(found.id, parts.log, then)
    champion, candidate = found.versions
    return ShadowedPage(
        rollout=found.id,
        endpoint=found.endpoint,
        candidate=candidate,
        champion=champion,
        compared=compared,
        charts=charts(compared, champion, candidate),
        as_of=then,
    )


def charts(compared: Compared, champion: str, candidate: str) -> list[Chart]:
    """What can be drawn of two that were compared."""
    return [_chart(compared.calibration, champion, candidate)] if compared.calibration is not None else []


def _chart(one: Calibration, champion: str, candidate: str) -> Chart:
    """How often it turned out to be true, by what was said."""

    def shares(bins: tuple[Bin, ...]) -> list[float | int | None]:
        there = {each.tenth: round(each.true, 4) for each in bins}
        return [there.get(at) for at in range(10)]

    better = candidate if one.brier[1] < one.brier[0] else champion
    return Chart(
        title="Calibration",
        says=f"Of {one.known:,} requests whose outcome is known: how many turned out to be true, by the probability"
        f" that was said. A calibrated model follows the dotted line. {better} has the lower Brier score.",
        x=[f"{middle:g}" for middle in _TENTHS],
        x_name="Said, about",
        numbered=True,
        unit="share that was true",
        series=[
            Series(name=champion, y=shares(one.bins[0]), colour="water"),
            Series(name=candidate, y=shares(one.bins[1]), colour="violet"),
            Series(name="calibrated", y=[*_TENTHS], colour="mute"),
        ],
        within=(0.0, 1.0),
    )
