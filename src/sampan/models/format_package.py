"""A model that a pinned package brings: ``package==version`` with an entry point, and files kept with the version.

What is kept is a name, an exact version and a digest of the package's files; the code stays where it is installed.
Loading checks that this package is installed here before it imports anything of it. Only a model step of the workspace
declares one.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from sampan.base.errors import BadStep, Damaged, SampanError, Usage
from sampan.models.answers import OUTPUTS, check_probabilities, classes_of, line
from sampan.models.architecture import plain
from sampan.models.inputs import Inputs
from sampan.models.pinned import Pin, check, module_of, owner_of, pin
from sampan.models.values import BYTES, TensorType
from sampan.models.version import InputType, Kind, Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from sampan.models.formats import Facts, Frozen, Output

GROUP: Final = "sampan.models"
_ENTRY: Final = "entry.json"
_FILES: Final = "files/"
_ATTEMPT: Final = "Freeze a model of a package"
_LOAD: Final = "Load a model of a package"


class EntryPoint:
    """A model that an installed package brings, for ``Fitted(EntryPoint(churn_rules.load, limit=3), features=[…])``.

    ``target`` is a function of the package, itself or as ``module:function``, or the name of an entry point that it
    declares in the group ``sampan.models``. It is called with ``files`` (names to bytes, kept with the version; a path
    is read) and the keyword arguments, which are plain data, and gives a function: from a ``pyarrow.Table`` of the
    features to one number for each row, or one list of probabilities in the order of ``classes``. Columns of the sample
    that are binary or lists make features that are bytes or tensors; a package may so read pictures itself.
    """

    def __init__(
        self,
        target: Callable[..., Any] | str,
        /,
        *,
        files: Mapping[str, bytes | str | Path] | None = None,
        classes: Sequence[Any] | None = None,
        **arguments: Any,
    ) -> None:
        given = (getattr(target, "__module__", "?"), getattr(target, "__qualname__", type(target).__name__))
        self.target = target if isinstance(target, str) else ":".join(given)
        self.files = dict(files or {})
        self.classes = tuple(classes) if classes is not None else None
        self.arguments = arguments

    def __repr__(self) -> str:
        return f"EntryPoint({self.target!r})"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file ``entry.json``: the package, ``module:function`` of it, and what that is called with."""

    package: Pin
    target: str
    arguments: dict[str, Any]
    format: int = 1


def recognises(estimator: Any) -> bool:
    return isinstance(estimator, EntryPoint)


def freeze(estimator: EntryPoint, facts: "Facts") -> "Frozen":
    from sampan.models.formats import Frozen

    name, target = _found(estimator.target)
    arguments = {key: plain(value, f"the argument {key}") for key, value in estimator.arguments.items()}
    entry = Entry(pin(name, _ATTEMPT), target, arguments)
    files = {f"{_FILES}{name}": data for name, data in _read(estimator.files).items()}
    files[_ENTRY] = msgspec.json.format(msgspec.json.encode(entry), indent=1)
    signature = _signature(facts)
    predictor = _predictor(files, facts.kind, signature, BadStep, _ATTEMPT)
    tried = _sample(facts, signature)
    finished = _finished(predictor, facts.kind, estimator.classes, tried)
    return Frozen(files, finished, (entry.package.name,))


def load(files: Mapping[str, bytes], kind: Kind, signature: Signature) -> "PackagePredictor":
    """Raises Damaged if the package that is installed here is not the one that was pinned; imports nothing then."""
    return _predictor(files, kind, signature, Damaged, _LOAD)


def reference(estimator: Any, sample: "pa.Table", kind: Kind, signature: Signature) -> "list[Output] | None":
    """There is nothing else to compare with: the package is the model."""
    return None


