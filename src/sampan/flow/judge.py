"""Judging two frozen models on the rows that neither was trained on, under one seed. Runs in the worker."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from sampan.base.errors import BadStep, SampanError
from sampan.flow.heldout import judged, units
from sampan.flow.job import HeldOut, Job, Stored
from sampan.flow.values import store_value
from sampan.models.paired import Pair, compare
from sampan.models.version import Signature, VersionDraft
from sampan.store.blobs import Blobs

MOST_VALUES: Final = 12
"""A text column with more values is no slice unless it is asked for; of one that is, so many are looked at."""
MOST_COLUMNS: Final = 4
OTHERS: Final = "all others"
_BATCH: Final = 10_000
_UNIT: Final = "unit of the row"

Mask = NDArray[np.bool_]


def judge(job: Job) -> Stored:
    """What both models make of the held-out rows: figures, and their difference in each resample.

    The job's inputs are the base model, the candidate model, and the table with the rows; its options name ``target``,
    ``kind``, ``sides`` (what to call the models), ``rows`` (whose they are), ``held`` (which of them), and ``slices``
    (None: none; empty: text columns with few values). The rows have all columns that the models take.
    Raises BadStep for values that a model cannot take.
    """
    from sampan.lake.read import arrow

    options, source = job.options, job.inputs[2].table
    assert source is not None
    table = arrow(source, threads=job.threads)
    rows, count = _held_out(table, msgspec.convert(options["held"], HeldOut))
    labelled = rows.filter(rows[options["target"]].is_valid())
    parts = {("", ""): np.ones(labelled.num_rows, dtype=bool)}
    if options["slices"] is not None:
        parts |= _slices(labelled, table, options["slices"], options["target"])
    found: list[dict[str, Pair]] = [{} for _ in parts]
    if labelled.num_rows:
        models = [_model(given.stored) for given in job.inputs[:2]]
        blobs, whose = Blobs(Path(job.data) / "blobs"), options["rows"]
        predicted = [
            _predictions(model, blobs, labelled, side, whose)
            for model, side in zip(models, options["sides"], strict=True)
        ]
        truth = labelled[options["target"]].to_pylist()
        given = _alike(options["kind"], truth, [model.signature for model in models], predicted)
        unit = labelled[_UNIT].to_numpy()
        found = compare(options["kind"], *given, unit, count, list(parts.values()))
    value = {
        "rows": labelled.num_rows,
        "dropped": rows.num_rows - labelled.num_rows,
        "parts": [
            {
                "column": column,
                "value": text,
                "rows": int(mask.sum()),
                "figures": {name: [pair.base, pair.candidate, pair.draws] for name, pair in pairs.items()},
            }
            for ((column, text), mask), pairs in zip(parts.items(), found, strict=True)
        ],
    }
    return store_value(value, job.step, Path(job.data))


def _held_out(table: Any, held: HeldOut) -> tuple[Any, int]:
    """The held-out rows, each with the place of its unit among all of the table's, and how many units there are."""
    import pyarrow as pa

    whole = units(table, held.key)
    known, places = np.unique(whole, return_inverse=True)
    mask = judged(table, held)
    rows = table.filter(pa.array(mask)).append_column(_UNIT, pa.array(places[mask].astype(np.int64)))
    return rows, len(known)


def _model(given: Stored | None) -> VersionDraft:
    assert given is not None and given.model is not None
    return given.model


def _predictions(draft: VersionDraft, blobs: Blobs, rows: Any, side: str, whose: str) -> list[Any]:
    from sampan.models.formats import load
    from sampan.models.sample import plain_records

    attempted = f"Judge the model of {side} on the rows of {whose}"
    predictor = load(draft, blobs)
    found: list[Any] = []
    for start in range(0, rows.num_rows, _BATCH):
        try:
            found += predictor.predict(plain_records(rows.slice(start, _BATCH), draft.signature))
        except SampanError as error:
            raise BadStep(attempted, error.obstacle, error.advice) from error
    return found


def _alike(
    kind: str, truth: list[Any], signatures: Sequence[Signature], predicted: Sequence[list[Any]]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Truth and both predictions as arrays; classes that only one model knows get no probability from the other."""
    if kind == "multiclass":
        labels = dict.fromkeys(label for one in signatures for label in one.classes)
        classes = {label: place for place, label in enumerate(dict.fromkeys([*labels, *truth]))}
        tables = []
        for one, rows in zip(signatures, predicted, strict=True):
            wide = np.zeros((len(truth), len(classes)))
            wide[:, [classes[label] for label in one.classes]] = np.asarray(rows, dtype=np.float64)
            tables.append(wide)
        return np.array([classes[label] for label in truth]), tables[0], tables[1]
    base, candidate = (np.asarray(rows, dtype=np.float64) for rows in predicted)
    if kind in ("regression", "ranking"):
        return np.asarray(truth, dtype=np.float64), base, candidate
    positive = [one.classes[1] if len(one.classes) == 2 else True for one in signatures]
    if positive[0] != positive[1]:
        raise BadStep(
            "Judge a binary model",
            f"{positive[0]!r} is what one model predicts, {positive[1]!r} the other",
            "Let the target mean the same on both refs.",
        )
    if isinstance(positive[0], str):
        return np.array([label == positive[0] for label in truth], dtype=np.float64), base, candidate
    try:
        numbers = np.array([float(label) for label in truth])
    except (TypeError, ValueError):
        shown = next(label for label in truth if not isinstance(label, int | float))
        raise BadStep(
            "Judge a binary model", f"the target {shown!r} is neither true nor false", "Give 0 or 1."
        ) from None
    return (numbers == float(positive[0])).astype(np.float64), base, candidate


def _slices(rows: Any, table: Any, columns: Sequence[str], target: str) -> dict[tuple[str, str], Mask]:
    """The rows by the values of some columns, the commonest values of the whole table first."""
    found: dict[tuple[str, str], Mask] = {}
    for column in columns or _default_columns(table, target):
        counts = Counter(str(value) for value in table[column].to_pylist())
        shown = [value for value, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_VALUES]]
        values = np.array([str(value) for value in rows[column].to_pylist()], dtype=object)
        for value in shown:
            found[column, value] = values == value
        if len(counts) > len(shown):
            found[column, OTHERS] = ~np.isin(values.astype(str), shown)
    return found


def _default_columns(table: Any, target: str) -> list[str]:
    """Text columns with few values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = []
    for field in table.schema:
        text = pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
        kind = text or pa.types.is_dictionary(field.type)
        if kind and field.name != target and 2 <= pc.count_distinct(table[field.name]).as_py() <= MOST_VALUES:
            names.append(field.name)
    return names[:MOST_COLUMNS]
