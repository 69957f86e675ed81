"""scikit-learn estimators and pipelines in skops' format: arrays and a description, no pickle.

What may be in such a file is fixed per release of Sampan: skops' own defaults, scikit-learn's public estimators and
``TRUSTED``. A file is never asked which types it would like to be trusted. Deliberately absent: ``functools.partial``
and anything else that carries a function.
"""

import io
import itertools
import json
import sys
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sampan.base.errors import BadStep, Damaged
from sampan.base.lacking import lacking
from sampan.models.inputs import Inputs
from sampan.models.version import InputType, Kind, Label, Signature

if TYPE_CHECKING:
    import pyarrow as pa

    from sampan.models.formats import Facts, Frozen, Output

TRUSTED: Final = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "sklearn._loss.link.IdentityLink",
    "sklearn._loss.link.LogLink",
    "sklearn._loss.link.LogitLink",
    "sklearn._loss.link.MultinomialLogit",
    "sklearn._loss.loss.AbsoluteError",
    "sklearn._loss.loss.HalfBinomialLoss",
    "sklearn._loss.loss.HalfGammaLoss",
    "sklearn._loss.loss.HalfMultinomialLoss",
    "sklearn._loss.loss.HalfPoissonLoss",
    "sklearn._loss.loss.HalfSquaredError",
    "sklearn._loss.loss.PinballLoss",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
)
_NOT_PUBLIC: Final = frozenset({"conftest", "estimator_checks", "experimental", "externals", "setup", "tests"})
_FILE: Final = "model.skops"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_LIMIT: Final = 2 << 30  # bytes that a file may unpack to


def recognises(estimator: Any) -> bool:
    """Whether it is a scikit-learn estimator; asking must not import scikit-learn."""
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(estimator, base.BaseEstimator)


def freeze(estimator: Any, facts: "Facts") -> "Frozen":
    from sampan.models.formats import Frozen

    io_ = _skops()
    attempted = f"Freeze a {type(estimator).__name__}"
    if facts.kind in ("binary", "multiclass") and not hasattr(estimator, "predict_proba"):
        raise BadStep(
            attempted,
            f"a {facts.kind} model must give probabilities, and it has no predict_proba",
            "Wrap it in sklearn.calibration.CalibratedClassifierCV, or choose another estimator.",
        )
    try:
        data = io_.dumps(estimator)
    except Exception as error:
        raise BadStep(
            attempted, f"skops cannot write it: {error}", "Use plain scikit-learn parts, or export it to ONNX."
        ) from error
    if odd := sorted(one for one in io_.get_untrusted_types(data=data) if not trusted(one)):
        raise BadStep(
            attempted,
            f"it holds a {odd[0]}, which is not on this release's list of safe types",
            "Move own functions and classes into a step before the model, or export the model to ONNX.",
        )
    signature = _signature(estimator, facts, attempted)
    return Frozen({_FILE: normalise(data)}, signature, ("scikit-learn", "skops", "numpy"))


def load(files: Mapping[str, bytes], kind: Kind, signature: Signature) -> "SkopsPredictor":
    """Raises Damaged for anything but a skops file of trusted types."""
    return SkopsPredictor(construct(files[_FILE]), kind, signature)


def reference(estimator: Any, sample: "pa.Table", kind: Kind, signature: Signature) -> "list[Output] | None":
    """What the fitted estimator itself predicts on the sample."""
    if _of_text(signature):
        return _outputs(estimator, sample.column(0).to_pylist(), kind)
    frame = sample.to_pandas() if signature.frame else _matrix_of(sample)
    return _outputs(estimator, frame, kind)


def _of_text(signature: Signature) -> bool:
    """Whether the estimator takes a list of texts."""
    return not signature.frame and list(signature.inputs.values()) == ["text"]


class SkopsPredictor:
    """Predicts with a reconstructed estimator."""

    def __init__(self, estimator: Any, kind: Kind, signature: Signature) -> None:
        self.signature = signature
        self._kind = kind
        self._estimator = estimator
        self._inputs = Inputs(signature)
        self._texts = _of_text(signature)

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        if self._texts:
            return _outputs(self._estimator, [row[0] for row in self._inputs.rows(records)], self._kind)
        rows = self._inputs.frame(records) if self.signature.frame else self._inputs.matrix(records)
        return _outputs(self._estimator, rows, self._kind)


