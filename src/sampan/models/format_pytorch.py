"""Networks of PyTorch: their tensors as safetensors, beside a declaration of how the network is built. No pickle.

``architecture.json`` is the declaration (``sampan.models.architecture``) with what goes in and comes out. The source
files of an own class are kept below ``code/``, and a package that brings one is pinned: what builds the network is part
of the version, and later edits of the workspace do not reach it. Networks answer on the processor, in one thread, as
they do after ``eval()``.
"""

import io
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from sampan.base.errors import BadStep, Damaged, SampanError
from sampan.models.answers import OUTPUTS, check_probabilities, classes_of, line, shown
from sampan.models.architecture import Architecture, Node, declared, home_of, plain, read_off
from sampan.models.inputs import Inputs, Matrix
from sampan.models.network import Tensor, anew, answering, ask, on_processor, places, state_of
from sampan.models.pinned import Pin
from sampan.models.version import InputType, Kind, Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from sampan.models.formats import Facts, Frozen, Output

_WEIGHTS: Final = "model.safetensors"
_DECLARED: Final = "architecture.json"
_CODE: Final = "code/"
_FORMAT: Final = 1
_OPSET: Final = 18
_ATTEMPT: Final = "Freeze a PyTorch network"
_LOAD: Final = "Load a PyTorch network"
_TRIED: Final = 16  # rows made up to see whether the network made anew answers as the fitted one does


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """The file ``architecture.json``. ``output`` is the shape that comes out, without the rows; ``same`` names tensors
    that are another one under a second name."""

    network: Node
    inputs: tuple[Tensor, ...]
    output: tuple[int, ...]
    dtype: str
    logits: bool = False
    same: dict[str, str] = {}
    package: Pin | None = None
    format: int = _FORMAT


