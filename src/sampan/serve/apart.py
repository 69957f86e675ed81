"""The candidate's side of a rollout: a process that answers the champion's, and keeps nothing.

What it is asked too late for anybody to wait for the answer, it leaves out, so that it catches up after a slow moment.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sampan.base.errors import Refused, SampanError, Unreachable
from sampan.serve.answer import Answerer
from sampan.serve.frames import Frame, Frames, Kind
from sampan.serve.held import held_back
from sampan.serve.noted import Blobs, noted
from sampan.serve.verdict import Verdict

_decode_list = msgspec.msgpack.Decoder(list[Verdict]).decode


class Named(msgspec.Struct, array_like=True):
    """A record as it came, which names a row: who answers it looks its features up as of ``when``, the instant at which
    the champion has. ``live``: nobody named that instant."""

    record: dict[str, Any]
    when: int
    live: bool


class Errand(msgspec.Struct, array_like=True):
    """Records to be answered, and until when (``time.monotonic``, the same in all processes of a machine).
    ``unseen``: nobody is told the answers, and nothing may come of them."""

    until: float
    records: list[dict[str, Any] | Named]
    unseen: bool = False


_decode = msgspec.msgpack.Decoder(Errand).decode
_encode = msgspec.msgpack.Encoder().encode


def read_verdicts(payload: bytes) -> list[Verdict]:
    """What the candidate's process answered. Raises msgspec.DecodeError for anything else."""
    return _decode_list(payload)


class Apart:
    """Answers what comes from the champion's process. All that arrives at once is predicted together."""

    def __init__(self, answerer: Answerer) -> None:
        self._answerer = answerer
        self._waiting: list[tuple[Callable[[bytes], None], Errand]] = []
        self._server: asyncio.Server | None = None

    async def listen(self, path: str) -> None:
        """Wait at a path for one connection, the champion's."""
        self._deaf()
        self._server = await asyncio.get_running_loop().create_unix_server(self._connection, path)

    def _deaf(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _connection(self) -> Frames:
        def on_frame(frame: Frame) -> None:
            if frame.kind is Kind.WEIGH:
                request = frame.request
                self._take(lambda answer: link.send(Kind.ANSWER, request, answer), frame.payload)

        link = Frames(on_frame, lambda: None)
        asyncio.get_running_loop().call_soon(self._deaf)
        return link

    def _take(self, reply: Callable[[bytes], None], payload: bytes) -> None:
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._drain)
        self._waiting.append((reply, _decode(payload)))

    def _drain(self) -> None:
        waiting, self._waiting = self._waiting, []
        now = time.monotonic()
        verdicts = {unseen: iter(self._weighed(waiting, now, unseen)) for unseen in (False, True)}
        for reply, errand in waiting:
            found = verdicts[errand.unseen]
            reply(_written([next(found) for _ in errand.records] if errand.until > now else []))

    def _weighed(
        self, waiting: Sequence[tuple[Callable[[bytes], None], Errand]], now: float, unseen: bool
    ) -> list[Verdict]:
        timely = [errand for _, errand in waiting if errand.until > now and errand.unseen is unseen]
        return weigh(self._answerer, [record for errand in timely for record in errand.records], unseen)


def weigh(answerer: Answerer, records: Sequence[Any], unseen: bool = False) -> list[Verdict]:
    """What a bundle says to each record; where it raises, in halves, until the record stands alone. ``unseen``: its
    rules may call nobody."""
    if not records:
        return []
    try:
        full, told = _completed(answerer, records)
        answerer.fit(full)
        asked = answerer.packed(full) if answerer.heavy else full
        outputs = answerer.predict(asked)
        if unseen:
            verdicts = [_sound(_quietly(answerer, *one)) for one in zip(asked, outputs, strict=True)]
        else:
            verdicts = [_sound(one) for one in answerer.judge(asked, outputs)]
        for place, where in told.items():
            blobs: Blobs = {}
            row = noted(asked[place], answerer.heavy, blobs)
            verdicts[place] = msgspec.structs.replace(verdicts[place], record=row, looked_up=where, blobs=blobs or None)
        return verdicts
    except (Unreachable, Refused) as error:  # of a live service: asking it again for each half says nothing new
        return [Verdict(None, error=error.obstacle) for _ in records]
    except Exception as error:  # noqa: BLE001 - the model and the rules are the user's: the champion answers instead
        if len(records) == 1:
            return [Verdict(None, error=_said(error))]
    half = len(records) // 2
    return [*weigh(answerer, records[:half], unseen), *weigh(answerer, records[half:], unseen)]


def _completed(answerer: Answerer, records: Sequence[Any]) -> tuple[list[Any], dict[int, str]]:
    """The records with their features, and by its place where those of each ``Named`` one are from. Raises Usage."""
    full, told = list(records), dict[int, str]()
    named = [place for place, one in enumerate(records) if isinstance(one, Named)]
    if not named:
        return full, told
    instants: dict[tuple[int, bool], list[int]] = {}
    alike = answerer.instants({records[place].when for place in named})
    for place in named:
        instants.setdefault((alike[records[place].when], records[place].live), []).append(place)
    for (when, live), places in instants.items():
        made, where = answerer.complete([records[place].record for place in places], when, live)
        for place, one, at in zip(places, made, where, strict=True):
            full[place], told[place] = one, at
    return full, told


def _quietly(answerer: Answerer, record: Any, output: Any) -> Verdict:
    with held_back() as calls:
        (verdict,) = answerer.judge([record], [output])
    return msgspec.structs.replace(verdict, calls=tuple(calls)) if calls else verdict


def _said(error: Exception) -> str:
    if isinstance(error, SampanError):
        return error.obstacle.removeprefix("record 0: ").removeprefix("record 0, ")
    return f"the model raised {type(error).__name__}: {error}"


def _sound(verdict: Verdict) -> Verdict:
    """A verdict, or, where it is none that an event can hold, what is wrong with it."""
    numbers = verdict.output if isinstance(verdict.output, list) else [verdict.output]
    if any(isinstance(one, float) and not math.isfinite(one) for one in numbers):
        return Verdict(None, error=f"it predicted {verdict.output}")
    return verdict


def _written(verdicts: list[Verdict]) -> bytes:
    try:
        return _encode(verdicts)
    except (TypeError, ValueError, OverflowError) as error:
        return _encode([Verdict(None, error=f"its answer cannot be written: {error}") for _ in verdicts])
