"""The decisions of one endpoint, each once with what turned out to be true of it: joined once for all that a page asks.

The sums are those of ``sampan.serve.value.EARNED_SQL``. Decisions about one entity are no independent evidence: the
error of a mean is that of sums by entity (Liang and Zeger, "Longitudinal data analysis using generalized linear
models", Biometrika 73, 1986; with G/(G−1)). An interval is mean ± 1.96 errors, by the central limit theorem, and given
from thirty entities on.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sampan.base.words import counted
from sampan.lake.query import quote_text
from sampan.log.outcomes import KNOWN_OF, MATCHED_SQL

LEAST: Final = 30  # entities with a known outcome, from which on there is an interval
#: What ``margin_of`` takes, of rows that have for one entity each how much is known (``known``) and its ``money``.
SUMS: Final = (
    "coalesce(sum(known), 0), count(*) FILTER (known > 0), coalesce(sum(money), 0),"
    " sum(money * money), sum(money * known), sum(known * known)"
)
_SHOWN: Final = 3
_LONGEST: Final = 40
#: ``moment`` is in UTC without saying so: of a time that states its zone, DuckDB cuts hours off ten times as slowly.
#: Each value is read once, as JSON is what most of the time goes into.
_JUDGED: Final = """
CREATE TEMP TABLE matched AS
SELECT prediction_id, endpoint, value, _time, _received, _position FROM ({matched});
CREATE TEMP TABLE judged AS
WITH known AS ({known}), settled AS (
    SELECT prediction_id, endpoint, action, value FROM review WHERE starts_with(_position, 'reviews:')
), one AS (
    SELECT {columns} CASE WHEN p.entity = '' THEN p._id ELSE p.entity END AS unit,
        p.action, p.rule, p.version, p.latency_us, p.error <> '' AS failed,
        if(known.value IS NULL, NULL, settled.action) AS settled, make_timestamp(epoch_us(p._time)) AS moment,
        CAST(known.value AS VARCHAR) AS outcome, known.newest,
        json_transform(p.value, '{{"expected": "DOUBLE", "outcomes": "JSON"}}') AS made, settled.value AS remade
    FROM asked AS p LEFT JOIN known ON known.prediction_id = p._id
    LEFT JOIN settled ON settled.prediction_id = p._id AND settled.endpoint = p.endpoint
)
SELECT * EXCLUDE (made, remade), made.expected AS expected,
    CAST(CAST(if(remade IS NULL, made.outcomes, remade->'outcomes')->>outcome AS DECIMAL(18, 6)) AS DOUBLE) AS earned,
    outcome IS NOT NULL AND earned IS NULL AND coalesce(CAST(made.outcomes AS VARCHAR), '{{}}') NOT IN ('{{}}', 'null')
        AS unnamed
FROM one
"""


class Unnamed(msgspec.Struct, frozen=True):
    """Outcomes whose value no action's values name: they are known, and count for nothing in money. ``says``: that in
    words, with the most frequent values; empty for none."""

    count: int = 0
    says: str = ""


def judge(connection: Any, endpoint: str, columns: Sequence[str] = ()) -> None:
    """Make the view ``asked`` of an endpoint's predictions, and tables: ``matched`` of all outcomes, and ``judged`` of
    its decisions with ``columns`` of ``p``, their prediction, and ``unit``, whom they are about.

    Not by parameters: duckdb imports pandas, if it is installed, to look at their values.
    """
    connection.execute(f"CREATE VIEW asked AS SELECT * FROM prediction WHERE endpoint = {quote_text(endpoint)}")
    known, shown = KNOWN_OF.format(matched="matched"), "".join(f"{column}, " for column in columns)
    connection.execute(_JUDGED.format(matched=MATCHED_SQL, known=known, columns=shown))


def margin_of(known: int, entities: int, money: float, squares: float, crossed: float, weights: float) -> float | None:
    """Half of the 95 % interval of money per 1,000 decisions; None where an interval would say too much."""
    if entities < LEAST:
        return None
    mean = money / known  # the sum over entities of (money − mean × decisions)² is the spread
    spread = max(0.0, squares - 2 * mean * crossed + mean * mean * weights) * entities / (entities - 1)
    return 1.96 * float(spread**0.5) / known * 1000


def margin(connection: Any) -> float | None:
    """``margin_of`` all that is ``judged``."""
    units = "SELECT count(earned) AS known, coalesce(sum(earned), 0) AS money FROM judged GROUP BY unit"
    return margin_of(*connection.execute(f"SELECT {SUMS} FROM ({units})").fetchone())


def unmatched(connection: Any, endpoint: str) -> int:
    """How many outcomes by key no prediction of an endpoint precedes."""
    where = f"prediction_id IS NULL AND endpoint = {quote_text(endpoint)}"
    ((count,),) = connection.execute(f"SELECT count(*) FROM matched WHERE {where}").fetchall()
    return int(count)


def unnamed(connection: Any) -> Unnamed:
    """What is said of those of ``judged``."""
    rows = connection.execute(
        "SELECT outcome, count(*), sum(count(*)) OVER () FROM judged WHERE unnamed"
        f" GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_SHOWN + 1}"
    ).fetchall()
    if not rows:
        return Unnamed()
    count = int(rows[0][2])
    names = [name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…" for name, *_ in rows]
    shown = ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
    verb = "has a value" if count == 1 else "have values"
    return Unnamed(count, f"{counted(count, 'outcome')} {verb} that no action knows: {shown}")