def recognises(estimator: Any) -> bool:
    """Whether it is a network; asking must not import PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(estimator, torch.nn.Module)


def freeze(estimator: Any, facts: "Facts") -> "Frozen":
    from sampan.models.formats import Frozen

    said = facts.architecture if facts.architecture is not None else Architecture()
    if not isinstance(said, Architecture):
        raise BadStep(_ATTEMPT, f"its architecture is a {type(said).__name__}", "Give a sampan.Architecture.")
    node = declared(said) if said.make is not None else read_off(estimator)
    sources, package = home_of(node) if node.make else ({}, None)
    state, same = state_of(estimator)
    signature = _signature(facts, said)
    tensors = _tensors(signature, said, _floats(state))
    network = anew(
        node, sources, package, {**state, **{name: state[kept] for name, kept in same.items()}}, BadStep, _ATTEMPT
    )
    tried = np.random.default_rng(0).normal(size=(_TRIED, len(signature.inputs)))
    for tensor in tensors:
        if tensor.dtype == "int64":  # a code that every table of codes has
            tried[:, places(signature, tensor)] = 0
    given = _try(network, tensors, signature, tried)
    ours = _try(on_processor(estimator), tensors, signature, tried)
    if given.shape != ours.shape or not np.allclose(given, ours, rtol=1e-6, atol=1e-6, equal_nan=True):
        raise BadStep(
            _ATTEMPT,
            f"made anew from its declaration, it answers {shown(given)} where the fitted one says {shown(ours)}",
            "Declare every argument that it was made with: Architecture(CLASS, ARGUMENT=…).",
        )
    signature = _finished(signature, facts.kind, said, given, network, tensors)
    declaration = Declaration(
        network=node,
        inputs=tensors,
        output=given.shape[1:],
        dtype=str(given.dtype),
        logits=said.logits,
        same=same,
        package=package,
    )
    from safetensors.torch import save

    files = {
        _DECLARED: msgspec.json.format(msgspec.json.encode(declaration), indent=1),
        _WEIGHTS: save(state),
        **{f"{_CODE}{path}": data for path, data in sources.items()},
    }
    return Frozen(files, signature, ("torch", "safetensors"))


def load(files: Mapping[str, bytes], kind: Kind, signature: Signature) -> "PyTorchPredictor":
    """Raises Damaged for tensors that are not those of the declared network, or anything but such a declaration."""
    load_tensors = _safetensors(_LOAD)
    declaration = msgspec.json.decode(files[_DECLARED], type=Declaration)
    if declaration.format > _FORMAT:
        raise Damaged(_LOAD, f"it has format {declaration.format}, this Sampan knows up to {_FORMAT}", "Upgrade.")
    sources = {path.removeprefix(_CODE): data for path, data in files.items() if path.startswith(_CODE)}
    state = load_tensors(files[_WEIGHTS])
    state |= {name: state[kept] for name, kept in declaration.same.items()}
    network = anew(declaration.network, sources, declaration.package, state, Damaged, _LOAD)
    return PyTorchPredictor(network, declaration, kind, signature)


def reference(estimator: Any, sample: "pa.Table", kind: Kind, signature: Signature) -> "list[Output] | None":
    """What the network made anew says is compared with the fitted one when it is frozen, on rows of its own."""
    return None


class PyTorchPredictor:
    """Predicts in one thread, whatever the process around it does with its threads."""

    def __init__(self, network: Any, declaration: Declaration, kind: Kind, signature: Signature) -> None:
        self.signature = signature
        self.declaration = declaration
        self.answering = answering(network, kind, declaration.logits)
        self._kind = kind
        self._inputs = Inputs(signature)

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        try:
            values = ask(self.answering, self.declaration.inputs, self.signature, self._inputs.matrix(records))
        except (RuntimeError, IndexError, ValueError) as error:
            if isinstance(error, SampanError):
                raise
            # The features are of the declared types: the fault is the network's, and something else may answer.
            said = f"the network failed on these values: {line(error)}"
            raise Damaged("Predict", said, "Train it with what it may be sent, or check that in the rules.") from error
        given: list[Output] = values.astype(np.float64).tolist()
        return given

    def to_onnx(self) -> bytes:
        """What it answers, as an ONNX model of one matrix. Raises ValueError for a network with several inputs.

        By PyTorch's exporter that needs no further package; it follows one example, so what depends on values is lost.
        """
        import torch

        (tensor,) = self.declaration.inputs if len(self.declaration.inputs) == 1 else (None,)
        if tensor is None:
            raise ValueError("it takes several tensors, and one matrix is converted")
        out = io.BytesIO()
        rows = torch.zeros(2, len(tensor.columns), dtype=getattr(torch, tensor.dtype))
        torch.onnx.export(
            self.answering,
            (rows,) if not tensor.name else ({tensor.name: rows},),
            out,
            dynamo=False,
            input_names=["X"],
            output_names=["prediction"],
            dynamic_axes={"X": {0: "rows"}, "prediction": {0: "rows"}},
            opset_version=_OPSET,
        )
        return out.getvalue()


# -- what is installed, and what it is fed


def _safetensors(attempted: str) -> Any:
    try:
        import torch  # noqa: F401
        from safetensors.torch import load
    except ImportError as absent:
        raise BadStep(
            attempted, f"the package {absent.name} is not installed", "Run `uv add 'sampan[torch]'`."
        ) from absent
    return load


def _floats(state: Mapping[str, Any]) -> str:
    """The type that most of its numbers have, and so what it is fed."""
    for value in state.values():
        if value.is_floating_point():
            return str(value.dtype).removeprefix("torch.")
    return "float32"


# -- what goes in and comes out


def _signature(facts: "Facts", said: Architecture) -> Signature:
    columns = list(facts.sample.column_names) if facts.sample is not None else []
    names = list(facts.features or [one for group in (said.inputs or {}).values() for one in group] or columns)
    if not names:
        raise BadStep(_ATTEMPT, "the names of its features are unknown", "Return Fitted(..., features=[...]).")
    types: dict[str, InputType] = dict.fromkeys(names, "number")
    if facts.sample is not None:
        from sampan.models.sample import input_type

        types = {name: input_type(name, facts.sample.schema.field(name).type) for name in names}
    if odd := [name for name, type in types.items() if type in ("text", "category")]:
        raise BadStep(_ATTEMPT, f"the feature {odd[0]!r} is no number", "Encode it as a number before the model.")
    return Signature(inputs=types, output=OUTPUTS[facts.kind])


def _tensors(signature: Signature, said: Architecture, floats: str) -> tuple[Tensor, ...]:
    if said.inputs is None:
        return (Tensor("", tuple(signature.inputs), floats),)
    for name, columns in said.inputs.items():
        if odd := [one for one in columns if one not in signature.inputs]:
            raise BadStep(
                _ATTEMPT, f"its input {name!r} takes {odd[0]!r}, which is no feature", "Features are those of Fitted."
            )
    if unused := sorted(set(signature.inputs) - {one for columns in said.inputs.values() for one in columns}):
        raise BadStep(_ATTEMPT, f"no input of it takes the feature {unused[0]!r}", "Name it in inputs={...}.")
    return tuple(
        Tensor(
            name, columns, "int64" if columns and all(signature.inputs[one] == "integer" for one in columns) else floats
        )
        for name, columns in said.inputs.items()
    )


def _try(network: Any, tensors: tuple[Tensor, ...], signature: Signature, rows: Matrix) -> Any:
    try:
        said = ask(network, tensors, signature, rows)
    except Exception as error:
        raise BadStep(
            _ATTEMPT,
            f"it does not take its {len(signature.inputs)} features: {line(error)}",
            "It gets one tensor of shape [rows, features], or what Architecture(…, inputs={…}) says.",
        ) from error
    if said.ndim == 0 or said.ndim > 2 or said.shape[0] != len(rows):
        raise BadStep(
            _ATTEMPT,
            f"of {len(rows)} rows it makes a tensor of shape {list(said.shape)}",
            "Let it give one number or one list of probabilities for each row.",
        )
    return said


def _finished(
    signature: Signature, kind: Kind, said: Architecture, given: Any, network: Any, tensors: tuple[Tensor, ...]
) -> Signature:
    """The signature with classes, and whether features may be missing. Raises BadStep for what ``kind`` forbids."""
    wanted = plain(list(said.classes), "classes") if said.classes is not None else None
    classes = classes_of(given, kind, wanted, _ATTEMPT)
    if said.logits and kind not in ("binary", "multiclass"):
        raise BadStep(_ATTEMPT, f"logits=True, and it is a {kind} model", "Leave it out.")
    if not said.logits:
        check_probabilities(
            given, kind, _ATTEMPT, "Declare Architecture(…, logits=True), or end it with a Sigmoid or Softmax."
        )
    missing = False
    if all(tensor.dtype != "int64" for tensor in tensors):
        try:
            missing = bool(
                np.isfinite(ask(network, tensors, signature, np.full((1, len(signature.inputs)), np.nan))).all()
            )
        except Exception:  # noqa: BLE001 - whatever it raises, the answer is no
            missing = False
    return msgspec.structs.replace(signature, classes=classes, missing=missing)
