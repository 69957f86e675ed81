"""A live HTTP service as the model of an endpoint: how it is called, and what its answers say.

Only the serving process of an endpoint calls it, to addresses that anybody could call or that the setting
``private_services`` names. All requests of a moment go in one call. Whatever goes wrong there is a prediction that
there is not: the declared fallback answers, or nobody does.
"""

import os
import queue
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import msgspec

from sampan.base.errors import Busy, Damaged, Refused, Unreachable, Usage
from sampan.base.outgoing import Outgoing, private_address, send
from sampan.base.settings import Settings
from sampan.models.inputs import Inputs
from sampan.models.version import SERVICE, Signature, VersionDraft
from sampan.serve.fallback import output_of
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    from sampan.models.formats import Output

Form: TypeAlias = Literal["predict", "invocations", "v2"]
FORMS: Final = get_args(Form)
FILE: Final = "service.json"
CALLS: Final = 16  # that may be under way at once
_LIMIT: Final = 16 << 20  # bytes of an answer that are read
_TIMEOUT: Final = (10, 60_000)  # milliseconds that may be declared
_TOO_SHORT: Final = 0.05  # of the time-out: with less of it left nothing is asked any more
_SAID: Final = 200
_ATTEMPT: Final = "Ask the adopted service"  # its address is nothing for clients
_ADVICE: Final = 'If it is meant, write private_services = "{}" into [settings] of sampan.toml.'

_encode = msgspec.json.Encoder().encode


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """How a service is called. ``read``: the field, or in the form ``v2`` the output, that holds the prediction.
    ``token_env``: the variable of the hub's environment that holds its bearer token. ``fallback``: what is predicted
    where it does not answer; None: nothing, and the request gets 503."""

    url: str
    form: Form
    read: str = ""
    timeout_ms: int = 2_000
    token_env: str = ""
    fallback: float | list[float] | None = None


def outgoing(settings: Settings) -> Outgoing:
    """Calls to services, by the settings in force. Raises BadSetting."""
    listed = filter(None, (one.strip() for one in settings.get("private_services").split(",")))
    return Outgoing([private_address(one, "private_services") for one in listed], advice=_ADVICE)


