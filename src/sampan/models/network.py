"""A network of PyTorch and its tensors: taken apart, put together again, asked. Without gradients, in one thread."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import numpy as np

from sampan.base.errors import BadStep, SampanError
from sampan.models.answers import line
from sampan.models.architecture import Node, build
from sampan.models.inputs import Matrix
from sampan.models.pinned import Pin
from sampan.models.version import Kind, Signature

_ATTEMPT: Final = "Freeze a PyTorch network"


class Tensor(msgspec.Struct, frozen=True):
    """What goes in: the name of forward's parameter (empty: its first), the columns, and the type.

    Its shape is ``[rows, columns]``.
    """

    name: str
    columns: tuple[str, ...]
    dtype: str


def state_of(network: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Its tensors by name, each once, and the names that stand for another. Raises BadStep for what is no tensor."""
    import torch

    state: dict[str, Any] = {}
    same: dict[str, str] = {}
    kept: dict[Any, str] = {}
    for name, value in network.state_dict().items():
        if not isinstance(value, torch.Tensor) or value.layout is not torch.strided or value.is_quantized:
            raise BadStep(
                _ATTEMPT, f"{name!r} in its state is no plain tensor", "Keep plain tensors only, or export to ONNX."
            )
        mark = (value.data_ptr(), value.shape, value.stride(), value.dtype) if value.numel() else name
        if mark in kept:
            same[name] = kept[mark]
            continue
        kept[mark] = name
        state[name] = value.detach().to("cpu", copy=True).contiguous()
    if any(value.is_complex() for value in state.values()):
        raise BadStep(_ATTEMPT, "it holds complex numbers", "Keep real and imaginary parts in two tensors.")
    return state, same


def anew(
    node: Node, sources: Mapping[str, bytes], package: Pin | None, state: dict[str, Any], error: Any, attempted: str
) -> Any:
    """The network with its tensors, ready to answer. Raises ``error`` where the two do not fit."""
    advice = "Declare the arguments that it was made with." if error is BadStep else "Register another version."
    try:
        network = build(node, sources, package)
    except SampanError:
        raise
    except Exception as failed:
        raise error(
            attempted, f"its declared network cannot be built: {type(failed).__name__}: {line(failed)}", advice
        ) from failed
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    have = {name: tuple(value.shape) for name, value in state.items()}
    missing, unexpected = sorted(wanted.keys() - have.keys()), sorted(have.keys() - wanted.keys())
    odd = [
        f"{name} is {list(have[name])} instead of {list(wanted[name])}"
        for name in wanted
        if name in have and have[name] != wanted[name]
    ]
    told = [
        f"{what} {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape:", odd))
        if names
    ]
    if told:
        raise error(attempted, f"its tensors are not those of the declared network: {'; '.join(told)}", advice)
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def on_processor(network: Any) -> Any:
    """The fitted network where it can be compared: a copy, if it is on another device."""
    devices = {value.device.type for value in [*network.parameters(), *network.buffers()]}
    return network if devices <= {"cpu"} else copy.deepcopy(network).to("cpu")


def places(signature: Signature, tensor: Tensor) -> list[int]:
    names = list(signature.inputs)
    return [names.index(column) for column in tensor.columns]


@contextmanager
def _calm(network: Any) -> Iterator[None]:
    """As after eval(), without gradients, in one thread; afterwards everything is as it was."""
    import torch

    threads, training = torch.get_num_threads(), [part for part in network.modules() if part.training]
    if threads != 1:
        torch.set_num_threads(1)
    if training:
        network.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True
        if threads != 1:
            torch.set_num_threads(threads)


def ask(network: Any, tensors: tuple[Tensor, ...], signature: Signature, rows: Matrix) -> Any:
    """What a network says to rows, as an array. Raises what PyTorch raises."""
    import torch

    given = {}
    for tensor in tensors:
        part = rows if len(tensors) == 1 else rows[:, places(signature, tensor)]
        given[tensor.name] = torch.from_numpy(np.ascontiguousarray(part)).to(getattr(torch, tensor.dtype))
    with _calm(network):
        said = network(*given.values()) if "" in given else network(**given)
        if not isinstance(said, torch.Tensor):
            raise TypeError(f"it gives a {type(said).__name__}, not one tensor")
        return said.to(torch.float64 if said.dtype == torch.float64 else torch.float32).numpy()


def answering(network: Any, kind: Kind, logits: bool) -> Any:
    """The network with what makes a prediction of its output: one number for each row, or one for each class."""
    import torch

    class Answering(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *given: Any, **named: Any) -> Any:
            said = self.network(*given, **named)
            wide = said.dim() == 2 and said.shape[1] > 1
            if logits:
                said = torch.softmax(said, 1) if wide else torch.sigmoid(said)
            if kind == "multiclass":
                return said
            return said[:, 1] if wide else said.reshape(-1)

    return Answering().eval()
