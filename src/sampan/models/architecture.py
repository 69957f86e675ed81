"""How a network of PyTorch is built: declared by the user, or read off one that is made of ``torch.nn`` layers alone.

A declaration is data: layers of an allow-list with the arguments that they were made with, and own classes by import
path. The source of an own class is kept beside it, as it was; nothing is unpickled.
"""

import inspect
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import BadStep, BadWorkspace, Damaged
from sampan.base.sources import collect, imported_apart
from sampan.models.pinned import Pin, check, module_of, owner_of, pin

_NAMES: Final = (
    "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d AlphaDropout AvgPool1d AvgPool2d "
    "BatchNorm1d BatchNorm2d BatchNorm3d CELU Conv1d Conv2d Conv3d Dropout Dropout1d Dropout2d ELU Embedding Flatten "
    "GELU GLU GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh Identity InstanceNorm1d InstanceNorm2d LayerNorm "
    "LeakyReLU Linear LogSigmoid LogSoftmax MaxPool1d MaxPool2d Mish PReLU RMSNorm RReLU ReLU ReLU6 SELU SiLU Sigmoid "
    "Softmax Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold Unflatten"
)
#: Layers of ``torch.nn`` that are made anew from their own attributes. They take a tensor and give one.
LAYERS: Final = frozenset(_NAMES.split())
_ATTEMPT: Final = "Freeze a PyTorch network"
_LOAD: Final = "Load a PyTorch network"
_DEEPEST: Final = 50


class Architecture:
    """Says how a network is built, for ``Fitted(network, architecture=Architecture(Churn, width=32))``.

    ``make`` is the class, or a function that gives the network: itself, or as ``"module:name"``. The keyword arguments
    are what it is called with: numbers, texts, lists and mappings of them. Without ``make`` the network is one of
    ``torch.nn.Sequential`` and layers, which need no declaration, and only the rest is said:

    ``inputs`` maps each parameter of ``forward`` to the features that its tensor holds, one column each; left out, it
    takes one tensor of all features. A tensor is of floats, unless all of its columns are whole numbers and ``inputs``
    names them: then of int64. ``logits``: it gives what has yet to go through a sigmoid (binary) or softmax
    (multiclass). ``classes``: the labels of a multiclass model in the order of its outputs; 0, 1, 2, … if left out.
    """

    def __init__(
        self,
        make: Any = None,
        /,
        *,
        inputs: Mapping[str, Sequence[str]] | None = None,
        logits: bool = False,
        classes: Sequence[Any] | None = None,
        **arguments: Any,
    ) -> None:
        self.make = make
        self.inputs = {name: tuple(columns) for name, columns in inputs.items()} if inputs is not None else None
        self.logits = logits
        self.classes = tuple(classes) if classes is not None else None
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"Architecture({self.make!r})"


