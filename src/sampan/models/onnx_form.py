"""The same model once more as ONNX, where it converts: made when a version is frozen, compared with it on its sample.

It is derived: outside of the version's digest, and without it the version is whole. What cannot be converted, or
answers otherwise, is not kept, and the record says why; a training never fails for it. Converters are imported only
if they are installed (``sampan[onnx-convert]``) and a model asks for them.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sampan.base.errors import NotFound
from sampan.models.golden import distance, sendable
from sampan.models.version import OnnxFile, Signature, Version, VersionDraft
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    import pyarrow as pa

    from sampan.models.formats import Output, Predictor

TOLERANCE: Final = 1e-5
"""How far an answer of the ONNX form may lie from the version's; of answers above 1, as a share of them."""
_ROWS: Final = 1_000  # of the sample that are compared
_LARGEST: Final = 20 << 20  # bytes of a version that is converted while its training waits
_FILE: Final = "model.onnx"
_OPSET: Final = 15
_ML_OPSET: Final = 3
_NEEDS: Final = {"skops": "skl2onnx", "lightgbm": "onnxmltools", "xgboost": "onnxmltools", "pytorch": "onnx"}


def derive(
    estimator: Any, draft: VersionDraft, predictor: "Predictor", sample: "pa.Table | None", blobs: Blobs
) -> OnnxFile | None:
    """The ONNX form of a frozen estimator, kept if it answers as the version does; or why there is none.

    None where nothing was tried: the version is ONNX itself, or no converter for its format is installed.
    """
    needed = _NEEDS.get(draft.format)
    if needed is None or find_spec(needed) is None or find_spec("onnxruntime") is None:
        return None
    if sample is None or not sample.num_rows:
        return OnnxFile(why="its step returned no sample to compare it on")
    if (size := sum(blobs.path(one).stat().st_size for one in draft.files.values())) > _LARGEST:
        return OnnxFile(why=f"it has {size >> 20} MB, and up to {_LARGEST >> 20} MB are converted")
    records = _records(sample, draft.signature)
    expected = predictor.predict(records)
    tried: list[OnnxFile] = []
    for convert in _conversions(draft.format, estimator, draft.signature, predictor):
        try:
            with _silence():
                made = convert()
                data = made if isinstance(made, bytes) else made.SerializeToString()
                given = _open(data, draft).predict(records)
        except Exception as error:  # noqa: BLE001 - whatever a converter raises, the version is whole without it
            tried.append(OnnxFile(rows=len(records), why=_first_line(error)))
            continue
        found = _compared(expected, given)
        if not found.why:
            nulls = _same_with_nulls(predictor, _open(data, draft), records)
            return OnnxFile(blobs.put(data), found.apart, found.rows, nulls=nulls)
        tried.append(found)
    measured = [one for one in tried if one.apart is not None]
    return min(measured, key=lambda one: one.apart or 0.0) if measured else tried[-1]


def load_onnx(version: Version | VersionDraft, blobs: Blobs) -> "Predictor":
    """A predictor of a version's ONNX form. Raises NotFound for a version that has none, Damaged for other bytes."""
    if version.onnx is None or not version.onnx.digest:
        raise NotFound("Load a model as ONNX", "it has no such form", "Load the version itself.")
    return _open(blobs.get(version.onnx.digest), version)


def _open(data: bytes, version: Version | VersionDraft) -> "Predictor":
    from sampan.models.format_onnx import load

    return load({_FILE: data}, version.kind, version.signature)


def _records(sample: "pa.Table", signature: Signature) -> list[dict[str, Any]]:
    from sampan.models.sample import plain_records

    places = np.unique(np.linspace(0, sample.num_rows - 1, min(sample.num_rows, _ROWS)).astype(np.int64))
    fits = sendable(signature)
    return [one for one in plain_records(sample.take(places), signature) if fits(one)]


