"""ONNX in one file, run by ONNX Runtime on one thread. Given as bytes or as a ``ModelProto``.

An input of one number a record is a column; one matrix may be the columns in their order. Every other input is a tensor
(``models.onnx_tensors``), whose first dimension is that of the records.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from sampan.base.errors import BadStep, Damaged, Usage
from sampan.models.answers import OUTPUTS, line
from sampan.models.inputs import Inputs
from sampan.models.onnx_tensors import (
    DATATYPES,
    declared,
    given_by,
    is_column,
    misfit,
    one_at_a_time,
    read_tensors,
    read_texts,
)
from sampan.models.onnx_wire import objection
from sampan.models.values import TensorType
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
_MAPS: Final = "seq(map("  # of probabilities by class
#: Records that are asked in one call. Trees take twice as long for each where there are several hundred, as the scores
#: of all of them have to be at hand; others gain nothing from more.
_TOGETHER: Final = 64


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
    types, tensors = _taken(inputs, facts)
    signature = Signature(
        inputs=types,
        output=OUTPUTS[facts.kind],
        classes=_classes(session, facts),
        missing=not tensors and all(given.type in ("tensor(float)", "tensor(double)") for given in inputs),
        tensors=tensors or msgspec.UNSET,
        gives=given_by(session.get_outputs()) if facts.kind == "tensor" else msgspec.UNSET,
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
    if any(one.type.startswith(_MAPS) for one in outputs):
        raise BadStep(
            _ATTEMPT,
            "it gives a map of probabilities by class, which does not say how many there are",
            "Say it: --kind binary. Of more than two, export a tensor (skl2onnx: options={'zipmap': False}).",
        )
    labels = any(one.type in ("tensor(int64)", "tensor(string)", "tensor(bool)") for one in outputs)
    for one in outputs:
        if one.type in ("tensor(float)", "tensor(double)") and len(one.shape) == 2 and isinstance(one.shape[1], int):
            if one.shape[1] > 1:
                return "binary" if one.shape[1] == 2 else "multiclass"
            if labels:
                return "binary"
    first = outputs[0]
    if len(first.shape) > 2 and first.type in DATATYPES and first.type != "tensor(string)":
        return "tensor"
    return "text" if all(one.type == "tensor(string)" for one in outputs) else None


def reference(estimator: Any, sample: "pa.Table", kind: Kind, signature: Signature) -> "list[Output] | None":
    """There is nothing else to compare with: the file is the model."""
    return None


class OnnxPredictor:
    """Feeds either one matrix or one column per input, as the model declares."""

    free: Final = True

    def __init__(self, session: Any, kind: Kind, signature: Signature) -> None:
        self.signature = signature
        self._kind = kind
        self._session = session
        self._inputs = Inputs(signature)
        self._heavy = signature.heavy
        if self._heavy:
            self._asked = {given.name: given for given in session.get_inputs()}
            self._together = 1 if one_at_a_time(session.get_inputs()) else _TOGETHER
            self._output, self._read = _output(session, kind, signature)
            return
        self._declared = [(given.name, _TYPES[given.type][1], len(given.shape)) for given in session.get_inputs()]
        self._matrix = len(self._declared) == 1 and len(signature.inputs) > 1
        self._numbers = set(signature.inputs.values()) == {"number"}
        self._output, self._read = _output(session, kind, signature)

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        if self._heavy:
            return self._predict_tensors(records)
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
        if len(records) <= _TOGETHER:
            return self._read(self._session.run([self._output], feed)[0])
        found: list[Output] = []
        for start in range(0, len(records), _TOGETHER):
            some = {name: values[start : start + _TOGETHER] for name, values in feed.items()}
            found += self._read(self._session.run([self._output], some)[0])
        return found

    def _predict_tensors(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        """Records whose tensors have the same shapes are asked together."""
        names = list(self.signature.inputs)
        rows = [
            [self._array(name, value) for name, value in zip(names, row, strict=True)]
            for row in self._inputs.rows(records)
        ]
        alike: dict[Any, list[int]] = {}
        for place, row in enumerate(rows):
            alike.setdefault(tuple(one.shape for one in row), []).append(place)
        found: dict[int, Output] = {}
        for places in alike.values():
            for start in range(0, len(places), self._together):
                some = places[start : start + self._together]
                feed = {name: np.stack([rows[place][at] for place in some]) for at, name in enumerate(names)}
                found.update(zip(some, self._run(feed, len(some)), strict=True))
        return [found[place] for place in range(len(rows))]

    def _array(self, name: str, value: Any) -> Any:
        """One record's part of an input."""
        given = self._asked[name]
        if self.signature.inputs[name] == "bytes":
            return np.frombuffer(value, np.uint8)
        if self.signature.inputs[name] == "tensor":
            return value
        return np.array([value] if len(given.shape) == 2 else value, _TYPES[given.type][1])

    def _run(self, feed: Mapping[str, Any], count: int) -> "list[Output]":
        try:
            (values,) = self._session.run([self._output], feed)
        except Exception as error:
            shapes = ", ".join(f"{name} {list(one.shape[1:])}" for name, one in feed.items())
            if odd := misfit(self._asked, feed):
                said = f"the model does not take {shapes}: {odd}"
                raise Usage("Predict", said, "Send the shapes that it declares.") from error
            # Types and shapes are as its signature has them: the fault is the model's, and something else may answer.
            said = f"the model failed on {shapes}: {line(error)}"
            raise Damaged("Predict", said, "Export it so that it declares what it takes.") from error
        values = np.asarray(values)
        if values.ndim == 0 or len(values) != count:
            said = f"of {count} records it made a tensor of the shape {list(values.shape)}"
            raise Damaged("Predict", said, "Its first dimension has to be that of the records.")
        return self._read(values)


