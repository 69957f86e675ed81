"""What a shadow said beside what was answered, request by request: where both agree, how well each is calibrated, how
long each took, and where they differ most. All from the log, whose pairs are made once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.log.outcomes import KNOWN_SQL

if TYPE_CHECKING:
    from sampan.log.log import Log

    Ask = Callable[[str], Sequence[tuple[Any, ...]]]

_MOST: Final = 20  # pairs, changes and errors that are listed
_BINS: Final = 10
#: Events keep a prediction as JSON: a number, a label, a list of probabilities, or a tensor with its data. Lists lie as
#: far apart as that of their elements which does most; of large tensors only the digests are here. Where a day's cap
#: has held the champion's action back, it is what its rules had asked for: no cap holds a shadow's.
_PAIRS: Final = """
CREATE TEMP TABLE pairs AS WITH answered AS (
    SELECT prediction_id, rollout, stage, prediction AS other, action AS other_action, rule AS other_rule, error,
        latency_us AS other_us, calls
    FROM shadow WHERE rollout IN ({rollouts})
), pairs AS (
    SELECT answered.prediction_id, answered.rollout, _time AS time, entity, prediction AS said, other,
        if((exposure->>'held') <> '', exposure->>'held', action) AS action, other_action,
        if((exposure->>'held') <> '', exposure->>'rule', rule) AS rule,
        other_rule, answered.error, latency_us, other_us, calls,
        try_cast(prediction AS DOUBLE) AS x, try_cast(other AS DOUBLE) AS y,
        try_cast(if(starts_with(prediction, '{{'), prediction->>'$.data', prediction) AS DOUBLE[]) AS xs,
        try_cast(if(starts_with(other, '{{'), other->>'$.data', other) AS DOUBLE[]) AS ys,
        coalesce(abs(x - y), CASE WHEN len(xs) = len(ys) THEN
            list_max([abs(xs[n] - ys[n]) for n in range(1, len(xs) + 1)]) END) AS apart
    FROM answered JOIN prediction ON prediction._id = answered.prediction_id
    WHERE '{against}' IN ('', prediction.bundle)
) SELECT * EXCLUDE (xs, ys) FROM pairs;
CREATE TEMP VIEW fair AS SELECT * FROM pairs WHERE other IS NOT NULL AND error = '';
CREATE TEMP TABLE judged AS WITH known AS (
    SELECT prediction_id, lower(CAST(value AS VARCHAR)) AS value FROM ({known})
)
    SELECT rollout, x, y,
        CASE value WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 ELSE try_cast(value AS DOUBLE) END AS truth
    FROM fair JOIN known USING (prediction_id) WHERE x IS NOT NULL AND y IS NOT NULL
