"""Freezing a fitted model into files that are data, and loading such files again. No pickle anywhere.

``freeze`` runs in the worker that fitted the model, ``load`` in a serving process. The loader is chosen from the
version's record, never by looking at the file, and gets bytes whose digest has just been checked: what was hashed
is what is loaded, whatever happens to the file on disk meanwhile.
"""

import platform
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, cast

import msgspec

from sampan.base.errors import BadStep, Damaged, SampanError, Usage
from sampan.models.format_mlflow import FILES, MLFLOW
from sampan.models.golden import capture, distance
from sampan.models.golden_checks import TOLERANCE
from sampan.models.onnx_form import derive
from sampan.models.values import Packed
from sampan.models.version import KINDS, SERVICE, InputType, Kind, Signature, Version, VersionDraft, version_digest
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    import pyarrow as pa

Output: TypeAlias = float | list[float] | str | Packed

# The order is the order in which an estimator is offered to them.
_FORMATS: Final = {
    "lightgbm": "sampan.models.format_lightgbm",
    "xgboost": "sampan.models.format_xgboost",
    "onnx": "sampan.models.format_onnx",
    "pytorch": "sampan.models.format_pytorch",
    "package": "sampan.models.format_package",
    "skops": "sampan.models.format_skops",
}
_CHECKED_ROWS: Final = 200


class Predictor(Protocol):
    """A loaded version. ``predict`` gives, per record, a probability (binary), probabilities in the order of the
    signature's classes (multiclass), a number, a tensor or a text. Raises Usage for a record that does not fit the
    signature.

    One that computes without the interpreter's lock, whichever thread it is asked in, says so: ``free = True``."""

    signature: Signature

    def predict(self, records: Sequence[Mapping[str, Any]]) -> list[Output]: ...


class FittedModel(Protocol):
    """What a model step returns (``sampan.Fitted``)."""

    @property
    def estimator(self) -> Any: ...
    @property
    def features(self) -> Sequence[str] | None: ...
    @property
    def metrics(self) -> Mapping[str, Any]: ...
    @property
    def sample(self) -> Any: ...
    @property
    def architecture(self) -> Any: ...


class Facts(NamedTuple):
    """What a format needs to know besides the estimator."""

    kind: Kind
    features: tuple[str, ...] | None
    sample: "pa.Table | None"
    architecture: Any = None
    whole: "Mapping[str, InputType]" = {}  # noqa: RUF012 - never changed; inputs that are sent whole, ``tensor`` or ``bytes``


class Frozen(NamedTuple):
    """What a format makes of an estimator."""

    files: dict[str, bytes]
    signature: Signature
    packages: tuple[str, ...]


class Format(Protocol):
    """One model format: a module with these four names."""

    def recognises(self, estimator: Any) -> bool: ...
    def freeze(self, estimator: Any, facts: Facts) -> Frozen: ...
    def load(self, files: Mapping[str, bytes], kind: Kind, signature: Signature) -> Predictor: ...
    def reference(
        self, estimator: Any, sample: "pa.Table", kind: Kind, signature: Signature
    ) -> list[Output] | None: ...