class Node(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A part of a network: a ``layer`` of ``torch.nn`` with its ``parts``, or what ``make`` (``nets:Churn``) gives."""

    layer: str = ""
    make: str = ""
    arguments: dict[str, Any] = {}
    parts: tuple[tuple[str, "Node"], ...] = ()


def read_off(network: Any, place: str = "", depth: int = 0) -> Node:
    """The declaration of a network of ``torch.nn`` alone. Raises BadStep naming the part that has to be declared."""
    from torch import nn

    kind = type(network)
    where = f"its part {place!r}" if place else "it"
    if network._forward_hooks or network._forward_pre_hooks:
        raise BadStep(_ATTEMPT, f"{where} has hooks, which are functions", "Do in forward what they do.")
    if kind is nn.Sequential and depth < _DEEPEST:
        parts = [
            (name, read_off(part, f"{place}.{name}".lstrip("."), depth + 1))
            for name, part in network._modules.items()  # named_children() leaves out what stands there twice
        ]
        return Node(layer="Sequential", parts=tuple(parts))
    if kind.__name__ not in LAYERS or kind is not getattr(nn, kind.__name__, None):
        raise BadStep(
            _ATTEMPT,
            f"{where} is a {kind.__module__}.{kind.__qualname__}, and how that is built is not declared",
            "Return Fitted(network, architecture=Architecture(CLASS, ARGUMENT=…)), or the bytes of an ONNX export.",
        )
    return Node(layer=kind.__name__, arguments=dict(_own_arguments(network, where)))


def _own_arguments(layer: Any, where: str) -> Iterator[tuple[str, Any]]:
    for name, parameter in inspect.signature(type(layer)).parameters.items():
        several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if several or name in ("device", "dtype") or name.startswith("_"):
            continue
        if name == "bias":
            yield name, layer.bias is not None
        elif hasattr(layer, name):
            yield name, plain(getattr(layer, name), f"{where}: its {name}")
        elif parameter.default is parameter.empty:
            raise BadStep(_ATTEMPT, f"{where} does not tell its {name}", "Declare the network: Architecture(CLASS, …).")


def declared(architecture: Architecture) -> Node:
    """The declaration that the user gave. Raises BadStep for one that cannot be followed again."""
    make = architecture.make
    if isinstance(make, str):
        path = make
    else:
        path = f"{getattr(make, '__module__', '?')}:{getattr(make, '__qualname__', type(make).__name__)}"
    module, _, name = path.partition(":")
    if not name or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise BadStep(
            _ATTEMPT,
            f"{path!r} is no class or function that can be imported",
            "Put it at the top level of a module: Architecture(CLASS, …) or Architecture('module:CLASS', …).",
        )
    if module == "__main__":
        raise BadStep(_ATTEMPT, f"{name} is declared in a notebook or script", "Put it in a module of the workspace.")
    arguments = {key: plain(value, f"the argument {key}") for key, value in architecture.arguments.items()}
    return Node(make=path, arguments=arguments)


def plain(value: Any, what: str) -> Any:
    """A value as JSON has it. Raises BadStep for one that is none."""
    if isinstance(value, list | tuple):
        return [plain(one, what) for one in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: plain(one, what) for key, one in value.items()}
    if value is None or type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    raise BadStep(
        _ATTEMPT,
        f"{what} is {str(value)[:60]} of type {type(value).__name__}",
        "Architectures are declared with numbers, texts, true and false, and lists and mappings of these.",
    )


def home_of(node: Node) -> tuple[dict[str, bytes], Pin | None]:
    """Where the code is that ``make`` names: source files of the workspace, by path below its folder (its module's, and
    what that imports of there); or the installed package that brings it, pinned.

    Raises BadStep for a module that does not import, or is neither.
    """
    module = node.make.partition(":")[0]
    try:
        file = import_module(module).__file__
    except (ImportError, AttributeError) as error:
        raise BadStep(_ATTEMPT, f"{node.make!r} does not import: {error}", "Name it as module:CLASS.") from error
    depth = module.count(".") + (Path(file).name == "__init__.py" if file else 0)
    if not file or not file.endswith(".py") or _installed(Path(file)):
        owner = owner_of(module)
        if owner is None or owner == "torch":
            raise BadStep(
                _ATTEMPT,
                f"{node.make} is no code of the workspace or of a package that brings networks",
                "Declare a class or function that builds it from layers, or export it to ONNX.",
            )
        return {}, pin(owner, _ATTEMPT)
    path = Path(file).absolute()
    root = path.parents[depth]  # the folder that the import was found in
    try:
        return collect(root, path.relative_to(root).as_posix()), None
    except BadWorkspace as error:
        raise BadStep(_ATTEMPT, error.obstacle, error.advice) from error


def _installed(path: Path) -> bool:
    library = Path(os.__file__).parent
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or path.is_relative_to(library)


@contextmanager
def unseeded() -> Iterator[None]:
    """What building a network draws at random is drawn apart: whoever draws next gets what he would have got."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def build(node: Node, sources: Mapping[str, bytes], package: Pin | None = None) -> Any:
    """The network that a declaration describes, with weights that mean nothing yet.

    Code comes from ``sources``, or from ``package``, which must be the one that is installed. Raises ValueError saying
    what cannot be built, and Damaged for another package.
    """
    with unseeded():
        if not node.make:
            return _layer(node, 0)
        module, _, name = node.make.partition(":")
        if package is not None:
            check(package, _LOAD)
            network = _call(module_of(package.name, module, Damaged, _LOAD), name, node.arguments)
        else:
            stem = module.replace(".", "/")
            if not {f"{stem}.py", f"{stem}/__init__.py"} & set(sources):
                raise ValueError(f"the source of {module!r} is not kept with it")
            with imported_apart(sources):
                network = _call(import_module(module), name, node.arguments)
    nn = sys.modules["torch.nn"]
    if not isinstance(network, nn.Module):
        raise ValueError(f"{node.make} gives a {type(network).__name__}, not a network")
    return network


def _call(made: Any, name: str, arguments: Mapping[str, Any]) -> Any:
    for part in name.split("."):
        made = getattr(made, part)
    return made(**arguments)


def _layer(node: Node, depth: int) -> Any:
    from collections import OrderedDict

    from torch import nn

    if node.layer == "Sequential" and depth < _DEEPEST:
        return nn.Sequential(OrderedDict((name, _layer(part, depth + 1)) for name, part in node.parts))
    if node.layer not in LAYERS:
        raise ValueError(f"{node.layer!r} is no layer that is made anew")
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in node.arguments.items()}
    return getattr(nn, node.layer)(**arguments)
