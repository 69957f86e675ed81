from pathlib import Path

from trained import INPUTS, rows, train

from sampan import File, Fitted, model

ONNX = File("model.onnx")


@model
def sklearn() -> Fitted:
    return Fitted(train(), features=INPUTS, sample=_sample())


@model
def onnx() -> Fitted:
    return Fitted(Path(ONNX).read_bytes(), features=INPUTS, sample=_sample())


@model
def sklearn_again() -> Fitted:
    """A candidate that costs what the champion does."""
    return Fitted(train(), features=INPUTS, sample=_sample())


@model
def onnx_again() -> Fitted:
    return Fitted(Path(ONNX).read_bytes(), features=INPUTS, sample=_sample())


def _sample():
    import pandas as pd

    return pd.DataFrame(rows()[0][:64], columns=INPUTS)