def normalise(data: bytes) -> bytes:
    """The same skops file with nothing in it that differs from one freezing to the next.

    skops names nodes and arrays by memory addresses and stamps the time; both would give equal models different
    digests. Padding inside structured arrays (tree nodes) is set to zero.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        schema = json.loads(source.read("schema.json"))
        numbers: dict[int, int] = {}
        files: dict[str, str] = {}
        _renumber(schema, numbers, files)
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as out:
            for old, new in files.items():
                content = source.read(old)
                out.writestr(
                    zipfile.ZipInfo(new, _EPOCH), _without_padding(content) if new.endswith(".npy") else content
                )
            out.writestr(zipfile.ZipInfo("schema.json", _EPOCH), json.dumps(schema, separators=(",", ":")))
    return target.getvalue()


def _renumber(node: Any, numbers: dict[int, int], files: dict[str, str]) -> None:
    if isinstance(node, list):
        for part in node:
            _renumber(part, numbers, files)
    elif isinstance(node, dict):
        if node.get("__loader__") == "JsonNode":  # whether equal constants share an object is the interpreter's whim
            node.pop("__id__", None)
        if isinstance(number := node.get("__id__"), int):
            node["__id__"] = numbers.setdefault(number, len(numbers) + 1)
        if isinstance(name := node.get("file"), str) and "__loader__" in node:
            node["file"] = files.setdefault(name, f"{len(files) + 1}.{name.rpartition('.')[2]}")
        for part in node.values():
            _renumber(part, numbers, files)


def _without_padding(content: bytes) -> bytes:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if not array.dtype.names:
        return content
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    out = io.BytesIO()
    np.save(out, clean, allow_pickle=False)
    return out.getvalue()


def construct(data: bytes) -> Any:
    """The estimator of a skops file of trusted types. Raises Damaged for any other."""
    io_ = _skops()
    from skops.io.exceptions import UntrustedTypesFoundException

    attempted = "Load a scikit-learn model"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _LIMIT:
            raise Damaged(attempted, f"it unpacks to {size} bytes, the limit is {_LIMIT}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # another scikit-learn version: the sample comparison is what counts
            types = [one for one in io_.get_untrusted_types(data=data) if trusted(one)]
            return io_.loads(data, trusted=types)
    except UntrustedTypesFoundException as error:
        raise Damaged(attempted, f"it holds types that are not on the list: {error}", "Fit it again.") from error
    except Damaged:
        raise
    except Exception as error:
        raise Damaged(attempted, f"not a skops file: {type(error).__name__}: {error}", "Fit it again.") from error


def import_lean(signature: Signature) -> None:
    """Import skops without the whole of scikit-learn, which it goes through to list what it trusts, and both without
    pandas where no frame is wanted: a second and 60 MB saved at the start.

    Only for a process that does nothing but predict: skops trusts no estimator by itself in it afterwards.
    """
    if "skops.io" in sys.modules or find_spec("skops") is None:
        return
    with lacking(() if signature.frame else ("pandas",)):
        from sklearn import utils

        every = utils.all_estimators
        utils.all_estimators = list
        try:
            import skops.io  # noqa: F401
        finally:
            utils.all_estimators = every


def trusted(name: str) -> bool:
    """Whether a type may be in a file: it is on the list, or a public estimator of scikit-learn's."""
    if name in TRUSTED:
        return True
    module, _, own = name.rpartition(".")
    parts = module.split(".")
    if parts[0] != "sklearn" or own.startswith("_") or not _NOT_PUBLIC.isdisjoint(parts):
        return False
    from sklearn.base import BaseEstimator

    public = ".".join(itertools.takewhile(lambda part: not part.startswith("_"), parts))
    try:
        found = getattr(import_module(public), own)
    except (ImportError, AttributeError):
        return False
    return isinstance(found, type) and issubclass(found, BaseEstimator) and found.__module__ == module


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise BadStep(
            "Keep a scikit-learn model", "the package skops is not installed", "Run `uv add 'sampan[sklearn]'`."
        ) from error
    return skops.io