def freeze(fitted: FittedModel, kind: Kind, blobs: Blobs) -> VersionDraft:
    """Keep a fitted model's files and say what it takes and gives.

    The files are loaded again and must predict what the estimator predicts on the sample; some rows of that are kept
    with the answers as golden requests. Where converters are installed, it is kept as ONNX, too. Raises BadStep for an
    estimator without a safe format, or one that does not do what ``kind`` promises.
    """
    if kind not in KINDS:
        raise BadStep("Freeze a model", f"unknown kind {kind!r}", f"Known: {', '.join(KINDS)}.")
    from sampan.models.sample import to_arrow

    name, format = _recognise(fitted.estimator)
    if fitted.architecture is not None and name != "pytorch":
        raise BadStep("Freeze a model", f"an architecture is declared, and it is kept as {name}", "Leave it out.")
    sample = to_arrow(fitted.sample)
    features = tuple(fitted.features) if fitted.features else None
    if sample is not None and features and (absent := [f for f in features if f not in sample.column_names]):
        raise BadStep(
            "Freeze a model",
            f"its sample lacks the feature {absent[0]!r}",
            f"It has: {', '.join(sample.column_names)}.",
        )
    frozen = format.freeze(fitted.estimator, Facts(kind, features, sample, fitted.architecture))
    predictor = format.load(frozen.files, kind, frozen.signature)
    golden = None
    if sample is not None and sample.num_rows:
        _compare(format, fitted.estimator, kind, frozen.signature, predictor, sample.slice(0, _CHECKED_ROWS))
        golden = capture(predictor, sample, blobs.put)
    files = {file: blobs.put(data) for file, data in sorted(frozen.files.items())}
    draft = VersionDraft(
        digest=version_digest(kind, name, files, frozen.signature),
        kind=kind,
        format=name,
        files=files,
        signature=frozen.signature,
        metrics=dict(fitted.metrics or {}),
        made_with={"python": platform.python_version(), **packages(frozen.packages)},
        golden=golden,
    )
    return msgspec.structs.replace(draft, onnx=derive(fitted.estimator, draft, predictor, sample, blobs))


def load(version: Version | VersionDraft, blobs: Blobs, *, only: bool = False) -> Predictor:
    """A predictor of a frozen version. Raises Damaged if a file is not the one that was frozen.

    ``only``: this process will do nothing but predict, so a format may import less.
    """
    if version.format in (MLFLOW, FILES):
        raise Usage(
            "Load a model",
            "it is kept as it was logged, and Sampan runs no code out of a model's files",
            "mlflow.pyfunc.load_model('models:/NAME/NUMBER') does; endpoints serve what a @model step made.",
        )
    if version.format == SERVICE:
        raise Usage("Load a model", "it is a live service, and only its endpoint calls it", "Ask the endpoint.")
    files = {name: blobs.get(digest) for name, digest in version.files.items()}
    if version_digest(version.kind, version.format, version.files, version.signature) != version.digest:
        raise Damaged(
            "Load a model",
            f"the record of version {version.digest[:12]} does not match its digest",
            "Restore a backup.",
        )
    if version.format not in _FORMATS:
        raise Damaged("Load a model", f"unknown format {version.format!r}", f"This Sampan loads {', '.join(_FORMATS)}.")
    format = _module(version.format)
    if only and (import_lean := getattr(format, "import_lean", None)):
        import_lean(version.signature)
    try:
        return format.load(files, version.kind, version.signature)
    except SampanError:
        raise
    except Exception as error:
        raise Damaged(
            "Load a model", f"not a {version.format} file: {type(error).__name__}: {error}", "Register another version."
        ) from error


def _module(name: str) -> Format:
    return cast(Format, import_module(_FORMATS[name]))


def _recognise(estimator: Any) -> tuple[str, Format]:
    for name in _FORMATS:
        module = _module(name)
        if module.recognises(estimator):
            return name, module
    kind = f"{type(estimator).__module__}.{type(estimator).__qualname__}"
    advice = "Return LightGBM, XGBoost, scikit-learn or PyTorch models, or an ONNX model (its bytes or ModelProto)."
    raise BadStep("Freeze a model", f"no safe format for a {kind}; Sampan does not pickle", advice)


def _compare(
    format: Format, estimator: Any, kind: Kind, signature: Signature, predictor: Predictor, sample: "pa.Table"
) -> None:
    from sampan.models.sample import plain_records

    expected = format.reference(estimator, sample.select(list(signature.inputs)), kind, signature)
    got = predictor.predict(plain_records(sample, signature))
    for place, (want, have) in enumerate(zip(expected or got, got, strict=True)):
        if not distance(want, have) <= TOLERANCE:
            raise BadStep(
                "Freeze a model",
                f"the frozen model predicts {have} for row {place} of the sample, the fitted one {want}",
                "Features may be listed in another order than the model was fitted with.",
            )


def packages(names: Sequence[str]) -> dict[str, str]:
    """The versions of packages that are installed here; empty where one is not."""
    return {name: _version(name) for name in names}


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""