def check(attempted: str, facts: Facts, signature: Signature, patience: float) -> None:
    """Raises Usage for what cannot be a service's facts. ``patience``: seconds that a request to an endpoint has."""
    try:
        parts = urlsplit(facts.url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        right = False
    if not right or not facts.url.isprintable() or " " in facts.url:
        raise Usage(attempted, "it is no http:// or https:// address", "Write it as http://HOST:PORT/PATH.")
    if parts.username or parts.password:
        raise Usage(attempted, "the address holds a name or a password", "--token-env names a variable with a token.")
    if facts.form not in FORMS:
        raise Usage(attempted, f"unknown form {facts.form[:40]!r}", f"Known: {', '.join(FORMS)}.")
    low, high = _TIMEOUT
    if not (low <= facts.timeout_ms <= high and facts.timeout_ms < 1_000 * patience):
        raise Usage(
            attempted,
            f"a time-out of {facts.timeout_ms} ms",
            f"It lies between {low} and {high}, and below predict_timeout ({patience:g} s), which ends the process.",
        )
    if facts.fallback is not None:
        try:
            output_of(facts.fallback, signature)
        except ValueError as error:
            raise Usage(attempted, f"the fallback is no answer: {error}", "Give what it predicts.") from None


def draft(facts: Facts, kind: Any, signature: Signature, blobs: Blobs) -> VersionDraft:
    """A version whose one file says how the service is called."""
    from sampan.models.version import version_digest

    files = {FILE: blobs.put(_encode(facts))}
    digest = version_digest(kind, SERVICE, files, signature)
    return VersionDraft(
        digest=digest, kind=kind, format=SERVICE, files=files, signature=signature, metrics={}, made_with={}
    )


def read_facts(version: VersionDraft, blobs: Blobs) -> Facts:
    """How the service of a version is called. Raises Damaged."""
    try:
        return msgspec.json.decode(blobs.get(version.files[FILE]), type=Facts)
    except (KeyError, msgspec.DecodeError) as error:
        raise Damaged("Read a service's address", f"it does not parse: {error}", "Adopt it again.") from error


class Live:
    """Predicts by calling a service out. Without ``out`` it is opened and never calls."""

    def __init__(self, facts: Facts, signature: Signature, out: Outgoing | None) -> None:
        self.facts = facts
        self.signature = signature
        self._inputs = Inputs(signature)
        self._out = out
        self._idle: queue.LifoQueue[HTTPConnection] = queue.LifoQueue()
        self._threads = ThreadPoolExecutor(CALLS, "service") if out is not None else None
        self._waiting = 0

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises Usage for a record that does not fit the declared features, if any are."""
        self._inputs.rows(records)

    async def call(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        """As ``predict``, without holding up the loop. Raises Busy where too many calls wait already."""
        import asyncio

        if self._threads is None or self._waiting >= 4 * CALLS:
            raise Busy(_ATTEMPT, f"{self._waiting} calls are under way already", "Send again in a second.")
        until = time.monotonic() + self.facts.timeout_ms / 1_000
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._predict, records, until)
        finally:
            self._waiting -= 1

    def predict(self, records: Sequence[Mapping[str, Any]]) -> "list[Output]":
        """Raises Usage for records that do not fit, or that the service refuses; Unreachable for no answer."""
        return self._predict(records, time.monotonic() + self.facts.timeout_ms / 1_000)

    def _predict(self, records: Sequence[Mapping[str, Any]], until: float) -> "list[Output]":
        self.check(records)
        status, body = self._post(_encode(self._asked(records)), until)
        if status in (400, 413, 422):
            text = body[:_SAID].decode(errors="replace")
            raise Usage(_ATTEMPT, f"it refuses what it was asked ({status}): {text}", "See what it takes.")
        if status != 200:
            raise self._silent(f"it answered {status}")
        found: list[Any] = []
        try:
            found = read_answer(msgspec.json.decode(body), self.facts, len(records))
            return [output_of(one, self.signature) for one in found]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise self._silent(f"its answer is not JSON: {error}") from None
        except ValueError as error:
            hint = "; --read names the field that holds it" if any(isinstance(one, dict) for one in found) else ""
            raise self._silent(f"its answer cannot be read: {error}{hint}") from None

    def _post(self, body: bytes, until: float) -> tuple[int, bytes]:
        """Over a connection that is open already, if there is one. One that the service had closed is no failure."""
        if self._out is None:
            raise Refused("Call a service", "only the process of its endpoint does", "Ask the endpoint.")
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.facts.token_env:
            headers["Authorization"] = f"Bearer {os.environ.get(self.facts.token_env, '')}"
        while True:
            left = until - time.monotonic()
            if left <= _TOO_SHORT * self.facts.timeout_ms / 1_000:
                raise self._silent(f"no answer within {self.facts.timeout_ms:,} ms")
            try:
                line, old = self._idle.get_nowait(), True
            except queue.Empty:
                line, old = self._connected(self._out, left), False
            left = max(until - time.monotonic(), 0.001)
            line.sock.settimeout(left)
            try:
                answer = send(line, self.facts.url, body, headers, left, _LIMIT)
            except Unreachable as error:
                line.close()
                if old and time.monotonic() < until:
                    continue
                raise self._silent(error.obstacle) from error
            if not answer.whole:
                line.close()
                raise self._silent(f"its answer has more than {_LIMIT} bytes")
            if line.sock is None:
                line.close()
            else:
                self._idle.put(line)
            return answer.status, answer.body

    def _connected(self, out: Outgoing, patience: float) -> HTTPConnection:
        try:
            return out.connect(self.facts.url, patience)
        except Refused as error:  # which address it has is nothing for clients
            sys.stderr.write(f"{error}\n")
            raise self._silent("its address is not one that may be called") from error
        except Unreachable as error:
            raise self._silent(error.obstacle) from error

    def _silent(self, why: str) -> "Silent":
        return Silent(_ATTEMPT, why, "Look after the service; send again.")

    def _asked(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        names = list(self.signature.inputs)
        rows = [{name: one.get(name) for name in names} for one in records] if names else list(records)
        if self.facts.form == "predict":
            return {"records": rows}
        if self.facts.form == "invocations":
            return {"dataframe_records": rows}
        columns = names or list(rows[0])
        if odd := next((one for one in rows if one.keys() != rows[0].keys()), None):
            said = ", ".join(sorted(odd.keys() ^ rows[0].keys()))
            raise Usage(_ATTEMPT, f"records of one call differ in {said}", "Declare its features with --features.")
        return {"inputs": [_tensor(name, [row[name] for row in rows]) for name in columns]}

    def close(self) -> None:
        """Close what is open."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


class Silent(Unreachable):
    """A service that gave no answer that can be used."""

    status = 503


def read_answer(said: Any, facts: Facts, count: int) -> list[Any]:
    """The prediction for each record in an answer. Raises ValueError."""
    found: list[Any]
    if facts.form == "v2":
        outputs = said.get("outputs") if isinstance(said, dict) else None
        if not isinstance(outputs, list) or not all(isinstance(one, dict) for one in outputs):
            raise ValueError("it has no outputs")
        chosen = [one for one in outputs if not facts.read or one.get("name") == facts.read]
        if not chosen:
            raise ValueError(f"it has no output {facts.read!r}")
        data = chosen[0].get("data")
        found = data if isinstance(data, list) else []
        if len(found) != count and count and len(found) % count == 0:
            width = len(found) // count
            found = [found[at : at + width] for at in range(0, len(found), width)]
    else:
        listed = said.get("predictions") if isinstance(said, dict) else said
        if not isinstance(listed, list):
            raise ValueError("it has no list of predictions")
        found = [_field(one, facts.read) for one in listed]
    if len(found) != count:
        raise ValueError(f"{len(found)} predictions for {count} records")
    return found


def _field(one: Any, name: str) -> Any:
    if not isinstance(one, dict):
        return one
    if name and name not in one:
        raise ValueError(f"a prediction has no field {name!r}")
    return one[name] if name else one.get("prediction", one)


def _tensor(name: str, values: list[Any]) -> dict[str, Any]:
    datatype = "FP64"
    if all(isinstance(one, bool) for one in values):
        datatype = "BOOL"
    elif all(isinstance(one, int) for one in values):
        datatype = "INT64"
    elif any(isinstance(one, str) for one in values):
        datatype = "BYTES"
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}