def _compared(expected: "list[Output]", given: "list[Output]") -> OnnxFile:
    try:
        apart = max((_apart(a, b) for a, b in zip(expected, given, strict=True)), default=0.0)
    except (TypeError, ValueError):
        return OnnxFile(rows=len(expected), why="its answers have another shape")
    far = max((distance(a, b) for a, b in zip(expected, given, strict=True)), default=0.0)
    if not far <= TOLERANCE:
        return OnnxFile(
            "", apart if apart < np.inf else None, len(expected), f"its answers differ by up to {apart:.2g}"
        )
    return OnnxFile("", apart, len(expected))


def servable(version: Version) -> OnnxFile | None:
    """The ONNX form of a version, if it may answer in its place: it does so on whatever the version takes."""
    made = version.onnx
    if made is None or not made.digest or find_spec("onnxruntime") is None:
        return None
    return made if made.nulls or not version.signature.missing else None


def _same_with_nulls(one: "Predictor", other: "Predictor", records: list[dict[str, Any]]) -> bool:
    """Whether both answer the same where an input is null, each by itself and all at once. A sample need hold none."""
    if not one.signature.missing or not records:
        return False
    names = list(one.signature.inputs)
    holed = [{**records[at % len(records)], name: None} for at, name in enumerate(names)]
    holed.append(dict.fromkeys(names))
    try:
        return not _compared(one.predict(holed), other.predict(holed)).why
    except Exception:  # noqa: BLE001 - whatever either raises, the answer is no
        return False


def _apart(expected: "Output", given: "Output") -> float:
    """The largest absolute difference; infinite where one is no number."""
    differences = np.abs(np.asarray(expected, dtype=np.float64) - np.asarray(given, dtype=np.float64))
    return float(np.nan_to_num(differences, nan=np.inf, posinf=np.inf).max())


def _conversions(format: str, estimator: Any, signature: Signature, predictor: Any) -> Iterator[Callable[[], Any]]:
    """Ways to convert, the most exact first."""
    if format == "lightgbm":
        yield lambda: _lightgbm(estimator, signature)
    elif format == "xgboost":
        yield lambda: _xgboost(estimator, signature)
    elif format == "pytorch":
        yield predictor.to_onnx
    else:
        yield lambda: _sklearn(estimator, signature, double=True)
        yield lambda: _sklearn(estimator, signature, double=False)


def _lightgbm(estimator: Any, signature: Signature) -> Any:
    from onnxmltools.convert import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = getattr(estimator, "booster_", estimator)
    given = [("X", FloatTensorType([None, len(signature.inputs)]))]
    return convert_lightgbm(booster, "model", given, target_opset=_OPSET, zipmap=False)


def _xgboost(estimator: Any, signature: Signature) -> Any:
    import xgboost
    from onnxmltools.convert import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster = estimator.get_booster() if hasattr(estimator, "get_booster") else estimator
    unnamed = xgboost.Booster(model_file=bytearray(booster.save_raw("ubj")))
    unnamed.feature_names = None  # the converter takes no other names than f0, f1, …
    given = [("X", FloatTensorType([None, len(signature.inputs)]))]
    return convert_xgboost(unnamed, "model", given, target_opset=_OPSET)


def _sklearn(estimator: Any, signature: Signature, *, double: bool) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common import data_types as types

    number = types.DoubleTensorType if double else types.FloatTensorType
    if _by_name(estimator):
        kinds = {"number": number, "integer": types.Int64TensorType, "boolean": types.BooleanTensorType}
        kinds["text"] = types.StringTensorType
        given = [(name, kinds[type]([None, 1])) for name, type in signature.inputs.items()]
    else:
        given = [("X", number([None, len(signature.inputs)]))]
    plain = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
    opsets = {"": _OPSET, "ai.onnx.ml": _ML_OPSET}
    return convert_sklearn(estimator, "model", given, target_opset=opsets, options=plain)


def _by_name(estimator: Any) -> bool:
    """Whether some part of it chooses columns by their names."""
    parts = [part for _, part in getattr(estimator, "steps", ())]
    return type(estimator).__name__ == "ColumnTransformer" or any(map(_by_name, parts))


def _first_line(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"no form of it is known for {error}"
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return said if len(said) <= 200 else f"{said[:197]}..."


@contextmanager
def _silence() -> Iterator[None]:
    """Converters warn of what is of no use to who trains a model."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
