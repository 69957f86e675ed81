"""What a change of data is worth to a model: its step trained on the tables of two refs, seed by seed, and compared.

The code is the workspace's of now on both sides; only the tables that the step needs differ. A seed settles which rows
are held out and what the step's random numbers begin with, and is the same for base and candidate. What is trained
and judged is kept under its key, as results of a run are; no version is registered and no branch moves.
"""

import shutil
from collections.abc import Callable, Iterator
from itertools import product
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sampan.base.digests import digest_value
from sampan.base.errors import NotFound, Usage
from sampan.base.ids import new_id
from sampan.flow.graph import MODEL, Node, did_you_mean
from sampan.flow.heldout import micros
from sampan.flow.job import JUDGE, HeldOut, Input, Job, Stored
from sampan.flow.jobs import Jobs
from sampan.flow.labour import Labour, Piece
from sampan.flow.outcome import Progress
from sampan.flow.plan import Planner
from sampan.flow.slots import Slots
from sampan.flow.state import Means, Order
from sampan.flow.values import decode
from sampan.flow.workspace import Workspace, git_commit
from sampan.lake.lake import Snapshot
from sampan.lake.query import Source, open_sources
from sampan.lake.rowkey import row_key
from sampan.models.paired import HIGHER, METRICS, Pair, estimate, verdict
from sampan.money.prices import read_prices
from sampan.runs.impacts import (
    Impact,
    ImpactFigure,
    ImpactReport,
    ImpactRequest,
    Impacts,
    ImpactSlice,
    Judgement,
    Side,
    TableChange,
)

if TYPE_CHECKING:
    from sampan.lake.diff import TableDiff

FEW: Final = 50
"""A slice with fewer held-out rows per seed is marked."""
_METHOD: Final = 1  # raise it when the same models on the same rows would be judged otherwise
_TIMES: Final = ("DATE", "TIMESTAMP")
_EVENT_TIME: Final = "_time"
_SEEDED: Final = ("seed", "random_state")
"""Parameters of a step, with a whole number as default, that get the seed."""
_SIDES: Final[tuple[Side, Side]] = ("base", "candidate")


class _Inputs(NamedTuple):
    """A ref, the commit that it is, and the tables that the step needs there."""

    ref: str
    commit: str
    tables: dict[str, Snapshot]


