"""What a model answered when it was tried: whether a kind of model may answer so, and the classes it stands for."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from sampan.base.errors import BadStep
from sampan.models.version import Kind, Label

OUTPUTS: Final[dict[Kind, Any]] = {
    "binary": "probability",
    "multiclass": "probabilities",
    "regression": "number",
    "ranking": "score",
    "tensor": "tensor",
    "text": "text",
}


def classes_of(given: Any, kind: Kind, wanted: Sequence[Label] | None, attempted: str) -> tuple[Label, ...]:
    """The labels of a classifier by its answers, an array of rows: those wanted, or false and true, or 0, 1, 2, ….

    Raises BadStep for as many numbers for each row as no model of that kind gives.
    """
    width = given.shape[1] if given.ndim == 2 else 1
    usual: Sequence[Label] = range(width) if kind == "multiclass" else (False, True) if kind == "binary" else ()
    classes = tuple(usual if wanted is None else wanted)
    right = {"multiclass": width >= 2 and len(classes) == width, "binary": width <= 2 and len(classes) == 2}
    if not right.get(kind, width == 1):
        told = f" for {len(classes)} classes" if classes else ""
        raise BadStep(
            attempted, f"it gives {width} numbers for each row{told}, which no {kind} model does", "See @model(kind=…)."
        )
    return classes


def check_probabilities(given: Any, kind: Kind, attempted: str, advice: str) -> None:
    """Raises BadStep where a classifier's answers are no probabilities."""
    if kind not in ("binary", "multiclass"):
        return
    sums = given.sum(axis=1) if given.ndim == 2 and given.shape[1] > 1 else np.ones(len(given))
    if not (given.min() >= 0 and given.max() <= 1 and np.allclose(sums, 1, atol=1e-3)):
        raise BadStep(attempted, f"a {kind} model must give probabilities, and it gives {shown(given)}", advice)


def shown(given: Any) -> str:
    """The first answer, short."""
    return str(np.round(np.ravel(given[:1]), 6).tolist()[:5])


def line(error: Exception) -> str:
    """What an exception of somebody else's says, in one line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if len(text) <= 200 else f"{text[:197]}..."