"""
_JUDGED: Final = (
    "count(*), bool_and(truth IN (0, 1) AND x BETWEEN 0 AND 1 AND y BETWEEN 0 AND 1),"
    " avg((x - truth) ** 2), avg((y - truth) ** 2)"
)


class Pair(msgspec.Struct, frozen=True):
    """One request: what was answered, and what the shadow said. ``apart``: by how much the two predictions differ."""

    prediction_id: str
    time: int
    entity: str
    said: Any
    other: Any
    action: str
    other_action: str
    rule: str
    other_rule: str
    apart: float | None


class Bin(msgspec.Struct, frozen=True):
    """Requests to which somebody said a probability in this tenth: how many, what was said on average, and the share of
    them that turned out to be true."""

    tenth: int
    count: int
    said: float
    true: float


class Calibration(msgspec.Struct, frozen=True):
    """Of the requests whose outcome is known. Brier score: the mean of (p - y)² (Brier, Monthly Weather Review 78,
    1950); 0 is best. ``bins`` of the champion, and of the candidate."""

    known: int
    brier: tuple[float, float]
    bins: tuple[tuple[Bin, ...], tuple[Bin, ...]]


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """Champion first, candidate second in every pair of figures. Latencies in microseconds."""

    asked: int
    answered: int
    same_action: int
    apart: tuple[float, float, float] | None
    """Half, nineteen in twenty, and all of the predictions differ by at most this; None if they are no numbers."""
    correlation: float | None
    latency: tuple[tuple[float, float], tuple[float, float]] | None
    """The median and what 99 of 100 stay below, of each."""
    calibration: Calibration | None
    changes: tuple[tuple[str, str, int], ...]
    """Actions that became others, the most frequent first."""
    errors: tuple[tuple[str, int], ...]
    calls: tuple[tuple[str, int], ...]
    furthest: tuple[Pair, ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """Of one shadow among others what can be put in a line. ``apart``: half of the predictions differ by at most this;
    ``latency``: its median and what 99 of 100 stay below, in microseconds; ``brier``: the champion's and its own, of
    ``known`` outcomes."""

    asked: int
    answered: int
    same_action: int
    apart: float | None
    latency: tuple[float, float] | None
    known: int
    brier: tuple[float, float] | None


def compare(shadow: str, log: "Log", known_by: int | None = None, against: str = "") -> Compared:
    """All there is to be said of a shadow, by its id or its rollout's; ``known_by``: of what was known at that instant;
    ``against``: only of what that bundle has answered.

    Raises SampanError for what cannot be read.
    """
    with _pairs([shadow], log, known_by, against) as ask:
        return _compared(ask)


def summarize(shadows: Sequence[str], log: "Log", known_by: int | None, against: str) -> dict[str, Summary]:
    """Several shadows beside the same champion, by their ids; those that were asked something. As ``compare``."""
    if not shadows:
        return {}
    with _pairs(shadows, log, known_by, against) as ask:
        judged = {
            id: (known, (one, other) if fits else None)
            for id, known, fits, one, other in ask(f"SELECT rollout, {_JUDGED} FROM judged GROUP BY rollout")
        }
        rows = ask(
            "SELECT rollout, count(*), count(*) FILTER (other IS NOT NULL AND error = ''),"
            " count(*) FILTER (other IS NOT NULL AND error = '' AND action = other_action),"
            " median(apart) FILTER (error = ''), quantile_cont(other_us, 0.5) FILTER (error = ''),"
            " quantile_cont(other_us, 0.99) FILTER (error = '') FROM pairs GROUP BY rollout"
        )
    found = {}
    for id, asked, answered, same, apart, half, most in rows:
        known, brier = judged.get(id, (0, None))
        found[id] = Summary(
            asked=asked,
            answered=answered,
            same_action=same,
            apart=apart,
            latency=(half, most) if answered else None,
            known=known,
            brier=brier,
        )
    return found


@contextmanager
def _pairs(shadows: Sequence[str], log: "Log", known_by: int | None, against: str) -> "Iterator[Ask]":
    from sampan.lake.query import open_sources, quote_text

    position = log.position()
    connection = open_sources(
        {name: log.source(name, position, known_by) for name in ("prediction", "shadow", "outcome")}, threads=2
    )
    rollouts = ", ".join(map(quote_text, shadows))
    try:
        connection.execute(_PAIRS.format(rollouts=rollouts, known=KNOWN_SQL, against=against))  # of our own records
        yield lambda text: connection.execute(text).fetchall()
    finally:
        connection.close()


def _compared(ask: "Ask") -> Compared:
    (asked, answered, same, half, most, all_, together, *took), *_ = ask(
        "SELECT count(*), count(*) FILTER (other IS NOT NULL AND error = ''),"
        " count(*) FILTER (other IS NOT NULL AND error = '' AND action = other_action),"
        " median(apart) FILTER (error = ''), quantile_cont(apart, 0.95) FILTER (error = ''),"
        " max(apart) FILTER (error = ''), corr(x, y) FILTER (error = ''),"
        " quantile_cont(latency_us, 0.5), quantile_cont(latency_us, 0.99),"
        " quantile_cont(other_us, 0.5) FILTER (error = ''), quantile_cont(other_us, 0.99) FILTER (error = '')"
        " FROM pairs"
    )
    changes = ask(
        "SELECT action, other_action, count(*) FROM fair WHERE action <> other_action"
        f" GROUP BY ALL ORDER BY 3 DESC, 1, 2 LIMIT {_MOST}"
    )
    errors = ask(f"SELECT error, count(*) FROM pairs WHERE error <> '' GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT {_MOST}")
    called = "SELECT unnest(calls) AS call FROM pairs"
    calls = ask(f"SELECT call, count(*) FROM ({called}) AS called GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT {_MOST}")
    furthest = ask(
        "SELECT prediction_id, epoch_us(time), entity, CAST(said AS VARCHAR), CAST(other AS VARCHAR), action,"
        " other_action, rule, other_rule, apart FROM fair"
        " WHERE action <> other_action OR CAST(said AS VARCHAR) <> CAST(other AS VARCHAR)"
        f" ORDER BY apart DESC NULLS LAST, action = other_action, prediction_id LIMIT {_MOST}"
    )
    return Compared(
        asked=asked,
        answered=answered,
        same_action=same,
        apart=None if half is None else (half, most, all_),
        correlation=_finite(together),
        latency=((took[0], took[1]), (took[2], took[3])) if answered else None,
        calibration=_calibration(ask),
        changes=tuple((one, other, count) for one, other, count in changes),
        errors=tuple((said, count) for said, count in errors),
        calls=tuple((said, count) for said, count in calls),
        furthest=tuple(_pair(*row) for row in furthest),
    )


def _calibration(ask: "Ask") -> Calibration | None:
    """None where no outcome is known, or what is said are no probabilities of something that is true or not."""
    (known, fits, one, other), *_ = ask(f"SELECT {_JUDGED} FROM judged")
    if not known or not fits:
        return None
    bins = [
        tuple(
            Bin(*row)
            for row in ask(
                f"SELECT least(floor({side} * {_BINS}), {_BINS - 1})::INT, count(*), avg({side}), avg(truth)"
                " FROM judged GROUP BY 1 ORDER BY 1"
            )
        )
        for side in ("x", "y")
    ]
    return Calibration(known, (one, other), (bins[0], bins[1]))


def _pair(id: str, time: int, entity: str, said: str, other: str, *rest: Any) -> Pair:
    return Pair(id, time, entity, _plain(said), _plain(other), *rest)


def _finite(value: float | None) -> float | None:
    return None if value is None or value != value else value


def _plain(text: str | None) -> Any:
    try:
        return msgspec.json.decode(text or "null")
    except msgspec.DecodeError:
        return text