def _signature(estimator: Any, facts: "Facts", attempted: str) -> Signature:
    if _reads_texts(estimator):
        return _of_texts(estimator, facts, attempted)
    count = getattr(estimator, "n_features_in_", None)
    if count is None:
        raise BadStep(attempted, "it is not fitted, or does not say how many features it takes", "Call .fit() first.")
    own = getattr(estimator, "feature_names_in_", None)
    given = facts.features
    if own is not None:
        names = [str(name) for name in own]
        if given is not None and set(given) != set(names):
            odd = sorted(set(names) ^ set(given))
            raise BadStep(
                attempted, f"the features listed and those it was fitted with differ in {odd[0]!r}", "List the same."
            )
    elif given is not None:
        names = list(given)
    elif facts.sample is not None and facts.sample.num_columns == count:
        names = list(facts.sample.column_names)
    else:
        raise BadStep(attempted, "the names of its features are unknown", "Return Fitted(..., features=[...]).")
    if len(names) != count:
        raise BadStep(attempted, f"it takes {count} features, {len(names)} are listed", f"Listed: {', '.join(names)}.")
    types: dict[str, InputType] = dict.fromkeys(names, "number")
    categories: dict[str, tuple[Label, ...]] = {}
    if facts.sample is not None:
        from sampan.models.sample import input_type

        types = {name: input_type(name, facts.sample.schema.field(name).type) for name in names}
        categories = {
            name: tuple(facts.sample.column(name).unify_dictionaries().chunk(0).dictionary.to_pylist())
            for name, type in types.items()
            if type == "category"
        }
    frame = own is not None
    if not frame and (texts := [name for name, type in types.items() if type in ("text", "category")]):
        raise BadStep(attempted, f"the feature {texts[0]!r} is no number, and it was fitted without column names")
    return Signature(
        inputs=types,
        categories=categories,
        output=_OUTPUTS[facts.kind],
        classes=_classes(estimator, facts.kind, attempted),
        missing=_takes_missing(estimator, facts, names, frame),
        frame=frame,
    )


def _reads_texts(estimator: Any) -> bool:
    """Whether it begins with something that makes numbers of a list of texts, and so takes no table."""
    from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
    from sklearn.pipeline import Pipeline

    while isinstance(estimator, Pipeline):
        estimator = estimator.steps[0][1]
    return isinstance(estimator, CountVectorizer | HashingVectorizer)


def _of_texts(estimator: Any, facts: "Facts", attempted: str) -> Signature:
    """One text a record, named as the feature or the sample's column is, else ``text``."""
    names = facts.features or (facts.sample.column_names if facts.sample is not None else ("text",))
    if len(names) != 1:
        said = f"it takes a list of texts, {len(names)} features are listed: {', '.join(names)}"
        raise BadStep(attempted, said[:300], "List the one that holds the text, or use a ColumnTransformer.")
    return Signature(
        inputs={names[0]: "text"},
        output=_OUTPUTS[facts.kind],
        classes=_classes(estimator, facts.kind, attempted),
    )


_OUTPUTS: Final[dict[Kind, Any]] = {
    "binary": "probability",
    "multiclass": "probabilities",
    "regression": "number",
    "ranking": "score",
}


def _classes(estimator: Any, kind: Kind, attempted: str) -> tuple[Label, ...]:
    if kind not in ("binary", "multiclass"):
        return ()
    plain = tuple(label.item() if isinstance(label, np.generic) else label for label in estimator.classes_)
    if kind == "binary" and len(plain) != 2:
        raise BadStep(attempted, f"a binary model has two classes, it knows {len(plain)}: {plain}", "Check the target.")
    return plain


def _takes_missing(estimator: Any, facts: "Facts", names: list[str], frame: bool) -> bool:
    """Tried out, since a pipeline's declaration covers its first part only."""
    if facts.sample is None or facts.sample.num_rows == 0:
        return False
    try:
        if frame:
            row = facts.sample.slice(0, 1).select(names).to_pandas()
            for name in names:
                row[name] = np.nan
            estimator.predict(row)
        else:
            estimator.predict(np.full((1, len(names)), np.nan))
    except Exception:  # noqa: BLE001 - whatever it raises, the answer is no
        return False
    return True


def _matrix_of(sample: "pa.Table") -> Any:
    return np.column_stack([np.asarray(column.to_pandas(), dtype=np.float64) for column in sample.columns])


def _outputs(estimator: Any, rows: Any, kind: Kind) -> "list[Output]":
    given: list[Output]
    if kind == "binary":
        given = estimator.predict_proba(rows)[:, 1].tolist()
    elif kind == "multiclass":
        given = estimator.predict_proba(rows).tolist()
    else:
        given = [*np.asarray(estimator.predict(rows), dtype=np.float64).ravel().tolist()]
    return given
