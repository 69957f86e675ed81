"""Sampan's own face: ``POST /predict/{endpoint}``.

{"records": [{...}, ...], "ids": ["..."], "time": "2011-04-01T08:26:00Z"}   or a bare list, or one record
"""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.errors import SampanError, Usage
from sampan.serve.faces import Call, Headers, Said

if TYPE_CHECKING:
    from sampan.models.inputs import Inputs
    from sampan.serve.bundle import Bundle

_ENVELOPE: Final = ("records", "ids", "time")
_ATTEMPT: Final = "Predict"
_encode = msgspec.json.Encoder().encode


def read(body: bytes, headers: Headers, bundle: "Bundle") -> Call:
    """Raises Usage for what is not JSON of this form."""
    del headers, bundle
    given = decoded(body, "Send one record, a list, or records.")
    envelope: Mapping[str, Any] = {}
    if isinstance(given, dict) and "records" in given:
        envelope, given = given, given["records"]
        if odd := [name for name in envelope if name not in _ENVELOPE]:
            raise Usage(_ATTEMPT, f"unknown field {odd[0]!r} beside records", f"Known: {', '.join(_ENVELOPE)}.")
    return Call(given if isinstance(given, list) else [given], envelope.get("ids"), envelope.get("time", msgspec.UNSET))


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    records: list[msgspec.Raw]
    ids: Any = None
    time: Any = msgspec.UNSET


_records: Final = msgspec.json.Decoder(_Envelope).decode


def read_numbers(body: bytes, inputs: "Inputs") -> Call | None:
    """As ``read``, where each record holds a number for each input and nothing else; None where that is not so, or not
    certain. What went wrong, ``read`` says."""
    try:
        sent = _records(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    numbers = inputs.numbers(sent.records) if sent.records else None
    return None if numbers is None else Call(numbers, sent.ids, sent.time)


def write(said: Said, wanted: Any) -> tuple[bytes, Headers]:
    """What went wrong comes first, and the predictions stay readable beside it."""
    del wanted
    error = said.error.body() if said.error else {}
    return _encode({**error, "predictions": said.answers}), {}


def refuse(error: SampanError) -> tuple[bytes, Headers]:
    """``{"error": {...}}``, with the field at fault where there is one."""
    body: dict[str, Any] = {**error.body()}
    if field := error.about.get("field"):
        body["error"]["field"] = str(field)
    return _encode(body), {}


def decoded(body: bytes, advice: str) -> Any:
    """A body as JSON. Raises Usage."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if odd := _infinite(body):
            what, field = odd
            where = f" in field {field!r}" if field else ""
            obstacle = f"the body is not JSON: {what}{where} is no number in it"
            raise Usage(_ATTEMPT, obstacle, "Send null for a value that is not known.", field=field) from None
        raise Usage(_ATTEMPT, f"the body is not JSON: {error}", advice) from None
    except RecursionError:
        raise Usage(_ATTEMPT, "the body is nested too deep", "Send flat records.") from None


class _Found(Exception):
    """Ends a walk over a body."""


def _infinite(body: bytes) -> tuple[str, str] | None:
    """What is not finite in a body that is JSON but for that, as Python and pandas write it, and the field that has it;
    None if that is not what is wrong with it."""
    if not any(word in body for word in (b"NaN", b"Infinity", b"e", b"E")):
        return None

    def pairs(found: list[tuple[str, Any]]) -> None:
        for name, value in found:
            if (odd := _odd_in(value)) is not None:
                raise _Found(odd, name)

    first: list[str] = []

    def mark(text: str) -> _Odd:
        first.append(text)
        return _Odd(text)

    def number(text: str) -> float | _Odd:
        return float(text) if math.isfinite(float(text)) else mark(text)

    try:
        json.loads(body, parse_constant=mark, parse_float=number, object_pairs_hook=pairs)
    except _Found as found:
        return str(found.args[0]), str(found.args[1])
    except (ValueError, RecursionError):
        return None
    return (first[0], "") if first else None


class _Odd(str):
    """The text of what is no finite number."""


def _odd_in(value: Any) -> _Odd | None:
    """The first such text in a value, or in the lists that it is made of."""
    if isinstance(value, list):
        return next((odd for one in value if (odd := _odd_in(one)) is not None), None)
    return value if isinstance(value, _Odd) else None


def quoting(failure: Mapping[str, str]) -> bytes:
    """A failure as JSON: it quotes what was sent, and a browser may be who asks."""
    return _encode(failure).replace(b"<", b"\\u003c")
