"""LightGBM's own text: a Booster, or the Booster inside an ``LGBMClassifier``, ``LGBMRegressor``, ``LGBMRanker``."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sampan.base.errors import BadStep
from sampan.base.lacking import lacking
from sampan.models.inputs import Inputs
from sampan.models.version import InputType, Kind, Label, Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from sampan.models.formats import Facts, Frozen, Output

_FILE: Final = "model.txt"
_GIVES: Final = {
    "binary": ("binary", "cross_entropy"),
    "multiclass": ("multiclass", "multiclassova"),
    "ranking": ("lambdarank", "rank_xendcg"),
}


def recognises(estimator: Any) -> bool:
    """Whether LightGBM is loaded at all and made this; asking must not import it."""
    lightgbm = sys.modules.get("lightgbm")
    return lightgbm is not None and isinstance(estimator, (lightgbm.Booster, lightgbm.LGBMModel))


def freeze(estimator: Any, facts: "Facts") -> "Frozen":
    from sampan.models.formats import Frozen

    booster = _booster(estimator)
    text = re.sub(r"(?m)^\[num_threads: -?\d+\]$", "[num_threads: 1]", booster.model_to_string())
    objective = objective_of(text)
    wanted = _GIVES.get(facts.kind)
    if wanted and objective not in wanted:
        raise BadStep(
            "Freeze a LightGBM model",
            f"its objective is {objective!r}, and a {facts.kind} model needs {' or '.join(wanted)}",
            "Fit it with that objective, or declare another kind in @model(kind=...).",
        )
    inputs, categories = _inputs(booster, facts)
    signature = Signature(
        inputs=inputs,
        categories=categories,
        output=_OUTPUTS[facts.kind],
        classes=_classes(estimator, booster, facts.kind),
        missing=True,
    )
    return Frozen({_FILE: text.encode()}, signature, ("lightgbm",))


_OUTPUTS: Final[dict[Kind, Any]] = {
    "binary": "probability",
    "multiclass": "probabilities",
    "regression": "number",
    "ranking": "score",
}


def load(files: Mapping[str, bytes], kind: Kind, signature: Signature) -> "LightGBMPredictor":
    return LightGBMPredictor(files[_FILE].decode(), signature)


def reference(estimator: Any, sample: "pa.Table", kind: Kind, signature: Signature) -> "list[Output] | None":
    """What the fitted Booster itself predicts, by LightGBM's own handling of frames."""
    frame = sample.to_pandas()
    texts = [name for name, type in signature.inputs.items() if type == "category"]
    for name in texts:
        frame[name] = frame[name].astype("category")
    given: list[Output] = _booster(estimator).predict(frame, num_threads=1, validate_features=False).tolist()
    return given


def import_lean(signature: Signature) -> None:
    """Import LightGBM without scikit-learn and pandas, which it does not need to predict: seconds saved at the start.

    Only for a process that does nothing but predict: LightGBM's scikit-learn classes do not work in it afterwards.
    """
    del signature
    if "lightgbm" not in sys.modules:
        with lacking(("sklearn", "pandas")):
            import lightgbm  # noqa: F401


class LightGBMPredictor:
    """Predicts with one thread: requests are served side by side by processes, not by OpenMP."""

    free: Final = True

    def __init__(self, text: str, signature: Signature) -> None:
        import lightgbm

        self.signature = signature
        self._inputs = Inputs(signature)
        self._booster: Any = lightgbm.Booster(model_str=text)
        if self._booster.num_feature() != len(signature.inputs):
            raise ValueError(f"it takes {self._booster.num_feature()} features, its signature {len(signature.inputs)}")

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        given: list[Output] = self._booster.predict(self._inputs.matrix(records), num_threads=1).tolist()
        return given


def _booster(estimator: Any) -> Any:
    import lightgbm

    if isinstance(estimator, lightgbm.Booster):
        return estimator
    try:
        return estimator.booster_
    except (lightgbm.basic.LightGBMError, ValueError):  # the latter is scikit-learn's NotFittedError
        raise BadStep(
            "Freeze a LightGBM model", f"{type(estimator).__name__} is not fitted", "Call .fit() first."
        ) from None


def objective_of(text: str) -> str:
    """The objective that a model's text names; ``none`` where it names none."""
    found = re.search(r"(?m)^objective=(\S+)", text)
    return found[1] if found else "none"


def _inputs(booster: Any, facts: "Facts") -> tuple[dict[str, InputType], dict[str, tuple[Label, ...]]]:
    own = list(booster.feature_name())
    names = _names(own, facts)
    known: list[list[Label]] = booster.pandas_categorical or []
    types: dict[str, InputType] = dict.fromkeys(names, "number")
    if facts.sample is not None:
        from sampan.models.sample import input_type

        types = {name: input_type(name, facts.sample.schema.field(name).type) for name in names}
        if texts := [name for name, type in types.items() if type == "text"]:
            raise BadStep(
                "Freeze a LightGBM model",
                f"the feature {texts[0]!r} holds texts in the sample, which LightGBM does not take",
                "Give the sample as the model was fitted: with pandas category columns.",
            )
    elif known:
        types |= {names[at]: "category" for at in _categorical(booster) if at < len(names)}
    columns = [name for name, type in types.items() if type == "category"]
    if len(columns) != len(known):
        raise BadStep(
            "Freeze a LightGBM model",
            f"it was fitted with {len(known)} category columns, its sample has {len(columns)}",
            "Return Fitted(..., sample=frame) with the frame that the model was fitted on.",
        )
    return types, {name: tuple(labels) for name, labels in zip(columns, known, strict=True)}


def _categorical(booster: Any) -> list[int]:
    """The places of the inputs that a model's own text calls categories."""
    found = re.search(r"(?m)^\[categorical_feature: ([\d,]*)\]$", booster.model_to_string())
    return [int(one) for one in found[1].split(",") if one] if found else []


def _names(own: list[str], facts: "Facts") -> list[str]:
    """The inputs in the model's order. LightGBM writes blanks in names as underscores."""
    given = facts.features
    if given is None:
        if facts.sample is not None and own[0] == "Column_0" and len(own) == facts.sample.num_columns:
            return list(facts.sample.column_names)
        return own
    if len(given) != len(own):
        raise BadStep(
            "Freeze a LightGBM model",
            f"it takes {len(own)} features, {len(given)} are listed",
            f"Its own: {', '.join(own)}.",
        )
    if own == [f"Column_{place}" for place in range(len(own))]:
        return list(given)
    by_own = {re.sub(r"\s", "_", name): name for name in given}
    if set(by_own) != set(own):
        odd = sorted(set(own) - set(by_own))
        raise BadStep(
            "Freeze a LightGBM model",
            f"it was fitted with {odd[0]!r}, which is not among the features listed",
            f"Its own: {', '.join(own)}.",
        )
    return [by_own[name] for name in own]


def _classes(estimator: Any, booster: Any, kind: Kind) -> tuple[Label, ...]:
    if kind == "binary":
        count = 2
    elif kind == "multiclass":
        count = booster.num_model_per_iteration()
    else:
        return ()
    labels = getattr(estimator, "classes_", None)
    found = (False, True) if labels is None and count == 2 else range(count) if labels is None else labels
    plain = tuple(label.item() if isinstance(label, np.generic) else label for label in found)
    if len(plain) != count:
        raise BadStep("Freeze a LightGBM model", f"it knows {len(plain)} classes, a {kind} model has {count}")
    return plain
