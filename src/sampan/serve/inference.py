"""The Open Inference Protocol V2 over REST: ``POST /v2/models/{endpoint}[/versions/{version}]/infer``.

A tensor for each input of the model, of shape [n] or [n, 1], or [n, ...] where it takes a tensor a record; or one
tensor of shape [n, inputs], its columns in the model's order. What the rules want to know besides is given as further
tensors. KServe, "Open Inference Protocol V2".
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from sampan.base.errors import NotFound, SampanError, Usage
from sampan.models.values import DATATYPES, Content, TensorType
from sampan.models.version import InputType, Signature
from sampan.serve.faces import Call, Headers, Said
from sampan.serve.native import decoded, quoting
from sampan.serve.saying import SAID, column, in_parameters
from sampan.serve.tensors import Tensor, flags, read_tensors, rows, write_tensor

if TYPE_CHECKING:
    from sampan.serve.bundle import Bundle

#: Says how long the JSON is where tensors follow it as bytes.
LENGTH: Final = "inference-header-content-length"
#: Not one of HTTP's: the version in the path, handed on to the serving process.
VERSION: Final = "sampan-version"
_ATTEMPT: Final = "Predict"
_DATATYPES: Final[dict[InputType, str]] = {
    "number": "FP64",
    "integer": "INT64",
    "boolean": "BOOL",
    "text": "BYTES",
    "category": "BYTES",
    "bytes": "BYTES",
}
_DECIDED: Final = ("id", "action", "rule")
_TOLD: Final = tuple(name for name in SAID if name not in _DECIDED)  # outputs for those who ask for them by name
_encode = msgspec.json.Encoder().encode


class Wanted(msgspec.Struct):
    """What a request says about its answer: its own id, which outputs, and which of them as bytes."""

    id: str
    outputs: dict[str, bool] | None
    binary: bool


def read(body: bytes, headers: Headers, bundle: "Bundle") -> Call:
    """Raises Usage for tensors that do not fit, NotFound for a version that is not the one that is served."""
    check_version(bundle, headers.get(VERSION, ""))
    head, rest = _split(body, headers.get(LENGTH, ""))
    given = decoded(head, "Send inputs as the Open Inference Protocol has them.")
    if not isinstance(given, dict):
        raise Usage(_ATTEMPT, "the body is not an object", 'Send {"inputs": [...]}.')
    signature = bundle.model.signature
    raw = [name for name in signature.heavy if signature.inputs[name] == "bytes"]
    tensors = read_tensors(given.get("inputs"), rest, raw)
    wanted = Wanted(str(given.get("id") or ""), _outputs(given.get("outputs"), bundle), False)
    wanted.binary = bool(flags(given.get("parameters")).get("binary_data_output"))
    records = _records(tensors, signature)
    return Call(records, wanted=wanted, pinned=bool(headers.get(VERSION)))


def write(said: Said, wanted: Wanted) -> tuple[bytes, Headers]:
    """``outputs``: ``prediction`` (or ``probabilities``), and of a decision ``action``, ``rule`` and ``id``;
    ``parameters``: whose answer it is, and what is to be said of it."""
    if said.error is not None:
        return refuse(said.error)
    made = {tensor.name: tensor for tensor in _tensors(said)}
    chosen = dict.fromkeys(made, wanted.binary) if wanted.outputs is None else wanted.outputs
    for name in chosen.keys() - made.keys():
        made[name] = Tensor(name, (len(said.answers),), "BYTES", column(said.answers, name))
    parts = [write_tensor(made[name], binary=binary) for name, binary in chosen.items()]
    versions = {str(one["version"]) for one in said.answers}
    model, _, version = (versions.pop() if len(versions) == 1 else said.bundle.version).partition("@")
    answer: dict[str, Any] = {"model_name": model}
    if not versions:  # of several, in a rollout, the protocol has room for none
        answer["model_version"] = version
    if wanted.id:
        answer["id"] = wanted.id
    answer["parameters"] = in_parameters(said.answers)
    head = _encode({**answer, "outputs": [part for part, _ in parts]})
    tail = b"".join(data for _, data in parts)
    if not tail:
        return head, {"content-type": "application/json"}
    return head + tail, {"content-type": "application/octet-stream", LENGTH: str(len(head))}


def refuse(error: SampanError) -> tuple[bytes, Headers]:
    """``{"error": "..."}``"""
    message = f"{error.attempted}: {error.obstacle}".rstrip(".") + f". {error.advice}"
    return quoting({"error": message.rstrip()}), {"content-type": "application/json"}


def check_version(bundle: "Bundle", asked: str) -> None:
    """Raises NotFound unless that is the version which the endpoint serves; nothing asked is whatever it serves."""
    served = bundle.version.partition("@")[2]
    if asked and asked != served:
        raise NotFound(_ATTEMPT, f"version {asked[:40]!r} is not served", f"Version {served} is.")


def metadata(name: str, bundle: "Bundle") -> dict[str, Any]:
    """What an endpoint's model takes and gives, as the protocol describes it; -1 stands for any number of records."""
    signature = bundle.model.signature
    inputs = [
        _described(feature, _datatype(signature, feature), _shape(signature, feature)) for feature in signature.inputs
    ]
    outputs = [_described("prediction", "BYTES" if signature.output == "text" else "FP64")]
    if isinstance(signature.gives, TensorType):
        outputs = [_described("prediction", signature.gives.datatype, signature.gives.shape)]
    if signature.output == "probabilities":
        outputs = [{"name": "probabilities", "datatype": "FP64", "shape": [-1, len(signature.classes)]}]
    if bundle.decision is not None:
        if bundle.decision.entity and bundle.decision.entity not in signature.inputs:
            inputs.append(_described(bundle.decision.entity, "BYTES"))
        outputs += [_described(output, "BYTES") for output in _DECIDED]
    version = bundle.version.partition("@")[2]
    return {
        "name": name,
        "versions": [version],
        "platform": f"sampan_{bundle.model.format}",
        "inputs": inputs,
        "outputs": outputs,
    }


