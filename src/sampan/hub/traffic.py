"""Who answered what in a rollout: by variant, how many decisions, how fast, how many failed; asked in SQL."""

from typing import TYPE_CHECKING

import msgspec

from sampan.hub.kept import Kept
from sampan.lake.query import Source, open_sources, quote_text

if TYPE_CHECKING:
    from sampan.log.log import Log


class Variant(msgspec.Struct):
    """Answers of one variant: champion, candidate, or shadow, which nobody was told. ``share``: of the decisions, None
    for a shadow; ``latency``: microseconds at the 50th and 99th percentile; ``failed``: errors and fallbacks, but for
    those of a candidate that was being loaded."""

    name: str
    version: str
    count: int
    share: float | None
    latency: tuple[float, float] | None
    failed: int
    last: int


_kept: Kept[list[Variant]] = Kept()


def traffic(log: "Log", rollout: str, by: int | None = None) -> list[Variant]:
    """By variant, the champion first, as of now or of a moment ago; ``by``: of what was known at an instant."""
    return _kept.ask(log, (rollout, by), lambda: _traffic(log, rollout, by))


def _traffic(log: "Log", rollout: str, by: int | None) -> list[Variant]:
    position = log.position()
    if not log.state("prediction", position).count:
        return []
    sources: dict[str, Source] = {name: log.source(name, position, by) for name in ("prediction", "shadow")}
    connection = open_sources(sources, threads=2)
    try:
        rows = connection.execute(
            f"""
            SELECT name, version, count(*), quantile_cont(latency_us, [0.5, 0.99]), count(*) FILTER (bad),
                   epoch_us(max(_received))
            FROM (
                SELECT variant AS name, version, latency_us, (error <> '' OR fallback <> '')
                       AND NOT (variant = 'candidate' AND aside <> '') AS bad, _received
                FROM prediction WHERE rollout = {quote_text(rollout)}
                UNION ALL
                SELECT 'shadow', version, latency_us, error <> '', _received
                FROM shadow WHERE rollout = {quote_text(rollout)}
            ) GROUP BY name, version ORDER BY name = 'champion' DESC, name, version
            """
        ).fetchall()
    finally:
        connection.close()
    answered = sum(row[2] for row in rows if row[0] != "shadow")
    return [
        Variant(
            name,
            version,
            count,
            count / answered if name != "shadow" else None,
            tuple(latency) if latency else None,
            failed,
            last,
        )
        for name, version, count, latency, failed, last in rows
    ]
