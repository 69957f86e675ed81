"""Records of why metrics of models differ between two runs: what was swapped, what came of it, whose share is what."""

from typing import Any, Final

import msgspec

from sampan.store.database import Database

CODE: Final = "code"
DATA: Final = "data"
PARAMETERS: Final = "parameters"
ENVIRONMENT: Final = "environment"  # Python and packages
MACHINE: Final = "machine"  # and variables of the environment
#: What is left where nothing but the training itself differs.
CHANCE: Final = "chance"


class ExplainRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Two runs of the flow, by their ids or beginnings of them; ``model``: only this one."""

    before: str
    after: str
    model: str = ""


class Factor(msgspec.Struct, frozen=True):
    """Something in which the runs differ. ``what``: in words; ``swapped``: whether it could be; ``said``: why not."""

    name: str
    what: tuple[str, ...]
    swapped: bool = True
    said: str = ""


class Combination(msgspec.Struct, frozen=True):
    """The factors that are as in the second run, and what was trained so. ``runs``: those of the flow that did it;
    ``metrics`` by model; ``error``: by model, why there are none."""

    swapped: tuple[str, ...]
    runs: tuple[str, ...] = ()
    metrics: dict[str, dict[str, float]] = {}
    error: dict[str, str] = {}


class Share(msgspec.Struct, frozen=True):
    """A factor's part in the change of a metric. ``first``: what it changes in the first run, alone; ``second``: what
    it changes as the last one, before the second run; ``share``: its Shapley value, None if there is none."""

    factor: str
    share: float | None
    first: float | None = None
    second: float | None = None


class ExplainedMetric(msgspec.Struct, frozen=True):
    """A metric of a model in both runs. The shares add up to the difference where ``orders`` is not 0: the number of
    orders of the factors that they are means of, out of ``of``."""

    model: str
    metric: str
    before: float
    after: float
    difference: float
    shares: tuple[Share, ...]
    orders: int
    of: int


class ExplanationPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What it takes: so many combinations, of which so many models have to be trained."""

    before: str
    after: str
    models: tuple[str, ...]
    factors: tuple[Factor, ...]
    combinations: int
    trainings: int
    seconds: float
    cost: float
    currency: str
    notes: tuple[str, ...] = ()


class ExplanationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    factors: tuple[Factor, ...]
    combinations: tuple[Combination, ...]
    metrics: tuple[ExplainedMetric, ...]
    notes: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """One explanation, of two runs by their whole ids. ``seconds`` and ``cost``: of what was trained for it."""

    id: str
    before: str
    after: str
    report: ExplanationReport
    seconds: float
    cost: float
    currency: str
    actor: str
    created: int


class Explanations:
    """The explanations of a workspace. The one writer writes, the faces read."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def put(self, made: Explanation) -> Explanation:
        names = Explanation.__struct_fields__
        values = [getattr(made, name) for name in names]
        values[names.index("report")] = msgspec.json.encode(made.report).decode()
        with self.db.transaction() as records:
            records.execute(
                f"INSERT INTO explanations ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values
            )
        return made

    def last(self, before: str, after: str) -> Explanation | None:
        """The newest one from one run to another."""
        sql = "SELECT * FROM explanations WHERE before = ? AND after = ? ORDER BY created DESC, rowid DESC LIMIT 1"
        row = self.db.row(sql, (before, after))
        if row is None:
            return None
        values: dict[str, Any] = {name: row[name] for name in Explanation.__struct_fields__}
        values["report"] = msgspec.json.decode(row["report"], type=ExplanationReport)
        return Explanation(**values)
