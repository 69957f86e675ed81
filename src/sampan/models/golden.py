"""Golden requests: some rows of the training sample as a client would send them, and what the version answered.

They are picked when a model is frozen and kept as a file beside the version, outside of its digest: the same model
with another sample is the same model. Whoever loads the version later, with other libraries, on another machine or
behind an endpoint, asks them again and sees whether the answers are those of then.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from sampan.base.errors import Damaged, SampanError
from sampan.models.golden_checks import TOLERANCE, GoldenCheck
from sampan.models.inputs import Inputs
from sampan.models.tensors import shown
from sampan.models.values import BYTES, Packed
from sampan.models.version import GoldenFile, Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from sampan.models.formats import Output, Predictor

PICKED: Final = 64
_LOOKED_AT: Final = 2_000  # rows of a sample that are asked, to pick from
_LARGEST: Final = 8 << 20  # bytes of tensors and of files that requests may hold together
_TOLD: Final = 10


class Golden(msgspec.Struct, frozen=True):
    """The file: requests in the order of their predictions, with the answer to each."""

    requests: list[dict[str, Any]]
    answers: list[float | list[float] | str | Packed]
    format: int = 1


def capture(predictor: "Predictor", sample: "pa.Table", put: Callable[[bytes], str]) -> GoldenFile | None:
    """Pick requests from a sample and keep them with their answers; None if no row of it can be sent and answered.

    The same model and sample give the same file. All rows are kept where there are no more than ``PICKED``.
    """
    from sampan.models.sample import plain_records

    places = np.unique(np.linspace(0, max(0, sample.num_rows - 1), min(sample.num_rows, _LOOKED_AT)).astype(np.int64))
    fits = sendable(predictor.signature)
    records = [one for one in plain_records(sample.take(places), predictor.signature) if fits(one)]
    asked = list(zip(records, predictor.predict(records), strict=True)) if records else []
    known = [(record, answer) for record, answer in asked if _finite(answer)]
    count = _most([record for record, _ in known], predictor.signature)
    picked = [known[place] for place in spread([_place(answer) for _, answer in known], count)]
    if not picked:
        return None
    golden = Golden([record for record, _ in picked], [answer for _, answer in picked])
    return GoldenFile(put(msgspec.json.encode(golden)), len(picked), sample.num_rows)


def _most(records: Sequence[Mapping[str, Any]], signature: Signature) -> int:
    """How many may be picked: fewer where they hold tensors or bytes that would make a large file."""
    if not signature.heavy or not records:
        return PICKED
    largest = max(sum(len(one[name].base64) for name in signature.heavy) for one in records)
    return max(1, min(PICKED, _LARGEST // max(1, largest)))


def spread(predictions: Sequence[float], count: int = PICKED) -> list[int]:
    """The places of ``count`` predictions, lowest first: half of them evenly by rank, so that they lie where most do,
    and half evenly over the range, so that rare high and low ones are there, too."""
    order = np.argsort(np.asarray(predictions, dtype=np.float64), kind="stable")
    if len(order) <= count:
        return [int(place) for place in order]
    values = np.asarray(predictions, dtype=np.float64)[order]
    chosen = {int(rank) for rank in np.linspace(0, len(order) - 1, max(2, count // 2)).round()}
    for wanted in np.linspace(values[0], values[-1], count - len(chosen)):
        left = [rank for rank in range(len(order)) if rank not in chosen]
        chosen.add(min(left, key=lambda rank: abs(values[rank] - wanted)))
    return [int(order[rank]) for rank in sorted(chosen)]


def read(data: bytes) -> Golden:
    """The file from its bytes. Raises Damaged."""
    try:
        golden = msgspec.json.decode(data, type=Golden)
    except msgspec.DecodeError as error:
        raise Damaged("Read golden requests", f"the file does not parse: {error}", "Restore a backup.") from error
    if len(golden.requests) != len(golden.answers):
        obstacle = f"it holds {len(golden.requests)} requests and {len(golden.answers)} answers"
        raise Damaged("Read golden requests", obstacle, "Restore a backup.")
    return golden


def compare(
    ref: str,
    golden: Golden,
    ask: Callable[[list[Mapping[str, Any]]], "Sequence[Output]"],
    tolerance: float = TOLERANCE,
) -> GoldenCheck:
    """Ask each request by itself, as a client does, and compare. A request that is refused is a different answer."""
    different, worst, examples = 0, 0.0, []
    for place, (request, expected) in enumerate(zip(golden.requests, golden.answers, strict=True)):
        try:
            (answer,) = ask([request])
            apart, said = distance(expected, answer), f"answered {_said(answer)} instead of {_said(expected)}"
        except SampanError as error:
            apart, said = math.inf, f"was refused: {error.obstacle}"
        worst = max(worst, apart)
        if not apart <= tolerance:
            different += 1
            examples.append(f"request {place} {said}")
    shown = tuple(examples[:_TOLD])
    finite = worst if math.isfinite(worst) else None
    return GoldenCheck(
        ref=ref, cases=len(golden.requests), different=different, worst=finite, tolerance=tolerance, examples=shown
    )


def distance(expected: "Output", got: "Output") -> float:
    """How far two answers lie apart: of numbers above 1 as a share of the expected one; infinite if they cannot be
    compared. Of lists the largest."""
    if isinstance(expected, list) or isinstance(got, list):
        if not isinstance(expected, list) or not isinstance(got, list) or len(expected) != len(got):
            return math.inf
        return max((distance(a, b) for a, b in zip(expected, got, strict=True)), default=0.0)
    if isinstance(expected, Packed) or isinstance(got, Packed):
        return _apart(expected, got)
    if isinstance(expected, str) or isinstance(got, str):
        return 0.0 if expected == got else math.inf
    apart = abs(float(expected) - float(got)) / max(1.0, abs(float(expected)))
    return apart if apart == apart else math.inf


def _apart(expected: "Output", got: "Output") -> float:
    """Of tensors: the largest distance of their elements."""
    if not isinstance(expected, Packed) or not isinstance(got, Packed):
        return math.inf
    if (expected.datatype, expected.shape) != (got.datatype, got.shape):
        return math.inf
    if expected.datatype == BYTES:
        return 0.0 if expected == got else math.inf
    one, other = expected.array.astype(np.float64), got.array.astype(np.float64)
    return float(np.max(np.abs(one - other) / np.maximum(1.0, np.abs(one)), initial=0.0))


def sendable(signature: Signature) -> Callable[[Mapping[str, Any]], bool]:
    """Tells whether a record fits a signature, so that a client could send it."""
    inputs = Inputs(signature)

    def fits(record: Mapping[str, Any]) -> bool:
        try:
            inputs.rows([record])
        except SampanError:
            return False
        return True

    return fits


def _finite(answer: "Output") -> bool:
    if isinstance(answer, str | Packed):
        return True
    return all(math.isfinite(one) for one in (answer if isinstance(answer, list) else [answer]))


def _place(answer: "Output") -> float:
    """Where an answer lies among others: class by class, and within one by how probable it is."""
    if isinstance(answer, str):
        return float(len(answer))
    if isinstance(answer, Packed):
        return 0.0 if answer.datatype == BYTES else float(answer.array.astype(np.float64).mean())
    if not isinstance(answer, list):
        return answer
    best = max(range(len(answer)), key=answer.__getitem__)
    return best + answer[best]


def _said(answer: "Output") -> str:
    if isinstance(answer, str):
        return shown(answer)
    if isinstance(answer, Packed):
        return f"a tensor {answer.datatype} of the shape {list(answer.shape)}"
    return f"[{', '.join(f'{one:.9g}' for one in answer)}]" if isinstance(answer, list) else f"{answer:.9g}"