class PackagePredictor:
    """Asks the package's function, with the records as an Arrow table."""

    def __init__(self, function: Any, kind: Kind, signature: Signature, said: str) -> None:
        import pyarrow as pa

        self.signature = signature
        self._function = function
        self._kind = kind
        self._said = said
        self._inputs = Inputs(signature)
        types = {"number": pa.float64(), "integer": pa.int64(), "boolean": pa.bool_(), "bytes": pa.binary()}
        self._schema = pa.schema(
            [
                (name, _arrow(signature.tensor(name)) if type == "tensor" else types.get(type, pa.string()))
                for name, type in signature.inputs.items()
            ]
        )

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        answers = self.answers(records)
        given: list[Output] = (
            answers[:, 1].tolist() if self._kind == "binary" and answers.ndim == 2 else answers.tolist()
        )
        return given

    def answers(self, records: Sequence[Mapping[str, Any]]) -> Any:
        """What the function says, as an array of one number, or one list of them, for each record. Raises Usage."""
        import pyarrow as pa

        rows = self._inputs.rows(records)
        columns = [_column([row[place] for row in rows], field.type) for place, field in enumerate(self._schema)]
        attempted = "Predict"
        try:
            said = np.asarray(self._function(pa.table(columns, schema=self._schema)), dtype=np.float64)
        except SampanError:
            raise
        except Exception as error:
            raise Usage(attempted, f"{self._said} raised {type(error).__name__}: {line(error)}") from error
        if said.ndim not in (1, 2) or len(said) != len(rows):
            raise Usage(
                attempted,
                f"of {len(rows)} rows {self._said} made an array of shape {list(said.shape)}",
                "It has to give one number, or one list of probabilities, for each row.",
            )
        return said.ravel() if said.ndim == 2 and said.shape[1] == 1 else said


def _arrow(tensor: TensorType) -> Any:
    """The column of a tensor: of Arrow's own type where all its sizes are fixed, else nested lists."""
    import pyarrow as pa

    kind = pa.string() if tensor.datatype == BYTES else pa.from_numpy_dtype(tensor.numpy)
    if -1 not in tensor.shape and tensor.datatype not in (BYTES, "BOOL"):
        return pa.fixed_shape_tensor(kind, tensor.shape)
    for _ in tensor.shape:
        kind = pa.list_(kind)
    return kind


def _column(values: list[Any], type: Any) -> Any:
    import pyarrow as pa

    if isinstance(type, pa.FixedShapeTensorType):
        flat = pa.array(np.concatenate([one.ravel() for one in values]), type.value_type)
        storage = pa.FixedSizeListArray.from_arrays(flat, type.storage_type.list_size)
        return pa.ExtensionArray.from_storage(type, storage)
    if pa.types.is_list(type):
        return pa.array([one.tolist() for one in values], type)
    return pa.array([None if one != one else one for one in values], type)  # NaN stands for nothing


def _found(target: str) -> tuple[str, str]:
    """Package and ``module:function`` of what was declared. Raises BadStep."""
    named = list(entry_points(group=GROUP, name=target))
    if len(named) > 1:
        owners = ", ".join(sorted(one.dist.name for one in named if one.dist))
        raise BadStep(_ATTEMPT, f"{target!r} is declared by several packages: {owners}", "Name it as module:function.")
    value = named[0].value if named else target
    module, _, function = value.partition(":")
    if not function or not all(part.isidentifier() for part in (*module.split("."), *function.split("."))):
        known = ", ".join(sorted(one.name for one in entry_points(group=GROUP))) or "none"
        raise BadStep(
            _ATTEMPT,
            f"{target!r} is neither module:function nor an entry point of the group {GROUP}",
            f"Declared by installed packages: {known}.",
        )
    owner = named[0].dist.name if named and named[0].dist else owner_of(module)
    if owner is None:
        raise BadStep(
            _ATTEMPT,
            f"{module} is no module of an installed package, and a version pins a package",
            "Build one of it (`uv build`) and install it (`uv add`), or return the fitted model itself.",
        )
    return owner, f"{module}:{function}"


def _read(files: Mapping[str, bytes | str | Path]) -> dict[str, bytes]:
    found = {}
    for name, given in files.items():
        try:
            found[str(name)] = bytes(given) if isinstance(given, bytes | bytearray) else Path(given).read_bytes()
        except (OSError, TypeError) as error:
            raise BadStep(
                _ATTEMPT, f"its file {name!r} is not read: {error}", "Give bytes, or the path of a file."
            ) from error
    return found


