"""Sampan's own face: ``POST /predict/{endpoint}``.

{"records": [{...}, ...], "ids": ["..."], "time": "2011-04-01T08:26:00Z"}   or a bare list, or one record
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.errors import SampanError, Usage
from sampan.serve.faces import Call, Headers, Said

if TYPE_CHECKING:
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
        raise Usage(_ATTEMPT, f"the body is not JSON: {error}", advice) from None
    except RecursionError:
        raise Usage(_ATTEMPT, "the body is nested too deep", "Send flat records.") from None


def quoting(failure: Mapping[str, str]) -> bytes:
    """A failure as JSON: it quotes what was sent, and a browser may be who asks."""
    return _encode(failure).replace(b"<", b"\\u003c")
