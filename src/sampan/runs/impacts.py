"""Records of what changes of data were worth to a model: what was asked, and what was measured."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.store.database import Database

DATA: Final = "data"
Side = Literal["base", "candidate"]


class ImpactRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is measured: a model step trained on the tables of two refs (a branch, or ``@COMMIT``).

    ``judge``: on whose rows the models are judged. ``key``: columns that tell rows apart (found, if none are named);
    rows with one key are held out together. ``share``: of these, how many are held out. ``slices``: columns whose
    values are looked at one by one. ``time``: the column by which later rows are held out; None: the one that the step
    or its table declares, if any; empty: none, rows are held out at random.
    """

    step: str
    base: str = "main"
    candidate: str
    seeds: Annotated[int, msgspec.Meta(ge=2, le=30)] = 5
    slices: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    judge: Side = "candidate"
    share: Annotated[float, msgspec.Meta(ge=0.05, le=0.5)] = 0.25
    time: str | None = None
    reason: str = ""


class ImpactFigure(msgspec.Struct, frozen=True):
    """A figure of both models, means over the seeds. ``low`` and ``high`` bound 95 % of the ``difference``, which is
    candidate - base; ``verdict``: better, worse, no difference shown, not known."""

    metric: str
    higher: bool
    base: float | None
    candidate: float | None
    difference: float | None
    low: float | None
    high: float | None
    verdict: str

    @property
    def gain(self) -> float | None:
        """The difference, with the sign that says better by more than 0."""
        return None if self.difference is None else self.difference if self.higher else -self.difference


class ImpactSlice(msgspec.Struct, frozen=True):
    """The figures on the rows with one value of a column. ``rows``: held out per seed; ``few``: too few to go by."""

    column: str
    value: str
    rows: float
    few: bool
    figures: tuple[ImpactFigure, ...]


class Judgement(msgspec.Struct, frozen=True):
    """Both models on the held-out rows of one ref. ``rows``: per seed; ``obstacle``: why there are no figures."""

    side: Side
    rows: float = 0.0
    figures: tuple[ImpactFigure, ...] = ()
    slices: tuple[ImpactSlice, ...] = ()
    obstacle: str = ""


class TableChange(msgspec.Struct, frozen=True):
    """How an input differs between the refs; ``targets``: rows whose target differs."""

    name: str
    before: str
    after: str
    rows_before: int
    rows_after: int
    added: int
    removed: int
    changed: int
    targets: int
    new_columns: tuple[str, ...] = ()
    lost_columns: tuple[str, ...] = ()


class ImpactReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. ``judged`` is the judgement that counts, ``other`` the same models on the other ref's rows.
    ``periods``: where later rows were held out by ``time``, for each seed after when and up to when it was judged."""

    kind: str
    target: str
    table: str
    key: tuple[str, ...]
    share: float
    seeds: int
    time: str = ""
    periods: tuple[tuple[int, int], ...] = ()
    judged: Judgement
    other: Judgement
    tables: tuple[TableChange, ...]
    git: str | None = None
    notes: tuple[str, ...] = ()


class Impact(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. ``seconds``: of all that was trained and judged for it, ``cost`` what these cost."""

    id: str
    key: str
    kind: str = DATA
    step: str
    base: str
    candidate: str
    base_commit: str
    candidate_commit: str
    report: ImpactReport
    seconds: float
    cost: float
    currency: str
    actor: str
    reason: str
    created: int

    @property
    def main(self) -> ImpactFigure | None:
        """The figure that it is ranked by."""
        return next(iter(self.report.judged.figures), None)


def sentence(one: Impact) -> str:
    """What a measurement found, in one sentence."""
    figure = one.main
    if figure is None or figure.difference is None:
        return f"{one.step} could not be judged on the held-out rows."
    text = f"{figure.metric} {figure.base:.4f} on {one.base}, {figure.candidate:.4f} on {one.candidate}"
    if figure.low is None or figure.high is None:
        return f"{text}; too few rows for an interval."
    between = f"{figure.difference:+.4f}, 95 % between {figure.low:+.4f} and {figure.high:+.4f}"
    if figure.verdict not in ("better", "worse"):
        return f"{text}: {between}, which includes 0. No difference is shown."
    return f"{text}: {between}. {one.step} is {figure.verdict} with the data of {one.candidate}."


class Impacts:
    """The measurements of a workspace. The one writer writes, the faces read."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def put(self, impact: Impact) -> Impact:
        """Record a measurement. Of the same one, made again, the first id and time stay."""
        with self.db.transaction() as records:
            row = records.execute("SELECT id, created FROM impacts WHERE key = ?", (impact.key,)).fetchone()
            if row is not None:
                impact = msgspec.structs.replace(impact, id=row["id"], created=row["created"])
            names = Impact.__struct_fields__
            values = [_text(v) if isinstance(v, ImpactReport) else v for v in msgspec.structs.astuple(impact)]
            records.execute(
                f"INSERT OR REPLACE INTO impacts ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values
            )
        return impact

    def get(self, id: str, by: int | None = None) -> Impact:
        """A measurement by its id, a beginning of it that no other has, or ``last``; ``by``: of those of that instant.

        Raises NotFound.
        """
        if id == "last":
            sql = "SELECT * FROM impacts WHERE created <= ? ORDER BY created DESC, rowid DESC LIMIT 1"
            rows = self.db.rows(sql, (_EVER if by is None else by,))
        else:
            rows = self.db.rows("SELECT * FROM impacts WHERE id = ?", (id,))
            if not rows and len(id) >= 4 and id.isalnum():
                rows = self.db.rows("SELECT * FROM impacts WHERE id LIKE ? LIMIT 2", (id + "%",))
        if len(rows) != 1:
            problem = "more than one begins so" if rows else "there is none"
            raise NotFound(f"Find the measurement {id!r}", problem, "`sampan data list` shows them.")
        found = _impact(rows[0])
        if by is not None and found.created > by:
            attempted = f"See the measurement {found.id} as of {iso(by)}"
            raise NotFound(attempted, f"it was made at {iso(found.created)}", "Choose a later time.")
        return found

    def list(self, limit: int = 200, by: int | None = None) -> Sequence[Impact]:
        """Newest first; ``by``: those that there were at that instant."""
        sql = "SELECT * FROM impacts WHERE created <= ? ORDER BY created DESC, rowid DESC LIMIT ?"
        rows = self.db.rows(sql, (_EVER if by is None else by, limit))
        return [_impact(row) for row in rows]


_EVER: Final = 1 << 62


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _impact(row: Any) -> Impact:
    values = {name: row[name] for name in Impact.__struct_fields__}
    values["report"] = msgspec.json.decode(row["report"], type=ImpactReport)
    return Impact(**values)
