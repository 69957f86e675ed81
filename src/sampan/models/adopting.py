"""Freezes a model's file that Sampan did not make, as it is. Runs in a process of its own: it loads the file.

``python -m sampan.models.adopting`` reads an errand on its standard input, with the digest of bytes that lie in the
blobs, and writes the draft of a version, or the error. What a file is, is said by its name or its sender, never asked
of the file; a pickle is refused before anything opens it.
"""

import os
import platform
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.errors import BadStep, Damaged, Refused, SampanError, Usage
from sampan.models.answers import OUTPUTS
from sampan.models.formats import Facts, Frozen, packages
from sampan.models.version import (
    KINDS,
    UNMEASURED,
    WHOLE,
    InputType,
    Kind,
    Label,
    Signature,
    VersionDraft,
    version_digest,
)
from sampan.models.zeros import SIZES, zeros
from sampan.store.blobs import Blobs

#: By how a file's name ends.
ENDINGS: Final = {
    ".onnx": "onnx",
    ".skops": "skops",
    ".txt": "lightgbm",
    ".lgb": "lightgbm",
    ".ubj": "xgboost",
    ".xgb": "xgboost",
    ".json": "xgboost",
    ".bst": "xgboost",
}
FORMATS: Final = ("onnx", "lightgbm", "xgboost", "skops")
_PICKLES: Final = (".pkl", ".pickle", ".joblib", ".pt", ".pth", ".dill", ".cloudpickle")
_TYPES: Final = ("number", "integer", "boolean", "text", *WHOLE)
_TO_ONNX: Final = "Export the model as ONNX (torch.onnx.export, tf2onnx), and adopt that."
_MAGIC: Final = re.compile(rb"\x80[\x02-\x08](\x95|[\x00-\xff])")


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """What to freeze. ``file`` is the name it had; what is empty is read from the file where its format says."""

    file: str
    digest: str
    blobs: str
    format: str = ""
    kind: str = ""
    features: dict[str, str] = {}
    classes: tuple[Label, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """What the process says: one of the two."""

    draft: VersionDraft | None = None
    error: dict[str, str] | None = None


def features_of(attempted: str, text: str) -> dict[str, str]:
    """``age, country:text`` as types by name, in that order; empty where none is said. Raises Usage."""
    found: dict[str, str] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, colon, type = (one.strip() for one in part.rpartition(":")) if ":" in part else (part, "", "")
        if colon and type not in _TYPES:
            raise Usage(attempted, f"the feature {part[:80]!r} has no known type", f"Types: {', '.join(_TYPES)}.")
        if not name or name in found:
            raise Usage(attempted, f"the feature {name[:80]!r} is listed twice or has no name", "List each once.")
        found[name] = type
    return found


def classes_of(text: str) -> tuple[Label, ...]:
    """``no, yes`` or ``0, 1`` as labels."""
    return tuple(int(one) if re.fullmatch(r"-?\d+", one) else one for one in map(str.strip, text.split(",")) if one)


def format_of(attempted: str, file: str, data: bytes, said: str) -> str:
    """The format of a file by what is said of it, or by its name. Raises Refused for a pickle, Usage."""
    ending = Path(file).suffix.lower()
    if ending in _PICKLES or _MAGIC.match(data[:3]) or (data[:2] == b"PK" and b"data.pkl" in data[:4096]):
        advice = "Save it as data: skops.io.dump for scikit-learn, save_model for LightGBM and XGBoost, or as ONNX."
        raise Refused(attempted, "it is a pickle, which is a program that runs when it is opened", advice)
    if not data:
        raise Usage(attempted, "the file is empty", "Name the file of a model.")
    known = f"Say which it is: --format {'|'.join(FORMATS)}."
    if said and said not in FORMATS:
        raise Usage(attempted, f"unknown format {said[:40]!r}", f"Known: {', '.join(FORMATS)}.")
    if not (said or ending in ENDINGS):
        raise Usage(attempted, f"{ending or 'no ending'} tells no format", known)
    return said or ENDINGS[ending]


def freeze_file(errand: Errand) -> VersionDraft:
    """A version with the file as it is, and what it takes and gives. Raises Refused, Usage, Damaged."""
    attempted = f"Adopt {errand.file[:100]}"
    blobs = Blobs(Path(errand.blobs))
    data = blobs.get(errand.digest)
    format = format_of(attempted, errand.file, data, errand.format)
    known = (*KINDS, *UNMEASURED) if format == "onnx" else KINDS
    if errand.kind and errand.kind not in known:
        raise Usage(attempted, f"unknown kind {errand.kind[:40]!r}", f"Known: {', '.join(known)}.")
    whole = {name: msgspec.convert(type, InputType) for name, type in errand.features.items() if type in WHOLE}
    if whole and format != "onnx":
        name, type = next(iter(whole.items()))
        raise Usage(attempted, f"the feature {name[:80]!r} is a {type}, and only ONNX models take those", _TO_ONNX)
    features = None if whole else tuple(errand.features) or None
    module = import_module(f"sampan.models.format_{format}")
    try:
        estimator, kind = _OPEN[format](attempted, data, errand.kind)
        frozen: Frozen = module.freeze(estimator, Facts(kind, features, None, whole=whole))
    except BadStep as error:
        raise Usage(attempted, error.obstacle, _advice(error)) from None
    (name,) = frozen.files
    signature = _declared(attempted, frozen.signature, errand)
    files = {name: errand.digest}
    _try(attempted, module.load({name: data}, kind, signature), signature)
    return VersionDraft(
        digest=version_digest(kind, format, files, signature),
        kind=kind,
        format=format,
        files=files,
        signature=signature,
        metrics={},
        made_with={"python": platform.python_version(), **packages(frozen.packages)},
    )


def _advice(error: BadStep) -> str:
    """The same advice for who has a file, and no step."""
    if "features" in error.obstacle and "step" not in error.obstacle:
        return "Say what it takes, in the model's order: --features orders,recency,spend."
    if "@model" in error.advice:
        return "Say what it is: --kind binary|multiclass|regression|ranking."
    return error.advice if "Fitted" not in error.advice else "Save it with what Sampan needs to know, or as ONNX."


def _declared(attempted: str, signature: Signature, errand: Errand) -> Signature:
    """What the file says, with what was said of it beside."""
    inputs = dict(signature.inputs)
    for name, type in errand.features.items():
        if name not in inputs:
            known = ", ".join(inputs)
            raise Usage(attempted, f"it does not take the feature {name[:80]!r}", f"It takes {known[:400]}.")
        if type and type not in WHOLE and inputs[name] in WHOLE:
            raise Usage(attempted, f"{name[:80]!r} is a {inputs[name]}, not a {type}", "Leave its type out.")
        if type:
            inputs[name] = msgspec.convert(type, InputType)
    classes = signature.classes
    if errand.classes:
        if len(errand.classes) != len(classes):
            said = f"it knows {len(classes)} classes, {len(errand.classes)} are named"
            raise Usage(attempted, said, "Name each once, in the model's order: --classes no,yes.")
        classes = errand.classes
    return msgspec.structs.replace(signature, inputs=inputs, classes=classes)


def _try(attempted: str, predictor: Any, signature: Signature) -> None:
    """Ask it one record, and two if it takes tensors. Raises Usage for a model that cannot be asked what it is said to
    take."""
    sizes = SIZES if signature.heavy else (1,)
    error: Exception = ValueError()
    for size in sizes:
        record = zeros(signature, size)
        try:
            (given,) = predictor.predict([record])
            if signature.heavy and len(predictor.predict([record, record])) != 2:
                raise ValueError("it does not answer each record")
            break
        except Exception as failed:  # noqa: BLE001 - whatever it raises, it is said below
            error = failed
    else:
        told = error.obstacle if isinstance(error, SampanError) else str(error) or type(error).__name__
        what = "whose sizes are " + ", ".join(map(str, sizes)) if signature.heavy else "of zeros"
        said = f"it cannot be asked a record of {len(signature.inputs)} features {what}: {told.splitlines()[0][:200]}"
        raise Usage(attempted, said, "Say what it takes and is: --features name:type,… and --kind.") from error
    wide = len(given) if isinstance(given, list) else 1
    if signature.output == "probabilities" and wide != len(signature.classes):
        raise Usage(attempted, f"it gives {wide} numbers for {len(signature.classes)} classes", "Say --classes.")
    if signature.heavy and signature.output in ("probability", "probabilities"):
        shares = given if isinstance(given, list) else [given]
        if min(shares) < 0 or max(shares) > 1 or (len(shares) > 1 and abs(sum(shares) - 1) > 1e-3):
            said = f"it gives {str([round(one, 4) for one in shares[:4]])[1:-1]}, which are no probabilities"
            raise Usage(attempted, said, "End it with a Softmax or Sigmoid, or take it as it is: --kind tensor.")


# -- each format opened as data, with the kind that it says


def _lightgbm(attempted: str, data: bytes, said: str) -> tuple[Any, Kind]:
    import lightgbm

    from sampan.models.format_lightgbm import objective_of

    try:
        text = data.decode()
        booster = lightgbm.Booster(model_str=text)
    except (UnicodeDecodeError, lightgbm.basic.LightGBMError) as error:
        raise Usage(attempted, f"it is no LightGBM model: {error}", "Save one with booster.save_model.") from None
    objective = objective_of(text)
    kinds: dict[str, Kind] = {"binary": "binary", "cross_entropy": "binary", "lambdarank": "ranking"}
    kinds |= {"multiclass": "multiclass", "multiclassova": "multiclass", "rank_xendcg": "ranking"}
    if objective == "none" and not said:
        raise Usage(attempted, "it does not say its objective", "Say what it is: --kind.")
    return booster, _kind(said, kinds.get(objective, "regression"))


def _xgboost(attempted: str, data: bytes, said: str) -> tuple[Any, Kind]:
    import json

    try:
        import xgboost
    except ImportError:
        raise Usage(attempted, "the package xgboost is not installed", "Run `uv add xgboost`.") from None
    try:
        booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(data))
        objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    except (xgboost.core.XGBoostError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[-1][:200]
        raise Usage(attempted, f"it is no XGBoost model: {first}", "Save one with save_model, as UBJSON.") from None
    kinds: dict[str, Kind] = {"binary:logistic": "binary", "multi:softprob": "multiclass"}
    ranks = objective.startswith("rank:")
    return booster, _kind(said, kinds.get(objective, "ranking" if ranks else "regression"))


def _onnx(attempted: str, data: bytes, said: str) -> tuple[Any, Kind]:
    from sampan.models.format_onnx import kind_of

    if said:
        return data, _kind(said, "regression")
    found = kind_of(data)
    if found is None:
        raise Usage(attempted, "an ONNX file that gives one number does not say what it means", "Say it: --kind.")
    return data, found


def _skops(attempted: str, data: bytes, said: str) -> tuple[Any, Kind]:
    from sampan.models.format_skops import construct

    try:
        estimator = construct(data)
    except Damaged as error:
        raise Usage(attempted, error.obstacle, "Save plain scikit-learn parts with skops.io.dump.") from None
    labels = getattr(estimator, "classes_", None)
    own: Kind = "regression" if labels is None else "binary" if len(labels) == 2 else "multiclass"
    return estimator, _kind(said, own)


def _kind(said: str, own: Kind) -> Kind:
    return msgspec.convert(said, Kind) if said else own


_OPEN: Final = {"lightgbm": _lightgbm, "xgboost": _xgboost, "onnx": _onnx, "skops": _skops}


def check_kind(attempted: str, kind: str, classes: Sequence[Label]) -> tuple[Kind, Any, tuple[Label, ...]]:
    """Kind, output and classes of a model that nobody can look into. Raises Usage."""
    if kind not in KINDS:
        told = f"unknown kind {kind[:40]!r}" if kind else "nobody can see what it predicts"
        raise Usage(attempted, told, "Say it: --kind binary (a probability), multiclass, regression or ranking.")
    known: Kind = msgspec.convert(kind, Kind)
    labels = tuple(classes) or ((False, True) if kind == "binary" else ())
    if kind == "multiclass" and len(labels) < 2:
        raise Usage(attempted, "the classes of a multiclass model are unknown", "Name them: --classes low,middle,high.")
    if kind == "binary" and len(labels) != 2:
        raise Usage(attempted, f"a binary model has two classes, {len(labels)} are named", "Name two, or none.")
    return known, OUTPUTS[known], labels


def main() -> None:
    said = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answer
    try:
        answer = Answer(freeze_file(msgspec.json.decode(sys.stdin.buffer.read(), type=Errand)))
    except SampanError as error:
        answer = Answer(error=error.body()["error"])
    except Exception as error:  # noqa: BLE001 - the edge of this process; the caller turns it into a message
        answer = Answer(error=Damaged("Adopt a file", f"{type(error).__name__}: {error}").body()["error"])
    with said:
        said.write(msgspec.json.encode(answer))


if __name__ == "__main__":
    main()
