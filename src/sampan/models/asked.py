"""The rows that a suite asks a version about, with what it predicts for them, and for them changed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sampan.base.errors import BadQuery, SampanError, Usage
from sampan.lake.query import TableSource, open_sources, quote_name
from sampan.models import metrics
from sampan.models.formats import Predictor
from sampan.models.measures import higher
from sampan.models.sample import plain_records
from sampan.models.tests import Shown
from sampan.models.version import KINDS, UNMEASURED, Label, Version

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]
Places: TypeAlias = NDArray[np.int64]

_ROWS: Final = "__rows"
_ROW: Final = "__row"
_TRAINED: Final = "__trained"
_BATCH: Final = 10_000


class Changed(NamedTuple):
    """Rows that a change makes different: their places, SQL for them as they become, what is predicted then, and why
    nothing is."""

    rows: Places
    query: str
    predicted: Floats
    errors: dict[int, str]


class Asked:
    """A version and a table. Predictions are arrays with a column for each class, or one column."""

    def __init__(
        self,
        version: Version,
        predictor: Predictor,
        sources: Mapping[str, TableSource],
        table: str,
        target: str,
        group: str,
        where: str,
    ) -> None:
        self._version, self._predictor, self._sources = version, predictor, dict(sources)
        self._table, self._target, self._group, self._where = table, target, group, where
        self._inputs = list(predictor.signature.inputs)
        self._classes: tuple[Label, ...] = predictor.signature.classes
        self._width = len(self._classes) if version.kind == "multiclass" else 1
        self._db: Any = None
        self._seen: Bools | None = None
        self._errors: dict[int, str] = {}
        self._truth: list[Any] = []
        self._outcomes: Floats = np.zeros(0)
        self._columns: dict[str, str] = {}
        self._groups: list[Any] = []
        self.predicted: Floats = np.zeros((0, self._width))
        self.alive: Bools = np.zeros(0, dtype=bool)
        self.known: Bools = np.zeros(0, dtype=bool)

    def __enter__(self) -> "Asked":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._db is not None:
            self._db.close()

    # -- reading

    def read(self, trained: TableSource | None, same: bool, *, unseen: bool, truth: bool) -> None:
        """Read the rows and predict for each. ``truth``: whether outcomes are needed, too.

        Raises Usage for a model of tensors or bytes, BadQuery for a table that lacks something.
        """
        if found := [*self._predictor.signature.heavy, *(["its answer"] if self._version.kind in UNMEASURED else [])]:
            advice = "Compare it by its golden requests (`sampan model golden`) and in the shadow of a rollout."
            said = f"suites test models of columns, and {found[0]} is none"
            raise Usage(f"Test {self._version.ref}", said, advice)
        sources: dict[str, Any] = dict(self._sources)
        if trained is not None and not same:
            sources[_TRAINED] = trained
        self._db = open_sources(sources)
        self._columns = self._columns_of(self._table)
        for name in [*self._inputs, *([self._target] if truth else []), *([self._group] if truth else [])]:
            if name and name not in self._columns:
                what = "target" if name == self._target else "group" if name == self._group else "feature"
                advice = f"It has: {', '.join(self._columns)}. Name another with table = at the top of the suite."
                raise BadQuery(
                    f"Test {self._version.ref}", f"the table {self._table} lacks the {what} {name!r}", advice
                )
        where = f" WHERE (\n{self._where}\n)" if self._where.strip() else ""
        with self._explained("where"):
            self._db.execute(
                f"CREATE TEMP TABLE {_ROWS} AS SELECT row_number() OVER () - 1 AS {_ROW}, *"
                f" FROM {quote_name(self._table)}{where}"
            )
        self._predict_rows(truth)
        count = len(self.predicted)
        self.alive = np.ones(count, dtype=bool)
        self._seen = np.ones(count, dtype=bool) if same else self._overlap() if trained is not None else None
        if unseen:
            if self._seen is None:
                raise Usage(
                    f"Test {self._version.ref}",
                    "unseen = true, but what the version was trained on is not kept",
                    "Leave it out, or name rows it cannot have seen with where.",
                )
            self.alive = ~self._seen
        if truth:
            self.known = np.array([value is not None and value == value for value in self._truth], dtype=bool)
            self._check_truth()

    def _predict_rows(self, truth: bool) -> None:
        extra = [name for name in (self._target, self._group) if name and truth and name not in self._inputs]
        wanted = ", ".join(quote_name(name) for name in dict.fromkeys([*self._inputs, *extra]))
        parts, start = [], 0
        with self._explained("table"):
            for batch in self._db.execute(f"SELECT {wanted} FROM {_ROWS} ORDER BY {_ROW}").to_arrow_reader(_BATCH):
                table = _table(batch)
                predicted, errors = self.predict(plain_records(table, self._predictor.signature))
                parts.append(predicted)
                self._errors |= {start + at: said for at, said in errors.items()}
                start += table.num_rows
                if truth:
                    self._truth += table[self._target].to_pylist()
                    self._groups += table[self._group].to_pylist() if self._group else []
        self.predicted = np.concatenate(parts) if parts else self.predicted

    def _columns_of(self, name: str) -> dict[str, str]:
        return {row[0]: row[1] for row in self._db.execute(f"DESCRIBE {quote_name(name)}").fetchall()}

    def _overlap(self) -> Bools | None:
        """Which rows are among those that the version was trained on: alike in all columns that both tables have."""
        then = self._columns_of(_TRAINED)
        common = [name for name in self._columns if name in then]
        if not set(self._inputs) <= set(common):
            return None
        row = f"hash({', '.join(f'{quote_name(name)}::VARCHAR' for name in common)})"
        found = self._db.execute(
            f"SELECT {_ROW} FROM {_ROWS} WHERE {row} IN (SELECT {row} FROM {quote_name(_TRAINED)})"
        ).fetchnumpy()[_ROW]
        return _mask(np.asarray(found, dtype=np.int64), len(self.predicted))

    def predict(self, records: Sequence[Mapping[str, Any]]) -> tuple[Floats, dict[int, str]]:
        """Predictions, and why there is none (NaN) by place. One that does not fit leaves the others alone."""
        try:
            found = self._predictor.predict(records)
            return np.array(found, dtype=np.float64).reshape(len(records), self._width), {}
        except SampanError as error:
            if len(records) == 1:
                return np.full((1, self._width), np.nan), {0: error.obstacle}
        half = len(records) // 2
        first, errors = self.predict(records[:half])
        second, more = self.predict(records[half:])
        return np.concatenate([first, second]), errors | {half + at: said for at, said in more.items()}

    # -- parts of the rows

    def where(self, name: str, condition: str) -> Bools:
        """The rows for which a condition holds."""
        with self._explained(name):
            found = self._db.execute(f"SELECT {_ROW} FROM {_ROWS} WHERE (\n{condition}\n)").fetchnumpy()[_ROW]
        return _mask(np.asarray(found, dtype=np.int64), len(self.alive)) & self.alive

    def count_seen(self, rows: Bools | Places) -> int | None:
        """How many of some rows the version was trained on; None if that is not known."""
        return None if self._seen is None else int(self._seen[rows].sum())

    @property
    def finite(self) -> Bools:
        return np.asarray(np.isfinite(self.predicted).all(axis=1))

    # -- truth and figures

    def _check_truth(self) -> None:
        """Outcomes as numbers: 0 or 1, the place of a class, a number, or a relevance; NaN where unknown."""
        values = np.full(len(self._truth), np.nan)
        places: dict[Any, float] = {}
        if self._version.kind == "multiclass":
            places = {label: float(at) for at, label in enumerate(self._classes)}
        elif self._version.kind == "binary":
            places = {label: float(at) for at, label in enumerate(self._classes or (False, True))}
        for at, value in enumerate(self._truth):
            if not self.known[at]:
                continue
            try:
                values[at] = places[value] if places else float(value)
            except (KeyError, TypeError, ValueError):
                wanted = f"one of {', '.join(map(str, places))}" if places else "a number"
                raise Usage(
                    f"Test {self._version.ref}",
                    f"the target {self._target} holds {value!r} where {wanted} is expected",
                    "Name another column with target = at the top of the suite.",
                ) from None
        self._outcomes = values

    def figures(self, mask: Bools) -> dict[str, Any]:
        """All metrics of the version's kind on some rows."""
        truth, predicted = self._outcomes[mask], self.predicted[mask]
        groups = [one for one, counts in zip(self._groups, mask, strict=True) if counts] if self._group else None
        return self._measured(truth, predicted, groups)

    def _measured(self, truth: Floats, predicted: Floats, groups: list[Any] | None) -> dict[str, Any]:
        if self._version.kind == "multiclass":
            classes = [float(at) for at in range(self._width)]
            return metrics.measure("multiclass", truth.tolist(), predicted, classes=classes)
        return metrics.measure(self._version.kind, truth, predicted[:, 0], group=groups)

    def check_metrics(self, name: str, wanted: Mapping[str, float]) -> None:
        """Raises Usage for a metric that is not measured of this kind of model."""
        nothing, kind = np.zeros((0, self._width)), self._version.kind
        known = self._measured(np.zeros(0), nothing, None) if kind in KINDS else {}
        if odd := [one for one in wanted if one not in known]:
            listed = ", ".join(one for one in known if higher(one) is not None)
            raise Usage(
                f"Test {self._version.ref}: {name}",
                f"{odd[0]} is not measured of a {kind} model",
                f"Measured are: {listed}." if known else "Give cases and changes of the inputs instead.",
            )

    @property
    def loss(self) -> Floats:
        """How far each prediction is from its outcome."""
        if self._version.kind == "multiclass":
            places = np.nan_to_num(self._outcomes).astype(np.int64)
            return np.asarray(1 - self.predicted[np.arange(len(places)), places])
        return np.asarray(np.abs(self.predicted[:, 0] - self._outcomes))

    # -- labels

    def place(self, name: str, of: Label | None) -> int:
        """The column of predictions that a class means. Raises Usage."""
        if self._width == 1 and of is None:
            return 0
        known = ", ".join(map(str, self._classes))
        if self._width == 1 or of is None:
            obstacle = "of = says which class, of a model that has several" if of is not None else "it needs of = CLASS"
            raise Usage(f"Test {self._version.ref}: {name}", obstacle, f"Classes: {known or 'none'}.")
        return self._classes.index(self.known_label(name, of))

    def check_bounds(self, name: str, bounds: Iterable[float | None]) -> None:
        """Raises Usage for what no answer could break, or none keep: a bound of a probability outside of 0 to 1."""
        if self._version.signature.output in ("probability", "probabilities"):
            for one in bounds:
                if one is not None and not 0 <= one <= 1:
                    obstacle = f"{one:g} is no bound of what it answers: probabilities"
                    raise Usage(f"Test {self._version.ref}: {name}", obstacle, "Write a number between 0 and 1.")

    def known_label(self, name: str, label: Label) -> Label:
        """One of the version's classes, as it knows it. Raises Usage."""
        classes = self._classes or ((False, True) if self._version.kind == "binary" else ())
        for one in classes:
            if one == label or str(one).lower() == str(label).lower():
                return one
        known = ", ".join(map(str, classes))
        raise Usage(
            f"Test {self._version.ref}: {name}", f"{label!r} is none of its classes", f"Classes: {known or 'none'}."
        )

    def label(self, output: Floats) -> Label:
        """The class that a prediction says; of two the second from 0.5 on."""
        if self._width > 1:
            return self._classes[int(np.argmax(output))]
        return (self._classes or (False, True))[int(output[0] >= 0.5)]

    def plain(self, output: Floats) -> float | dict[str, float | None] | None:
        """A prediction to be shown."""
        values = [float(one) if np.isfinite(one) else None for one in output]
        return values[0] if self._width == 1 else {str(k): v for k, v in zip(self._classes, values, strict=True)}

    # -- changes

    def changed(self, name: str, changes: Mapping[str, Any], where: str) -> Changed:
        """Rows with other values. Raises Usage for what is no feature, BadQuery for SQL that does not run."""
        columns = list(changes)
        if odd := [one for one in columns if one not in self._inputs]:
            raise Usage(
                f"Test {self._version.ref}: {name}",
                f"it sets {odd[0]!r}, which is no feature of {self._version.ref}",
                f"Features: {', '.join(self._inputs)}.",
            )
        new = [f"__new_{at}" for at in range(len(columns))]
        pairs = list(zip(columns, new, strict=True))
        made = ", ".join(f"CAST((\n{_sql(changes[one])}\n) AS {self._columns[one]}) AS {alias}" for one, alias in pairs)
        differs = " OR ".join(f"{alias} IS DISTINCT FROM {quote_name(one)}" for one, alias in pairs)
        becomes = dict(pairs)
        wanted = ", ".join(f"{becomes.get(one, quote_name(one))} AS {quote_name(one)}" for one in self._inputs)
        condition = f" WHERE (\n{where}\n)" if where.strip() else ""
        query = f"SELECT {_ROW}, {wanted} FROM (SELECT *, {made} FROM {_ROWS}{condition}) WHERE ({differs})"
        rows: list[int] = []
        parts: list[Floats] = []
        errors: dict[int, str] = {}
        with self._explained(name):
            for batch in self._db.execute(f"{query} ORDER BY {_ROW}").to_arrow_reader(_BATCH):
                table = _table(batch)
                table = table.filter(pa.array(self.alive[table[_ROW].to_numpy()]))
                if not table.num_rows:
                    continue
                predicted, odd_ones = self.predict(plain_records(table, self._predictor.signature))
                errors |= {len(rows) + at: said for at, said in odd_ones.items()}
                rows += table[_ROW].to_pylist()
                parts.append(predicted)
        found = np.concatenate(parts) if parts else np.zeros((0, self._width))
        return Changed(np.array(rows, dtype=np.int64), query, found, errors)

    # -- the worst of those that did not hold

    def worst(self, part: Bools, loss: Floats, most: int) -> tuple[Shown, ...]:
        """Rows of a part whose prediction is furthest from the truth; those without one first."""
        places = _furthest(np.flatnonzero(part), np.nan_to_num(loss[part], nan=np.inf), most)
        features = self._features(f"SELECT * FROM {_ROWS}", places)
        return tuple(
            Shown(
                features[at],
                self.plain(self.predicted[at]),
                truth=_json(self._truth[at]),
                said=self._errors.get(at, ""),
            )
            for at in places
        )

    def worst_changes(self, changed: Changed, moved: Floats, part: Bools, most: int) -> tuple[Shown, ...]:
        """Changed rows whose prediction moved the furthest."""
        order = _furthest(np.flatnonzero(part), np.nan_to_num(moved[part], nan=np.inf), most)
        places = [int(changed.rows[at]) for at in order]
        before, after = self._features(f"SELECT * FROM {_ROWS}", places), self._features(changed.query, places)
        return tuple(
            Shown(
                before[row],
                self.plain(self.predicted[row]),
                changed={name: new for name, new in after[row].items() if new != before[row][name]},
                then=self.plain(changed.predicted[at]),
                said=changed.errors.get(at, self._errors.get(row, "")),
            )
            for at, row in zip(order, places, strict=True)
        )

    def _features(self, query: str, places: Sequence[int]) -> dict[int, dict[str, Any]]:
        if not places:
            return {}
        listed = ", ".join(map(str, places))
        table = self._db.execute(f"SELECT * FROM ({query}) WHERE {_ROW} IN ({listed})").to_arrow_table()
        records = plain_records(table, self._predictor.signature)
        return {
            row: {name: _json(value) for name, value in record.items()}
            for row, record in zip(table[_ROW].to_pylist(), records, strict=True)
        }

    @contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            said = str(error).strip().split("\n")[0]
            raise BadQuery(f"Test {self._version.ref}: {name}", said, "Mend its SQL in the suite.") from error


def _mask(rows: Places, count: int) -> Bools:
    found = np.zeros(count, dtype=bool)
    found[rows] = True
    return found


def _furthest(places: Places, distances: Floats, most: int) -> list[int]:
    return [int(one) for one in places[np.argsort(-distances, kind="stable")[:most]]]


def _table(batch: pa.RecordBatch) -> pa.Table:
    return pa.Table.from_batches([batch])


def _sql(value: Any) -> str:
    """A new value as SQL: a text is SQL already."""
    return value if isinstance(value, str) else str(value).upper() if isinstance(value, bool) else repr(value)


def _json(value: Any) -> Any:
    """A value as JSON has it."""
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