def _taken(inputs: Sequence[Any], facts: "Facts") -> tuple[dict[str, InputType], dict[str, TensorType]]:
    """What is sent for it: the type of each field, and what those are that are tensors. Raises BadStep."""
    first = inputs[0]
    alone = len(inputs) == 1 and len(first.shape) == 2 and not is_column(first)
    if alone and first.name not in facts.whole and not _lists(facts, first.name):
        named = facts.features or facts.sample is not None
        if named or isinstance(first.shape[1], int):
            _known(first, _TYPES)
            return dict.fromkeys(_names(first, facts), _TYPES[first.type][0]), {}
    types: dict[str, InputType] = {}
    tensors = {}
    for given in inputs:
        if is_column(given) and given.name not in facts.whole:
            _known(given, _TYPES)
            types[given.name] = _TYPES[given.type][0]
            continue
        _known(given, DATATYPES)
        types[given.name] = facts.whole.get(given.name) or "tensor"
        if types[given.name] == "bytes" and (given.type != "tensor(uint8)" or len(given.shape) != 2):
            said = f"its input {given.name!r} is a {given.type} of {len(given.shape)} dimensions, which is not bytes"
            raise BadStep(_ATTEMPT, said, "Bytes are a tensor(uint8) of [records, any length].")
        made = declared(given, _ATTEMPT)
        if types[given.name] == "tensor":
            tensors[given.name] = made
    return types, tensors


def _lists(facts: "Facts", name: str) -> bool:
    """Whether the sample holds the whole input in one column."""
    if facts.sample is None or name not in facts.sample.column_names:
        return False
    from sampan.models.sample import wire_type

    return isinstance(wire_type(name, facts.sample.schema.field(name).type), TensorType)


def _known(given: Any, types: Mapping[str, Any]) -> None:
    if given.type not in types:
        raise BadStep(_ATTEMPT, f"its input {given.name!r} is a {given.type}", f"Taken: {', '.join(types)}.")


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


def _read_maps(values: Any) -> "list[Output]":
    """The second class's number of each record's map, as skl2onnx gives them where nothing else is asked for."""
    if any(len(one) != 2 for one in values):
        said = f"it gives {len(values[0])} classes, where a binary model has two"
        raise Damaged("Predict", said, "Export probabilities as a tensor (skl2onnx: options={'zipmap': False}).")
    return [float(one[max(one)]) for one in values]


def _output(session: Any, kind: Kind, signature: Signature) -> "tuple[str, Callable[[Any], list[Output]]]":
    """Which output to read, and how."""
    outputs = session.get_outputs()
    if kind == "tensor":
        return outputs[0].name, read_tensors
    if kind == "text":
        texts = [one.name for one in outputs if one.type == "tensor(string)"]
        if not texts:
            raise BadStep(_ATTEMPT, "it gives no text", "Say what it gives: --kind.")
        return texts[0], read_texts
    floats = [output for output in outputs if output.type in ("tensor(float)", "tensor(double)")]
    if not floats and kind == "binary" and (maps := [one for one in outputs if one.type.startswith(_MAPS)]):
        return maps[0].name, _read_maps
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