def _predictor(
    files: Mapping[str, bytes], kind: Kind, signature: Signature, error: Any, attempted: str
) -> PackagePredictor:
    entry = msgspec.json.decode(files[_ENTRY], type=Entry)
    module, _, name = entry.target.partition(":")
    check(entry.package, attempted)
    said = f"{entry.target} of {entry.package.name}=={entry.package.version}"
    kept = {path.removeprefix(_FILES): data for path, data in files.items() if path.startswith(_FILES)}
    try:
        made: Any = module_of(entry.package.name, module, error, attempted)
        for part in name.split("."):
            made = getattr(made, part)
        function = made(kept, **entry.arguments)
    except SampanError:
        raise
    except Exception as failed:
        raise error(
            attempted, f"{said} raised {type(failed).__name__}: {line(failed)}", "See what it needs."
        ) from failed
    if not callable(function):
        raise error(
            attempted,
            f"{said} gave a {type(function).__name__}, which cannot be called",
            "It has to give a function that takes a pyarrow.Table.",
        )
    return PackagePredictor(function, kind, signature, said)


def _signature(facts: "Facts") -> Signature:
    names = list(facts.features or (facts.sample.column_names if facts.sample is not None else ()))
    if not names:
        raise BadStep(_ATTEMPT, "the names of its features are unknown", "Return Fitted(..., features=[...]).")
    types: dict[str, InputType] = dict.fromkeys(names, "number")
    tensors: dict[str, TensorType] = {}
    if facts.sample is not None:
        from sampan.models.sample import wire_type

        wired = {name: wire_type(name, facts.sample.schema.field(name).type) for name in names}
        tensors = {name: type for name, type in wired.items() if isinstance(type, TensorType)}
        types = {name: "tensor" if isinstance(type, TensorType) else type for name, type in wired.items()}
    plainly: dict[str, InputType] = {name: "text" if type == "category" else type for name, type in types.items()}
    return Signature(inputs=plainly, output=OUTPUTS[facts.kind], tensors=tensors or msgspec.UNSET)


def _sample(facts: "Facts", signature: Signature) -> list[dict[str, Any]]:
    """Rows to try it on: some of the sample, or one of zeros."""
    from sampan.models.golden import sendable
    from sampan.models.sample import plain_records

    if facts.sample is not None:
        fits = sendable(signature)
        if found := [one for one in plain_records(facts.sample.slice(0, 16), signature) if fits(one)]:
            return found
    empty: dict[InputType, Any] = {"number": 0.0, "integer": 0, "boolean": False}
    return [{name: empty.get(type, "") for name, type in signature.inputs.items()}]


def _finished(
    predictor: PackagePredictor, kind: Kind, wanted: tuple[Any, ...] | None, tried: list[dict[str, Any]]
) -> Signature:
    """The signature with classes, and whether features may be missing. Raises BadStep for what ``kind`` forbids."""
    try:
        given = predictor.answers(tried)
    except Usage as error:
        raise BadStep(_ATTEMPT, error.obstacle, error.advice or "Give a sample of rows that it takes.") from error
    classes = classes_of(given, kind, plain(list(wanted), "classes") if wanted is not None else None, _ATTEMPT)
    check_probabilities(given, kind, _ATTEMPT, "Let it give probabilities.")
    if predictor.signature.heavy:
        return msgspec.structs.replace(predictor.signature, classes=classes)
    missing = msgspec.structs.replace(predictor.signature, missing=True)
    lenient = PackagePredictor(predictor._function, kind, missing, "")
    try:
        bears = bool(np.isfinite(lenient.answers([dict.fromkeys(missing.inputs)])).all())
    except Exception:  # noqa: BLE001 - whatever it raises, the answer is no
        bears = False
    return msgspec.structs.replace(predictor.signature, classes=classes, missing=bears)