def _described(name: str, datatype: str, shape: Sequence[int] = ()) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, *shape]}


def _shape(signature: Signature, name: str) -> tuple[int, ...]:
    return signature.tensor(name).shape if signature.inputs[name] == "tensor" else ()


def _datatype(signature: Signature, name: str) -> str:
    if signature.inputs[name] == "tensor":
        return signature.tensor(name).datatype
    return _DATATYPES[signature.cell(name) or signature.inputs[name]]


def _split(body: bytes, length: str) -> tuple[bytes, bytes]:
    if not length:
        return body, b""
    if not length.isascii() or not length.isdigit() or int(length) > len(body):
        obstacle = f"{LENGTH} is {length[:40]!r}, the body has {len(body)} bytes"
        raise Usage(_ATTEMPT, obstacle, "It is the length of the JSON part.", field=LENGTH)
    return body[: int(length)], body[int(length) :]


def _outputs(given: Any, bundle: "Bundle") -> dict[str, bool] | None:
    if not given:
        return None
    known = list(dict.fromkeys([*(one["name"] for one in metadata("", bundle)["outputs"]), *_TOLD]))
    found = {}
    for one in given if isinstance(given, list) else [given]:
        name = one.get("name") if isinstance(one, dict) else one
        if name not in known:
            raise Usage(_ATTEMPT, f"there is no output {str(name)[:80]!r}", f"Outputs: {', '.join(known)}.")
        found[str(name)] = bool(flags(one.get("parameters")).get("binary_data"))
    return found


def _records(tensors: Sequence[Tensor], signature: Signature) -> list[Any]:
    names = list(signature.inputs)
    alone = tensors[0]
    whole = len(tensors) == 1 and alone.name not in signature.inputs and not signature.heavy
    if whole and math.prod(alone.shape[1:]) == len(names):
        count = rows(tensors)
        width = len(names)
        cells = [alone.listed[at * width : (at + 1) * width] for at in range(count)]
        return [
            {name: _fitting(one, signature.inputs[name]) for name, one in zip(names, row, strict=True)} for row in cells
        ]
    count = rows(tensors)
    for tensor in tensors:
        if signature.heavy and tensor.name not in signature.inputs and len(tensor.shape) > 2:
            takes = "; ".join(
                f"{name}: {_datatype(signature, name)} {[-1, *_shape(signature, name)]}" for name in names
            )
            said = f"input {tensor.name!r} of the shape {list(tensor.shape)} is none of the model's"
            raise Usage(_ATTEMPT, said, f"It takes {takes}.", field=tensor.name)
        if len(tensor.values) != count and signature.inputs.get(tensor.name) != "tensor":
            obstacle = f"input {tensor.name!r}: expected the shape [{count}] or [{count}, 1], got {list(tensor.shape)}"
            advice = f"Send a tensor for each of {', '.join(names)}, or one of shape [n, {len(names)}]."
            raise Usage(_ATTEMPT, obstacle, advice, field=tensor.name)
    given = [(one.name, _values(one, signature)) for one in tensors]
    return [{name: values[at] for name, values in given} for at in range(count)]


def _values(tensor: Tensor, signature: Signature) -> Sequence[Any]:
    """What a tensor says to each record."""
    kind = signature.inputs.get(tensor.name)
    if kind == "tensor":
        wanted = signature.tensor(tensor.name)
        if tensor.datatype != wanted.datatype:
            said = f"expected {wanted.datatype} of the shape {[-1, *wanted.shape]}, got {tensor.datatype}"
            raise Usage(_ATTEMPT, f"input {tensor.name!r}: {said}", "Send it as that type.", field=tensor.name)
        try:
            return list(tensor.array)
        except ValueError as error:
            raise Usage(_ATTEMPT, f"input {tensor.name!r}: {error}", field=tensor.name) from None
    if kind == "bytes":
        return [Content(one) for one in _raw(tensor)]
    return [_fitting(value, kind) for value in tensor.listed]


def _raw(tensor: Tensor) -> list[Any]:
    if tensor.datatype == "BYTES":
        return tensor.listed
    said = f"input {tensor.name!r}: expected BYTES of the shape [-1], got {tensor.datatype}"
    raise Usage(_ATTEMPT, said, "Send one element for each record.", field=tensor.name)


def _fitting(value: Any, kind: InputType | None) -> Any:
    """A tensor has one type for all its columns: whole numbers and booleans come as floats."""
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "boolean" and type(value) in (int, float) and value in (0, 1):
        return bool(value)
    return value


def _tensors(said: Said) -> list[Tensor]:
    count = len(said.answers)
    found = [one["prediction"] for one in said.answers]
    if said.signature.output == "probabilities":
        shape = (count, len(said.signature.classes))
        made = [Tensor("probabilities", shape, "FP64", [share for one in found for share in one.values()])]
    elif isinstance(gives := said.signature.gives, TensorType):
        array = np.array(found, object if gives.datatype == "BYTES" else DATATYPES[gives.datatype])
        made = [Tensor("prediction", array.shape, gives.datatype, array.ravel().tolist())]
    elif said.signature.output == "text":
        made = [Tensor("prediction", (count,), "BYTES", found)]
    else:
        made = [Tensor("prediction", (count,), "FP64", found)]
    if said.bundle.decision is not None:
        made += [Tensor(name, (count,), "BYTES", [one[name] for one in said.answers]) for name in _DECIDED]
    return made
