"""XGBoost's own format (UBJSON): a Booster, or the one inside ``XGBClassifier``, ``XGBRegressor``, ``XGBRanker``."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sampan.base.errors import BadStep, Damaged
from sampan.models.inputs import Inputs
from sampan.models.version import InputType, Kind, Label, Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from sampan.models.formats import Facts, Frozen, Output

_FILE: Final = "model.ubj"
_ATTEMPT: Final = "Freeze an XGBoost model"
_OUTPUTS: Final[dict[Kind, Any]] = {
    "binary": "probability",
    "multiclass": "probabilities",
    "regression": "number",
    "ranking": "score",
}


def recognises(estimator: Any) -> bool:
    """Whether XGBoost is loaded at all and made this; asking must not import it."""
    xgboost = sys.modules.get("xgboost")
    if xgboost is None:
        return False
    return isinstance(estimator, xgboost.Booster) or hasattr(estimator, "get_booster")


def freeze(estimator: Any, facts: "Facts") -> "Frozen":
    from sampan.models.formats import Frozen

    booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    wanted = {"binary": "binary:logistic", "multiclass": "multi:softprob"}.get(facts.kind)
    if wanted and objective != wanted:
        raise BadStep(
            _ATTEMPT,
            f"its objective is {objective!r}, and a {facts.kind} model needs {wanted!r}",
            "Fit it with that objective, or declare another kind in @model(kind=...).",
        )
    if "c" in (booster.feature_types or ()):
        raise BadStep(
            _ATTEMPT, "it was fitted with category columns", "Encode them as numbers before the model, or use LightGBM."
        )
    own = booster.feature_names
    names = list(own or facts.features or (facts.sample.column_names if facts.sample is not None else ()))
    if len(names) != booster.num_features() or (own and facts.features and list(facts.features) != list(own)):
        raise BadStep(
            _ATTEMPT,
            f"it takes {booster.num_features()} features ({', '.join(own or ())}), listed are {', '.join(names)}",
            "List the features as the model was fitted with them.",
        )
    types: dict[str, InputType] = dict.fromkeys(names, "number")
    if facts.sample is not None:
        from sampan.models.sample import input_type

        types = {name: input_type(name, facts.sample.schema.field(name).type) for name in names}
    if odd := [name for name, type in types.items() if type in ("text", "category")]:
        raise BadStep(_ATTEMPT, f"the feature {odd[0]!r} is no number", "Encode it as a number before the model.")
    signature = Signature(
        inputs=types, output=_OUTPUTS[facts.kind], classes=_classes(estimator, booster, facts.kind), missing=True
    )
    return Frozen({_FILE: bytes(booster.save_raw("ubj"))}, signature, ("xgboost",))


def load(files: Mapping[str, bytes], kind: Kind, signature: Signature) -> "XGBoostPredictor":
    """Raises Damaged for anything but an XGBoost model."""
    return XGBoostPredictor(files[_FILE], signature)


def reference(estimator: Any, sample: "pa.Table", kind: Kind, signature: Signature) -> "list[Output] | None":
    """What the fitted estimator itself predicts on the sample."""
    import xgboost

    booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
    data = np.column_stack([np.asarray(column.to_pandas(), dtype=np.float64) for column in sample.columns])
    given: list[Output] = booster.predict(xgboost.DMatrix(data), validate_features=False).astype(float).tolist()
    return given


class XGBoostPredictor:
    """Predicts with one thread."""

    free: Final = True

    def __init__(self, data: bytes, signature: Signature) -> None:
        try:
            import xgboost
        except ImportError as absent:
            raise BadStep(
                "Load an XGBoost model", "the package xgboost is not installed", "Run `uv add xgboost`."
            ) from absent
        self.signature = signature
        self._inputs = Inputs(signature)
        try:
            self._booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(data))
        except xgboost.core.XGBoostError as fault:
            raise Damaged("Load an XGBoost model", str(fault)[:300], "Register another version.") from fault

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        rows = self._inputs.matrix(records)
        given: list[Output] = self._booster.inplace_predict(rows, validate_features=False).astype(float).tolist()
        return given


def _classes(estimator: Any, booster: Any, kind: Kind) -> tuple[Label, ...]:
    if kind not in ("binary", "multiclass"):
        return ()
    labels = getattr(estimator, "classes_", None)
    if labels is not None:
        return tuple(label.item() if isinstance(label, np.generic) else label for label in labels)
    if kind == "binary":
        return (False, True)
    return tuple(range(int(json.loads(booster.save_config())["learner"]["learner_model_param"]["num_class"])))
