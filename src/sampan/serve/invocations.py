"""``POST /invocations/{endpoint}``, with bodies as MLflow's scoring server and SageMaker take them.

JSON with exactly one of ``dataframe_split``, ``dataframe_records``, ``instances``, ``inputs``; JSON Lines; CSV, with
or without a header; an array in NumPy's format; or, for a model that takes bytes, these alone. Answered is
``{"predictions": [...]}``, or a line for each record where CSV or JSON Lines are asked for. MLflow: "Local Inference
Server Specification"; SageMaker: "Common Data Formats for Inference".
"""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from sampan.base.errors import SampanError, Usage
from sampan.models.values import DATATYPES, Content
from sampan.models.version import Signature
from sampan.serve.faces import Call, Headers, Said
from sampan.serve.native import decoded, quoting
from sampan.serve.saying import in_headers

if TYPE_CHECKING:
    from sampan.serve.bundle import Bundle

_ATTEMPT: Final = "Predict"
_FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
_JSON, _LINES, _CSV = "application/json", "application/jsonlines", "text/csv"
_LINES_TOO: Final = (_LINES, "application/x-jsonlines", "application/x-ndjson", "application/jsonl")
_CODES: Final = {403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST", 503: "TEMPORARILY_UNAVAILABLE"}
_DECIDED: Final = ("id", "action", "rule", "version", "variant", "form", "fallback", "error", "review")
_NPY: Final = "application/x-npy"
_RAW: Final = "application/octet-stream"
_RAWS: Final = (_RAW, "application/x-image")
_TRUE, _FALSE = ("true", "1"), ("false", "0")
_encode = msgspec.json.Encoder().encode


def read(body: bytes, headers: Headers, bundle: "Bundle") -> Call:
    """Raises Usage: for a media type that is not known, for a body that has none of the forms or several."""
    kind = _media(headers.get("content-type", "")) or _JSON
    signature = bundle.model.signature
    if kind == _CSV:
        records = _from_csv(body, signature)
    elif kind in _LINES_TOO:
        lines = [line for line in body.splitlines() if line.strip()]
        records = [_record(decoded(line, "Send one record a line."), signature) for line in lines]
    elif kind == _NPY:
        records = _from_npy(body, signature)
    elif kind in _RAWS or kind.startswith("image/"):
        records = _from_bytes(body, kind, signature)
    elif kind == _JSON:
        records = _from_json(decoded(body, f"Send one of {', '.join(_FORMS)}."), signature)
    else:
        known = f"Send {_JSON}, {_CSV}, {_LINES} or {_NPY}; to a model that takes bytes these, as {_RAW}."
        raise Usage(_ATTEMPT, f"the body is {kind[:80]!r}", known, field="content-type")
    if signature.heavy:
        records = [_in_base64(one, signature) for one in records]
    wanted = [_media(one) for one in headers.get("accept", "").split(",")]
    return Call(records, wanted=next((one for one in wanted if one in (_JSON, _CSV, _NPY, *_LINES_TOO)), _JSON))


def write(said: Said, wanted: Any) -> tuple[bytes, Headers]:
    """The model's predictions: numbers, or probabilities in the order of the classes; decisions beside them, and in
    headers for those who ask for lines."""
    if said.error is not None:
        return refuse(said.error)
    found = [_plain(one["prediction"]) for one in said.answers]
    told = in_headers(said.answers)
    if wanted == _CSV:
        out = io.StringIO()
        rows = [one if isinstance(one, list) else [one] for one in found]
        csv.writer(out, lineterminator="\n").writerows(rows)
        return out.getvalue().encode(), {"content-type": _CSV, **told}
    if wanted in _LINES_TOO:
        return b"".join(_encode(one) + b"\n" for one in found), {"content-type": wanted, **told}
    if wanted == _NPY:
        return _as_npy(found), {"content-type": _NPY, **told}
    answer: dict[str, Any] = {"predictions": found}
    if said.bundle.decision is not None:
        answer["decisions"] = [{name: one[name] for name in _DECIDED if name in one} for one in said.answers]
    return _encode(answer), {"content-type": _JSON, **told}


def refuse(error: SampanError) -> tuple[bytes, Headers]:
    """``{"error_code": ..., "message": ...}``, as MLflow's scoring server has it."""
    status = error.status
    code = _CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
    message = f"{error.attempted}: {error.obstacle}".rstrip(".") + f". {error.advice}"
    return quoting({"error_code": code, "message": message.rstrip()}), {"content-type": _JSON}


def _media(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def _plain(prediction: Any) -> Any:
    return list(prediction.values()) if isinstance(prediction, Mapping) else prediction


def _from_json(given: Any, signature: Signature) -> list[Any]:
    if not isinstance(given, dict) or len(forms := [name for name in _FORMS if name in given]) != 1:
        several = f"it has {', '.join(forms)}" if isinstance(given, dict) and forms else "it has none of the forms"
        raise Usage(_ATTEMPT, several, f"Send an object with exactly one of {', '.join(_FORMS)}.")
    if odd := [name for name in given if name not in (*_FORMS, "params", "signature_name")]:
        raise Usage(_ATTEMPT, f"unknown field {odd[0]!r} beside {forms[0]}", f"Send {forms[0]} alone.", field=odd[0])
    if given.get("params"):
        raise Usage(_ATTEMPT, "params were given, and no model here takes any", "Leave them out.", field="params")
    form, value = forms[0], given[forms[0]]
    if form == "dataframe_split":
        return _from_split(value)
    if form == "inputs" and isinstance(value, dict):
        return _from_columns(value)
    if not isinstance(value, list):
        raise Usage(_ATTEMPT, f"{form}: expected a list, got {_shown(value)}", "One entry a record.", field=form)
    if form == "dataframe_records":
        return value
    return [_record(one, signature) for one in value]


def _from_split(value: Any) -> list[Any]:
    columns, rows = (value.get("columns"), value.get("data")) if isinstance(value, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(rows, list):
        advice = 'Send {"columns": [...], "data": [[...], ...]}.'
        raise Usage(_ATTEMPT, "dataframe_split: columns or data is missing", advice, field="dataframe_split")
    for place, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            obstacle = f"dataframe_split: row {place}: expected {len(columns)} values, got {_shown(row)}"
            raise Usage(_ATTEMPT, obstacle, "One value a column.", field="dataframe_split")
    return [dict(zip(map(str, columns), row, strict=True)) for row in rows]


def _from_columns(value: Mapping[str, Any]) -> list[Any]:
    columns = {name: one if isinstance(one, list) else [one] for name, one in value.items()}
    lengths = {len(one) for one in columns.values()}
    if len(lengths) > 1:
        listed = ", ".join(f"{name}: {len(one)}" for name, one in columns.items())
        raise Usage(_ATTEMPT, f"inputs: columns of different lengths ({listed})", "One value a record.", field="inputs")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _record(one: Any, signature: Signature) -> Any:
    """A record; a row of values, or the ``features`` of SageMaker's own models, gets the names of the inputs."""
    if isinstance(one, dict) and one.keys() == {"features"} and "features" not in signature.inputs:
        one = one["features"]
    if len(signature.inputs) == 1 and signature.heavy and not (isinstance(one, dict) and signature.heavy[0] in one):
        return {signature.heavy[0]: one}
    if not isinstance(one, list):
        return one
    return named(one, signature)


def _in_base64(record: Any, signature: Signature) -> Any:
    """Bytes as MLflow sends those of a column, a text of base64, or as TensorFlow Serving does, ``{"b64": "..."}``."""
    if not isinstance(record, dict):
        return record
    for name in signature.heavy:
        if signature.inputs[name] != "bytes":
            continue
        value = record.get(name)
        if isinstance(value, dict) and value.keys() == {"b64"}:
            value = value["b64"]
        if isinstance(value, str):
            record = {**record, name: {"base64": value}}
    return record


def _from_npy(body: bytes, signature: Signature) -> list[Any]:
    """One array: records of the one tensor that the model takes, or rows of its inputs."""
    try:
        array = np.load(io.BytesIO(body), allow_pickle=False)
    except Exception as error:  # noqa: BLE001 - whatever it raises, it is about these bytes
        said = f"the body is no array in NumPy's format: {str(error).splitlines()[0][:200] if str(error) else error!r}"
        raise Usage(_ATTEMPT, said, "Send what numpy.save writes, without objects.") from None
    if not isinstance(array, np.ndarray) or array.ndim == 0:
        raise Usage(_ATTEMPT, "the array has no dimension of records", "Its first one is that of the records.")
    if array.dtype.kind not in "biufU":
        raise Usage(_ATTEMPT, f"it is an array of {str(array.dtype)[:80]}", "Send numbers, booleans or texts.")
    if len(signature.inputs) == 1 and signature.heavy:
        (name,) = signature.heavy
        if signature.inputs[name] == "tensor":
            wanted, kind = signature.tensor(name), array.dtype
            if wanted.datatype != "BYTES" and kind != np.dtype(DATATYPES[wanted.datatype]):
                said = f"field {name!r}: expected a tensor {wanted.words}, got an array of {kind}"
                raise Usage(_ATTEMPT, said, "Send that type.", field=name)
        return [{name: one} for one in array]
    return [_record(one, signature) for one in array.tolist()]


def _from_bytes(body: bytes, kind: str, signature: Signature) -> list[Any]:
    names = [name for name in signature.heavy if signature.inputs[name] == "bytes"]
    if len(signature.inputs) != 1 or not names:
        takes = ", ".join(f"{name} ({kind})" for name, kind in signature.inputs.items())
        said = f"the body is {kind[:80]!r}, and the model does not take bytes alone: {takes[:300]}"
        raise Usage(_ATTEMPT, said, f"Send {_JSON}.", field="content-type")
    return [{names[0]: Content(body)}]


def _as_npy(found: list[Any]) -> bytes:
    out = io.BytesIO()
    array = np.array(found)
    np.save(out, array.astype("S") if array.dtype.kind == "O" else array, allow_pickle=False)
    return out.getvalue()


def named(row: Sequence[Any], signature: Signature) -> dict[str, Any]:
    """A row of values as a record. Raises Usage if it has not one for each input."""
    names = list(signature.inputs)
    if len(row) != len(names):
        raise Usage(_ATTEMPT, f"a row of {len(row)} values; the model takes {len(names)}", f"In this order: {names}.")
    return dict(zip(names, row, strict=True))


def _from_csv(body: bytes, signature: Signature) -> list[Any]:
    try:
        rows = [row for row in csv.reader(io.StringIO(body.decode(), newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Usage(_ATTEMPT, f"the body is not CSV: {error}", "Send UTF-8 with commas.") from None
    if rows and set(signature.inputs) <= {cell.strip() for cell in rows[0]}:
        names = [cell.strip() for cell in rows.pop(0)]
    else:
        names = list(signature.inputs)
    for place, row in enumerate(rows):
        if len(row) != len(names):
            raise Usage(_ATTEMPT, f"row {place}: {len(row)} values, expected {len(names)}", f"In this order: {names}.")
    kinds = [signature.cell(name) for name in names]
    return [{name: _cell(cell, kind) for name, kind, cell in zip(names, kinds, row, strict=True)} for row in rows]


def _cell(cell: str, kind: str | None) -> Any:
    """A cell as its input's type wants it; what does not fit stays a text, and is refused with its field's name."""
    if cell == "":
        return None
    text = cell.strip()
    if kind == "boolean":
        return True if text.lower() in _TRUE else False if text.lower() in _FALSE else cell
    if kind in ("number", "integer"):
        for convert in (int, float):
            try:
                return convert(text)
            except ValueError:
                continue
    return cell


def _shown(value: Any) -> str:
    text = _encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
