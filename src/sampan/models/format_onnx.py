"""ONNX in one file, run by ONNX Runtime on one thread. Given as bytes or as a ``ModelProto``."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sampan.base.errors import BadStep, Damaged
from sampan.models.inputs import Inputs
from sampan.models.onnx_wire import objection
from sampan.models.version import InputType, Kind, Label, Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from sampan.models.formats import Facts, Frozen, Output

_FILE: Final = "model.onnx"
_ATTEMPT: Final = "Freeze an ONNX model"
_TYPES: Final[dict[str, tuple[InputType, Any]]] = {
    "tensor(float)": ("number", np.float32),
    "tensor(double)": ("number", np.float64),
    "tensor(int64)": ("integer", np.int64),
    "tensor(bool)": ("boolean", np.bool_),
    "tensor(string)": ("text", np.object_),
}
_OUTPUTS: Final[dict[Kind, Any]] = {
    "binary": "probability",
    "multiclass": "probabilities",
    "regression": "number",
    "ranking": "score",
}


def recognises(estimator: Any) -> bool:
    """Bytes, or an object of the onnx package that writes itself."""
    return isinstance(estimator, bytes) or type(estimator).__name__ == "ModelProto"


def freeze(estimator: Any, facts: "Facts") -> "Frozen":
    from sampan.models.formats import Frozen

    data = estimator if isinstance(estimator, bytes) else estimator.SerializeToString()
    if found := objection(data):
        raise BadStep(_ATTEMPT, found, "Export it again, as a single file with standard operators.")
    session = _session(data, BadStep, _ATTEMPT)
    inputs = session.get_inputs()
    types: dict[str, InputType] = {}
    for given in inputs:
        if given.type not in _TYPES:
            raise BadStep(_ATTEMPT, f"its input {given.name!r} is a {given.type}", f"Taken: {', '.join(_TYPES)}.")
    if len(inputs) == 1 and _width(inputs[0]) != 1:
        types = dict.fromkeys(_names(inputs[0], facts), _TYPES[inputs[0].type][0])
    else:
        types = {given.name: _TYPES[given.type][0] for given in inputs}
    classes = _classes(session, facts)
    signature = Signature(
        inputs=types,
        output=_OUTPUTS[facts.kind],
        classes=classes,
        missing=all(given.type in ("tensor(float)", "tensor(double)") for given in inputs),
    )
    return Frozen({_FILE: data}, signature, ("onnxruntime",))


def load(files: Mapping[str, bytes], kind: Kind, signature: Signature) -> "OnnxPredictor":
    """Raises Damaged for bytes that are no single-file ONNX model."""
    if found := objection(files[_FILE]):
        raise Damaged("Load an ONNX model", found, "Register another version.")
    return OnnxPredictor(_session(files[_FILE], Damaged, "Load an ONNX model"), kind, signature)


def kind_of(data: bytes) -> Kind | None:
    """What a file's outputs say of its kind: a classifier gives labels beside one number for each class. None where
    they say nothing. Raises BadStep for no single-file ONNX model."""
    if found := objection(data):
        raise BadStep(_ATTEMPT, found, "Export it again, as a single file with standard operators.")
    outputs = _session(data, BadStep, _ATTEMPT).get_outputs()
    labels = any(one.type in ("tensor(int64)", "tensor(string)", "tensor(bool)") for one in outputs)
    for one in outputs:
        if one.type in ("tensor(float)", "tensor(double)") and len(one.shape) == 2 and isinstance(one.shape[1], int):
            if one.shape[1] > 1:
                return "binary" if one.shape[1] == 2 else "multiclass"
            if labels:
                return "binary"
    return None


def reference(estimator: Any, sample: "pa.Table", kind: Kind, signature: Signature) -> "list[Output] | None":
    """There is nothing else to compare with: the file is the model."""
    return None


class OnnxPredictor:
    """Feeds either one matrix or one column per input, as the model declares."""

    def __init__(self, session: Any, kind: Kind, signature: Signature) -> None:
        self.signature = signature
        self._kind = kind
        self._session = session
        self._inputs = Inputs(signature)
        self._declared = [(given.name, _TYPES[given.type][1], len(given.shape)) for given in session.get_inputs()]
        self._matrix = len(self._declared) == 1 and len(signature.inputs) > 1
        self._numbers = set(signature.inputs.values()) == {"number"}
        self._output, self._read = _output(session, kind, signature)

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        feed = {}
        if self._matrix and self._numbers:
            name, kind, _ = self._declared[0]
            feed[name] = self._inputs.matrix(records).astype(kind, copy=False)
        elif self._matrix:
            name, kind, _ = self._declared[0]
            rows = self._inputs.rows(records)
            feed[name] = np.array(rows, dtype=kind).reshape(len(rows), -1)
        else:
            rows = self._inputs.rows(records)
            for place, (name, kind, axes) in enumerate(self._declared):
                column = np.array([row[place] for row in rows], dtype=kind)
                feed[name] = column.reshape(-1, 1) if axes == 2 else column
        return self._read(self._session.run([self._output], feed)[0])


def _session(data: bytes, error: type[BadStep] | type[Damaged], attempted: str) -> Any:
    try:
        import onnxruntime
    except ImportError as absent:
        raise BadStep(attempted, "the package onnxruntime is not installed", "Run `uv add 'sampan[onnx]'`.") from absent
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as fault:
        raise error(attempted, f"ONNX Runtime refuses it: {str(fault)[:300]}", "Export the model again.") from fault


def _width(given: Any) -> int | None:
    width = given.shape[1] if len(given.shape) == 2 else 1 if len(given.shape) == 1 else None
    return width if isinstance(width, int) else None


def _names(given: Any, facts: "Facts") -> list[str]:
    width = _width(given)
    names = list(facts.features or (facts.sample.column_names if facts.sample is not None else ()))
    if not names:
        raise BadStep(_ATTEMPT, "the names of its features are unknown", "Return Fitted(..., features=[...]).")
    if width is not None and width != len(names):
        raise BadStep(_ATTEMPT, f"it takes {width} features, {len(names)} are listed", f"Listed: {', '.join(names)}.")
    return names


def _classes(session: Any, facts: "Facts") -> tuple[Label, ...]:
    if facts.kind == "binary":
        return (False, True)
    if facts.kind != "multiclass":
        return ()
    for output in session.get_outputs():
        if output.type.startswith("tensor(float") and len(output.shape) == 2 and isinstance(output.shape[1], int):
            return tuple(range(output.shape[1]))
    raise BadStep(
        _ATTEMPT,
        "it does not say how many classes it has",
        "Export it with its probabilities as one tensor of known width (skl2onnx: options={'zipmap': False}).",
    )


def _output(session: Any, kind: Kind, signature: Signature) -> "tuple[str, Callable[[Any], list[Output]]]":
    """Which output to read, and how."""
    outputs = session.get_outputs()
    floats = [output for output in outputs if output.type in ("tensor(float)", "tensor(double)")]
    if not floats:
        listed = ", ".join(f"{output.name} {output.type}" for output in outputs)
        raise BadStep(
            _ATTEMPT,
            f"it gives no numbers: {listed}",
            "Export probabilities as a tensor (skl2onnx: options={'zipmap': False}).",
        )
    chosen = next((output for output in floats if "prob" in output.name.lower()), floats[0])

    def read(values: Any) -> "list[Output]":
        values = np.asarray(values, dtype=np.float64)
        given: list[Output]
        if kind == "binary":
            given = (values[:, 1] if values.ndim == 2 and values.shape[1] == 2 else values.ravel()).tolist()
        elif kind == "multiclass":
            given = values.tolist()
        else:
            given = values.ravel().tolist()
        return given

    return chosen.name, read
