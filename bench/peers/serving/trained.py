"""The model that everybody serves: trained alike in each environment, so that nobody has to unpickle another's."""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import make_classification
from sklearn.ensemble import HistGradientBoostingClassifier

INPUTS = [f"f{number}" for number in range(20)]
TRAINED = 50_000


def rows():
    """Inputs and labels. The inputs fit 32 bits exactly, so that ONNX gets what scikit-learn gets."""
    inputs, labels = make_classification(TRAINED + 256, len(INPUTS), n_informative=10, random_state=3)
    return np.round(inputs, 4).astype(np.float32).astype(np.float64), labels


def train():
    inputs, labels = rows()
    return HistGradientBoostingClassifier(max_iter=100, random_state=3).fit(inputs[:TRAINED], labels[:TRAINED])


def as_onnx(model):
    from onnx import helper
    from skl2onnx import to_onnx

    make = helper.make_attribute
    # skl2onnx gives flags as NumPy's booleans, which newer releases of onnx do not take for whole numbers
    helper.make_attribute = lambda key, value, *more, **named: make(key, _plain(value), *more, **named)
    sample = np.zeros((1, len(INPUTS)), np.float32)
    return to_onnx(model, sample, options={id(model): {"zipmap": False}}, target_opset=17).SerializeToString()


def _plain(value):
    if not isinstance(value, (list, tuple)):
        return value
    return [int(one) if isinstance(one, (bool, np.bool_, np.integer)) else one for one in value]


if __name__ == "__main__":
    import joblib

    folder = Path(sys.argv[1])
    model = train()
    joblib.dump(model, folder / "model.joblib")
    if "onnx" in sys.argv[2:]:
        (folder / "model.onnx").write_bytes(as_onnx(model))
    if "mlflow" in sys.argv[2:]:
        import mlflow

        mlflow.sklearn.save_model(
            model, folder / "mlflow", pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle"
        )
    asked = rows()[0][TRAINED:]
    answers = model.predict_proba(asked)[:, 1]
    (folder / "asked.json").write_text(json.dumps({"rows": asked.tolist(), "answers": answers.tolist()}))
