"""What answers where a model does not: a constant, a function of the record, or what was in force before.

It gives a prediction, which the rules judge as any other; so every face can tell it, and the event has all that an
event has, and says that it was not the model.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from sampan.base.errors import BadWorkspace, Damaged, SampanError
from sampan.models.inputs import Inputs
from sampan.models.tensors import TensorReader, packed
from sampan.models.values import TensorType
from sampan.models.version import Signature
from sampan.serve.decisions import PREVIOUS as BEFORE
from sampan.serve.decisions import Decision

if TYPE_CHECKING:
    from sampan.models.formats import Output

#: A prediction in place of the model's, for one record. Raises ValueError where it gives none.
Substitute: TypeAlias = Callable[[Mapping[str, Any]], Any]
PREVIOUS: Final = "previous"
_SHOWN: Final = 80


class FallbackFacts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a decision declares. ``value``: the constant, or the function's name."""

    kind: Literal["constant", "function", "previous"]
    value: Any = None


def in_words(declared: FallbackFacts | None) -> str:
    """What answers, for people; empty if nothing is declared."""
    if declared is None:
        return ""
    if declared.kind == PREVIOUS:
        return "what was in force before"
    return f"what {declared.value} makes of the record" if declared.kind == "function" else f"{declared.value}"


def facts_of(decision: Decision) -> FallbackFacts | None:
    """The declaration as data. Raises BadWorkspace for a constant that is none."""
    declared = decision.fallback
    if declared is None:
        return None
    if declared is BEFORE:
        return FallbackFacts(PREVIOUS)
    if callable(declared):
        return FallbackFacts("function", getattr(declared, "__name__", "a function"))
    try:
        msgspec.json.encode(declared)
    except (TypeError, ValueError):
        raise BadWorkspace(
            f"Declare the decision {decision.name!r}",
            f"fallback={declared!r} is no prediction",
            "A number, probabilities by class, a function of the record, or PREVIOUS.",
        ) from None
    return FallbackFacts("constant", declared)


def substitute(decision: Decision, signature: Signature) -> Substitute | None:
    """What gives predictions in the model's place; None if nothing is declared, or what was in force before.

    Raises BadWorkspace for a constant that the model could never give.
    """
    declared = decision.fallback
    if declared is None or declared is BEFORE:
        return None
    if callable(declared):
        function = declared
        return lambda record: output_of(function(record), signature)
    try:
        constant = output_of(declared, signature)
    except ValueError as error:
        attempted = f"Declare the decision {decision.name!r}"
        raise BadWorkspace(attempted, f"its fallback is no prediction: {error}", "Give what the model gives.") from None
    return lambda record: constant


class Silent:
    """Stands where a model does not load."""

    def __init__(self, error: SampanError, signature: Signature) -> None:
        self.error, self.signature = error, signature
        self._inputs = Inputs(signature)

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        """Raises Usage for a record that does not fit, else why the model did not load."""
        self._inputs.rows(records)
        raise Damaged("Predict", self.error.obstacle, self.error.advice)


def output_of(one: Any, signature: Signature) -> "Output":
    """A prediction as a model of that signature gives it, from one that is written down: a number, probabilities in the
    order of the classes or by class. Raises ValueError."""
    if signature.output == "text":
        if not isinstance(one, str):
            raise ValueError(f"{str(one)[:_SHOWN]!r} is no text")
        return one
    if isinstance(signature.gives, TensorType):
        return packed(TensorReader(signature.gives)(one), signature.gives.datatype)  # Unfit is a ValueError
    labels = [str(label) for label in signature.classes]
    if isinstance(one, dict) and signature.output in ("probability", "probabilities"):
        lower = {str(key).lower(): value for key, value in one.items()}
        if odd := lower.keys() - {label.lower() for label in labels}:  # else its probability would be read as 0
            raise ValueError(f"{min(odd)[:_SHOWN]!r} is none of the classes {', '.join(labels)}")
        one = [lower.get(label.lower(), 0.0) for label in labels]
    numbers = [_number(value) for value in (one if isinstance(one, list | tuple) else [one])]
    likely = signature.output in ("probability", "probabilities")
    if likely and (wild := [value for value in numbers if not 0 <= value <= 1]):
        raise ValueError(f"{wild[0]:g} is no probability")
    if signature.output == "probabilities":
        if len(numbers) != len(labels):
            raise ValueError(f"{len(numbers)} numbers for {len(labels)} classes")
        return numbers
    if len(numbers) == 2 and signature.output == "probability":
        return numbers[1]
    if len(numbers) != 1:
        raise ValueError(f"{len(numbers)} numbers for one prediction")
    return numbers[0]


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:_SHOWN]!r} is no number")
    return float(value)