class Measuring:
    """One measurement. Raises NotFound and Usage before anything is trained."""

    def __init__(self, means: Means, request: ImpactRequest, on_event: Callable[[Progress], None] | None) -> None:
        self._means, self._request, self._tell = means, request, on_event
        self._attempted = f"Measure what {request.candidate} is worth to {request.step}"
        self._workspace = Workspace(means.folder)
        self._node = self._model_step()
        self._target = str(self._node.options["target"])
        self._kind = str(self._node.options.get("kind") or "binary")
        position = None if means.log is None else means.log.position()
        self._planner = Planner(self._workspace, means.runs, means.folder.data, means.log, position)
        self._events = [need for need in self._node.needs if need in self._workspace.graph.events]
        self._sides = {"base": self._inputs(request.base), "candidate": self._inputs(request.candidate)}
        self._table = self._training_table()
        self._time = self._time_column()
        self._cuts: tuple[tuple[int, int], ...] = ()
        self._order = Order(new_id(means.clock), self._node.name, self._workspace, position, logging=False)

    # -- what is compared

    def _model_step(self) -> Node:
        graph, step = self._workspace.graph, self._request.step
        models = sorted(name for name, node in graph.nodes.items() if node.kind == MODEL)
        there = f"Models here: {', '.join(models) or 'none'}."
        if step not in graph.nodes:
            raise NotFound(self._attempted, f"no step {step!r}", did_you_mean(step, models) or there)
        node = graph.nodes[step]
        if node.kind != MODEL:
            raise Usage(self._attempted, f"{step} is a {node.kind}, not a model", there)
        kind = node.options.get("kind") or "binary"
        if kind == "ranking" and not node.options.get("group"):
            raise Usage(
                self._attempted,
                f"{step} is a ranking model and does not say within what its rows are ranked",
                'Declare it: @model(kind="ranking", target="…", group="…").',
            )
        if not node.options.get("target"):
            raise Usage(
                self._attempted,
                f"{step} does not say what it predicts",
                f'Declare it: @model(kind="{kind}", target="…").',
            )
        return node

    def _inputs(self, ref: str) -> _Inputs:
        lake, graph = self._means.lake, self._workspace.graph
        needs = [need for need in self._node.needs if need not in graph.events]
        if not needs:
            raise Usage(
                self._attempted,
                f"{self._node.name} needs no table, only {', '.join(self._events) or 'nothing'}",
                "A branch holds tables: let the step take a table in which events and target stand.",
            )
        commit = lake.commit_at(ref)
        held = {} if commit is None else commit.tables
        for need in needs:
            if need not in held:
                made = "`sampan run` makes it" if ref == "main" else f"`sampan run --branch {ref}` makes it"
                raise NotFound(
                    self._attempted,
                    f"{ref} has no table {need!r}, which {self._node.name} needs",
                    f"It has: {', '.join(sorted(held)) or 'none'}. If {need} gives a table, {made}.",
                )
            if not lake.present(held[need]):
                raise NotFound(
                    self._attempted,
                    f"the files of table {need!r} of {ref} are gone",
                    "`sampan gc` removed what nothing kept. Its code builds it again with `sampan run`.",
                )
        assert commit is not None
        return _Inputs(ref, commit.id, {need: lake.snapshot(held[need]) for need in needs})

    def _training_table(self) -> str:
        """The one input that holds the target on both sides: its rows are split."""
        base, candidate = (self._sides[side] for side in _SIDES)
        for side in (base, candidate):
            named = {name: _columns(one) for name, one in side.tables.items()}
            found = [name for name, columns in named.items() if self._target in columns]
            if len(found) != 1:
                raise Usage(
                    self._attempted,
                    f"{'none' if not found else ' and '.join(found)} of its tables on {side.ref} "
                    f"{'has' if len(found) < 2 else 'have'} the target {self._target!r}",
                    "Its rows are held out, so exactly one input must hold the target.",
                )
        if found[0] not in base.tables or self._target not in _columns(base.tables[found[0]]):
            raise Usage(
                self._attempted,
                f"the target {self._target!r} stands in another table on {base.ref} than on {candidate.ref}",
                "Let one table hold it on both.",
            )
        return found[0]

    def _time_column(self) -> str:
        """The column by which later rows are held out; empty to hold them out at random. Raises Usage for one that is
        no time."""
        if self._request.time == "":
            return ""
        asked = self._request.time or str(self._node.options.get("time") or "")
        cut = (
            self._workspace.graph.nodes[self._table].incremental if self._table in self._workspace.graph.nodes else None
        )
        for name in filter(None, (asked, cut.column if cut else "", _EVENT_TIME)):
            types = {side: dict(self._sides[side].tables[self._table].fields).get(name) for side in _SIDES}
            if all(type is not None and type.startswith(_TIMES) for type in types.values()):
                return name
            if name == asked:
                side = next(side for side in _SIDES if not (types[side] or "").startswith(_TIMES))
                held = f"{asked} is {types[side]}" if types[side] else f"there is no column {asked!r}"
                raise Usage(
                    self._attempted,
                    f"{self._table} on {self._sides[side].ref} is to be held out by time, and {held} there",
                    "Name a column of days or instants: --time COLUMN, or hold rows out at random: --at-random.",
                )
        return ""

    def _periods(self) -> tuple[tuple[int, int], ...]:
        """For each seed the instant up to which is learned and the one up to which is judged, the latest first; none
        where rows are held out at random.

        Origins roll back from the last ``share`` of the judged rows, by as much again at most, so that half of the
        rows or more are always left to learn from if the share is a quarter. Raises Usage for times that tell too few
        rows apart.
        """
        if not self._time:
            return ()
        share, count = self._request.share, self._request.seeds
        back = min(share, (1 - share) / 2)
        starts = [1 - share - back * at / (count - 1) for at in range(count)]
        wanted = [*starts, *(start + share for start in starts)]
        sources: dict[str, Source] = {
            side: self._means.lake.source_of(self._sides[side].tables[self._table], side) for side in _SIDES
        }
        time, own = micros(self._time), self._request.judge
        learned, judged = f"count(*) FILTER ({time} <= ?)", f"count(*) FILTER ({time} > ? AND {time} <= ?)"
        with open_sources(sources) as db:
            row = db.execute(f"SELECT quantile_disc({time}, {wanted}) FROM {own}").fetchone()
            found = list(row[0]) if row and row[0] else []
            periods = tuple(zip(found[:count], found[count:], strict=True))
            for (since, until), side in product(periods, _SIDES):
                counts = db.execute(f"SELECT {learned}, {judged} FROM {side}", (since, since, until)).fetchone()
                if not counts or not counts[0] or (side == own and not counts[1]):
                    raise self._untimely(side)
        if not periods:
            raise self._untimely(own)
        return periods

    def _untimely(self, side: Side) -> Usage:
        return Usage(
            self._attempted,
            f"{self._time} tells too few rows of {self._table} on {self._sides[side].ref} apart: some seed would have"
            " none to learn from, or none to be judged on",
            "Hold rows out at random: --at-random. Or name another column: --time COLUMN.",
        )

    def _held(self, key: tuple[str, ...], seed: int) -> HeldOut:
        """What a seed holds out; seeds count from 1."""
        if not self._cuts:
            return HeldOut(key, self._request.share, seed)
        return HeldOut(key, self._request.share, seed, self._time, *self._cuts[seed - 1])

    @property
    def same(self) -> bool:
        """Whether both refs hold the same snapshots of all that the step needs, so that there is nothing to measure."""
        base, candidate = (self._sides[side].tables for side in _SIDES)
        return all(base[name].id == candidate[name].id for name in base)

    def _key(self) -> tuple[str, ...]:
        """The columns that tell rows apart, of one type on both refs. Raises Usage where there are none."""
        lake, snapshots = self._means.lake, [self._sides[side].tables[self._table] for side in _SIDES]
        asked = self._request.key
        if self._kind == "ranking":
            group = str(self._node.options["group"])
            if asked not in ((), (group,)):
                raise Usage(
                    self._attempted,
                    f"rows of a ranking are held out by what they are ranked within, {group}, and not by"
                    f" {', '.join(asked)}",
                    "Leave --key out.",
                )
            asked = (group,)
        if asked:
            for side, snapshot in zip(_SIDES, snapshots, strict=True):
                if absent := [name for name in asked if name not in _columns(snapshot)]:
                    raise Usage(
                        self._attempted,
                        f"{self._table} on {self._sides[side].ref} has no column {absent[0]!r}",
                        f"It has: {', '.join(_columns(snapshot))}.",
                    )
            types = [dict(snapshot.fields) for snapshot in snapshots]
            for name in asked:
                if types[0][name] != types[1][name]:
                    base, candidate = (
                        f"{of[name]} on {self._sides[side].ref}" for side, of in zip(_SIDES, types, strict=True)
                    )
                    raise Usage(
                        self._attempted,
                        f"the key column {name!r} of {self._table} is {base} and {candidate}",
                        "Rows would be held out of one alone. Cast it to one type on both, or name another.",
                    )
            return asked
        before, after = (lake.source_of(snapshot) for snapshot in snapshots)
        found = row_key(before, after, self._target)
        if not found:
            raise Usage(
                self._attempted,
                f"no column, and no two, tell the rows of {self._table} apart on both refs",
                "Name what does: --key COLUMN, of one type on both. Rows with one key are held out together.",
            )
        return found

    def _check_slices(self) -> None:
        columns = _columns(self._sides[self._request.judge].tables[self._table])
        if absent := [name for name in self._request.slices if name not in columns]:
            raise Usage(
                self._attempted,
                f"{self._table} on {self._sides[self._request.judge].ref} has no column {absent[0]!r} to slice by",
                f"It has: {', '.join(columns)}.",
            )

    # -- the whole

    def run(self, actor: str) -> Impact:
        """Train, judge, record. Raises StepFailed where a training or a judgement fails, Usage for rows without a
        column that a model takes."""
        self._check_slices()
        key, seeds = self._key(), range(1, self._request.seeds + 1)
        self._cuts = self._periods()
        slots = Slots(self._means.settings)
        jobs = Jobs(self._means, self._order, {}, slots)
        labour = Labour(self._means, self._order.id, self._node, slots, self._planner, self._tell)
        latest = self._means.runs.latest(self._node.name)
        about = f", about {latest.seconds * 2 * len(seeds):.0f} s if none is cached" if latest else ""
        self._say(
            "started",
            f"{self._node.name} is trained {2 * len(seeds)} times{about}; rows are told apart by {', '.join(key)}"
            + (f", later ones held out by {self._time}" if self._time else ""),
        )
        with labour:
            trained = labour.do([self._training(jobs, side, key, seed) for seed in seeds for side in _SIDES])
            models = {seed: (trained[2 * at], trained[2 * at + 1]) for at, seed in enumerate(seeds)}
            own = self._request.judge
            other: Side = "base" if own == "candidate" else "candidate"
            if unfit := self._unfit(own, trained):
                raise Usage(self._attempted, unfit, f"Judge on the rows of {self._sides[other].ref}: --judge {other}.")
            judged = labour.do([self._judging(jobs, own, models[seed], key, seed) for seed in seeds])
            pieces = [self._judging(jobs, other, models[seed], key, seed, False) for seed in seeds]
            seen = self._unfit(other, trained) or labour.try_(pieces)
        found = [_value(one, jobs) for one in judged]
        self._say("comparing", f"comparing the tables of {self._request.base} and {self._request.candidate}")
        report = ImpactReport(
            kind=self._kind,
            target=self._target,
            table=self._table,
            key=key,
            share=self._request.share,
            seeds=len(seeds),
            time=self._time,
            periods=self._cuts,
            judged=self._judgement(own, found),
            other=Judgement(other, obstacle=seen)
            if isinstance(seen, str)
            else self._judgement(other, [_value(one, jobs) for one in seen]),
            tables=tuple(self._changes()),
            git=git_commit(self._means.folder.root),
            notes=tuple(self._notes(key, found)),
        )
        made = Impacts(self._means.db).put(self._impact(report, labour, trained + judged, actor))
        shutil.rmtree(self._means.folder.data / "runs" / self._order.id, ignore_errors=True)
        self._say("succeeded", "")
        return made

    def _impact(self, report: ImpactReport, labour: Labour, results: list[Stored], actor: str) -> Impact:
        prices = read_prices(self._means.folder.config())
        base, candidate = (self._sides[side] for side in _SIDES)
        told = msgspec.structs.replace(self._request, base="", candidate="", reason="")
        tables = {side: {name: one.id for name, one in self._sides[side].tables.items()} for side in _SIDES}
        return Impact(
            id=self._order.id,
            key=digest_value([told, base.ref, candidate.ref, tables, [one.digest for one in results]]),
            step=self._node.name,
            base=base.ref,
            candidate=candidate.ref,
            base_commit=base.commit,
            candidate_commit=candidate.commit,
            report=report,
            seconds=labour.seconds,
            cost=prices.cost(labour.seconds, labour.part_of_machine),
            currency=prices.currency,
            actor=actor,
            reason=self._request.reason,
            created=self._means.clock.micros(),
        )

    # -- pieces of work

    def _training(self, jobs: Jobs, side: Side, key: tuple[str, ...], seed: int) -> Piece:
        node, given = self._node, self._sides[side]
        held = self._held(key, seed)
        inputs, digests = [], {}
        for need in node.needs:
            if need in self._events:
                inputs.append(jobs.input_of(need))
                digests[need] = self._planner.event_digest(need)
                continue
            one = given.tables[need]
            source = self._means.lake.source_of(one, need)
            inputs.append(Input(need, table=source, held=held if need == self._table else None))
            digests[need] = digest_value([one.id, [file.sha256 for file in one.files]])[:32]
        parts = self._workspace.parts(node, digests)
        label = f"{given.ref}, seed {seed}"
        digest = digest_value(["impact", parts, held])
        job = jobs.job(node, inputs, digest, label)
        named = {one.name: seed for one in node.parameters if one.name in _SEEDED and type(one.default) is int}
        job = msgspec.structs.replace(job, seed=seed, parameters={**job.parameters, **named})
        return Piece(label, digest, job, jobs.modules(node), parts, limited=True)

    def _judging(
        self,
        jobs: Jobs,
        side: Side,
        models: tuple[Stored, Stored],
        key: tuple[str, ...],
        seed: int,
        sliced: bool = True,
    ) -> Piece:
        snapshot, ref = self._sides[side].tables[self._table], self._sides[side].ref
        options: dict[str, Any] = {
            "target": self._target,
            "kind": self._kind,
            "held": msgspec.to_builtins(self._held(key, seed)),
            "slices": list(self._request.slices) if sliced else None,
            "sides": [self._sides[one].ref for one in _SIDES],
            "rows": ref,
        }
        digest = digest_value(["judge", _METHOD, snapshot.id, [one.digest for one in models], options])
        label = f"judged on {ref}, seed {seed}"
        job = jobs.job(self._node, [], digest, label)
        inputs = [*(Input(name, stored=one) for name, one in zip(_SIDES, models, strict=True))]
        inputs.append(Input("rows", table=self._means.lake.source_of(snapshot, self._table)))
        bare = Job(JUDGE, job.step, job.part, job.node, job.root, job.data, job.log, inputs=inputs, options=options)
        modules = ["numpy", "duckdb", "pyarrow", "pyarrow.compute", "sampan.flow.judge"]
        return Piece(label, digest, msgspec.structs.replace(bare, threads=job.threads), modules, options)

    def _unfit(self, side: Side, trained: list[Stored]) -> str:
        """What a model takes that the rows of a side have not; empty if they can be judged."""
        columns = _columns(self._sides[side].tables[self._table])
        for at, one in enumerate(trained):
            names = one.model.signature.inputs if one.model is not None else {}
            if absent := [name for name in names if name not in columns]:
                whose, rows = self._sides[_SIDES[at % 2]].ref, self._sides[side].ref
                return f"the model of {whose} takes {absent[0]!r}, and the rows of {rows} have no such column"
        return ""

    # -- what came of it

    def _judgement(self, side: Side, seeds: list[dict[str, Any]]) -> Judgement:
        """The figures over the seeds, of all rows and of each slice."""
        parts = [{(part["column"], part["value"]): part for part in one["parts"]} for one in seeds]
        slices = []
        for name in parts[0]:
            rows = sum(one[name]["rows"] for one in parts if name in one) / len(parts)
            shown = tuple(self._figures([one[name]["figures"] for one in parts if name in one]))
            slices.append(ImpactSlice(*name, rows=rows, few=rows < FEW, figures=shown))
        whole, *rest = slices
        return Judgement(side, whole.rows, whole.figures, tuple(rest))

    def _figures(self, seeds: list[dict[str, Any]]) -> Iterator[ImpactFigure]:
        for metric in METRICS[self._kind]:
            found = estimate([Pair(*one[metric]) for one in seeds if metric in one])
            yield ImpactFigure(metric, metric in HIGHER, *found, verdict=verdict(metric, found))

    def _changes(self) -> Iterator[TableChange]:
        before, after = (self._sides[side].tables for side in _SIDES)
        for name in before:
            if before[name].id != after[name].id:
                found = self._diff(name)
                yield TableChange(
                    name,
                    before[name].id,
                    after[name].id,
                    found.rows_before,
                    found.rows_after,
                    found.added,
                    found.removed,
                    found.changed,
                    sum(one.rows for one in found.columns if one.name == self._target and name == self._table),
                    tuple(column for column, _ in found.new_columns),
                    tuple(column for column, _ in found.lost_columns),
                )

    def _diff(self, name: str) -> "TableDiff":
        """How an input differs; kept once it is known."""
        before, after = (self._sides[side].tables[name].id for side in _SIDES)
        return self._means.lake.diff(name, before, after)

    def _notes(self, key: tuple[str, ...], judged: list[dict[str, Any]]) -> Iterator[str]:
        if dropped := max(one["dropped"] for one in judged):
            yield f"Up to {dropped:,} held-out rows per seed have no {self._target}, and are not judged."
        if self._time and (moved := [one for one in self._diff(self._table).columns if one.name == self._time]):
            yield f"{moved[0].rows:,} rows have another {self._time}: they may be held out on one side alone."
        tables = self._sides["candidate"].tables
        for name, one in tables.items():
            if name != self._table and set(key) <= set(_columns(one)):
                yield f"{name} has {', '.join(key)}, too: nothing is held out of it."
        if self._time and len(tables) > 1:
            others = " and ".join(sorted(tables.keys() - {self._table}))
            yield f"{others}: as now on both sides, with what came after the rows that were learned from."
        if self._events:
            yield f"Events of {', '.join(self._events)} are those of now on both sides; nothing is held out of them."

    def _say(self, state: str, message: str) -> None:
        if self._tell is not None:
            self._tell(Progress(self._order.id, "", state, message=message))


def _columns(snapshot: Snapshot) -> list[str]:
    return [name for name, _ in snapshot.fields]


def _value(stored: Stored, jobs: Jobs) -> dict[str, Any]:
    assert stored.inline is not None or stored.blob is not None
    data = stored.inline if stored.inline is not None else jobs.blobs.get(stored.blob or "")
    found: dict[str, Any] = decode(data)
    return found
