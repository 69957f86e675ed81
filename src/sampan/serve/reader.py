"""A request from its bytes to records that fit: what a bundle's model and rules are asked, and of whom.

What it is answered: ``answer``. In which words it comes: ``faces``.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.clock import Clock, iso, to_micros
from sampan.base.errors import Usage
from sampan.base.ids import new_ids
from sampan.models.inputs import Inputs, Numbers
from sampan.models.version import Signature
from sampan.serve.bundle import Bundle
from sampan.serve.faces import NATIVE, Headers, face
from sampan.serve.lookup import Lookup
from sampan.serve.native import read_numbers
from sampan.serve.noted import noted
from sampan.serve.verdict import Asked

RECORDS_LIMIT: Final = 10_000
_AHEAD: Final = 300_000_000  # microseconds that a request's time may be ahead of the clock
_LONGEST: Final = 200  # characters of an event's subject
_ATTEMPT: Final = "Predict"
_IDS: Final = "Leave ids out, and each prediction gets one."
_NONE: Final[Headers] = {}

_encode = msgspec.json.Encoder().encode


class Reader:
    """Reads what one bundle is asked."""

    def __init__(self, bundle: Bundle, clock: Clock, data: Path | None = None, *, live: bool = False) -> None:
        """``data``: the folder of the workspace's data, where features may be looked up; ``live``: a service answers,
        which reads the records."""
        facts = bundle.decision
        self._bundle = bundle
        self._clock = clock
        self._inputs = tuple(bundle.model.signature.inputs)
        self._checked = Inputs(bundle.model.signature)
        self.heavy = bundle.model.signature.heavy
        self._entity = facts.entity if facts else ""
        self._unread = facts is None and not live  # no rule and no service reads the records
        self._lookup = Lookup(data, facts, self._inputs, clock) if data and facts and facts.features else None
        known = None
        if facts and facts.context is not None:
            known = frozenset((*self._inputs, *facts.context, *([facts.entity] if facts.entity else [])))
        self._known = known

    @property
    def signature(self) -> Signature:
        """What its model takes and gives."""
        return self._bundle.model.signature

    def complete(
        self, records: Sequence[Mapping[str, Any]], when: int, live: bool = False
    ) -> tuple[list[Any], Sequence[str]]:
        """Records that name a row, with the row's features as they were known at ``when``; and for each the table and
        snapshot, empty for what came as it is. ``live``: nobody named that instant (``Lookup.complete``). Raises Usage.
        """
        if self._lookup is None:
            return list(records), [""] * len(records)
        made, told = self._lookup.complete(records, when, live)
        return made, told or [""] * len(records)

    def instants(self, whens: Collection[int]) -> Mapping[int, int]:
        """For each instant one at which the same was known; the same for as many as can be. Raises Usage."""
        return {when: when for when in whens} if self._lookup is None else self._lookup.alike(whens)

    def warm(self) -> None:
        """Load what the first request would wait for."""
        if self._lookup is not None:
            self._lookup.warm()

    def read(self, body: bytes, number: int = NATIVE, headers: Headers = _NONE) -> Asked:
        """Check a request. Raises Usage: what was expected, and the value that came instead."""
        arrived = time.perf_counter()
        call = read_numbers(body, self._checked) if number == NATIVE and self._unread else None
        if call is None:
            call = face(number).read(body, headers, self._bundle)
        looked_up: list[str] = []
        then = None
        records, sent = call.records, None
        now = self._clock.micros()
        if self._lookup is not None and number == NATIVE and len(records) <= RECORDS_LIMIT:
            then = None if call.time is msgspec.UNSET else _time(call.time, now)
            records, looked_up = self._lookup.complete(records, then)
            sent = call.records if looked_up else None
        self.fit(records)
        ids = self._ids(call.ids, len(records))
        when = now if call.time is msgspec.UNSET else _time(call.time, now)
        named = call.ids is not None
        asked = Asked(records, ids, named, when, arrived, number, call.wanted, call.pinned, sent, looked_up, then)
        return self.pack(asked) if self.heavy else asked

    def pack(self, asked: Asked) -> Asked:
        """A request whose tensors and bytes are read, with its records as events say them. Raises Usage."""
        records, blobs = self._checked.pack(asked.records), dict(asked.blobs or {})
        written = [noted(record, self.heavy, blobs) for record in records]
        return asked._replace(records=records, noted=written, blobs=blobs)

    def fit(self, records: Sequence[Any]) -> None:
        """Raises Usage for what are no records, or not those that the rules take."""
        if not records:
            raise Usage(_ATTEMPT, "the list of records is empty", "Send at least one record.")
        if len(records) > RECORDS_LIMIT:
            raise Usage(_ATTEMPT, f"{len(records)} records at once", f"Send at most {RECORDS_LIMIT} in one request.")
        if isinstance(records, Numbers) and self._unread:
            return
        for place, record in enumerate(records):
            if not isinstance(record, dict):
                raise Usage(_ATTEMPT, f"record {place}: expected an object, got {_shown(record)}", "Send objects.")
            if self._known is not None and not self._known.issuperset(record):
                odd = sorted(set(record) - self._known)
                raise Usage(
                    _ATTEMPT,
                    f"record {place}: unknown field {odd[0]!r} with the value {_shown(record[odd[0]])}",
                    f"Known: {', '.join(sorted(self._known))}.",
                    field=odd[0],
                )
            if self._entity:
                self._name(record, place)

    def check(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Raises Usage as ``predict`` does, for records that another bundle is to answer."""
        if not self._unread or not isinstance(records, Numbers):
            self._checked.rows(records)

    def packed(self, records: Sequence[Any]) -> list[Any]:
        """The records with their tensors and bytes read. Raises Usage."""
        return self._checked.pack(records)

    def about(self, record: Mapping[str, Any]) -> str:
        """Whom a record that fits is about; empty for nobody."""
        return self._name(record, 0) if self._entity else ""

    def whom(self, asked: Asked) -> Sequence[str]:
        """Whom each record is about; empty for nobody."""
        return [self.about(record) for record in asked.records] if self._entity else [""] * len(asked.ids)

    def _name(self, record: Mapping[str, Any], place: int) -> str:
        """Whom the prediction is about; empty where the record says null."""
        if self._entity not in record:
            raise Usage(
                _ATTEMPT,
                f"record {place}: field {self._entity!r} is missing; it names whom the prediction is about",
                "Send a text, a whole number or null.",
                field=self._entity,
            )
        value = record[self._entity]
        if value is None:
            return ""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise Usage(
                _ATTEMPT,
                f"record {place}: field {self._entity!r}: expected a text, a whole number or null, got {_shown(value)}",
                "It names whom the prediction is about.",
                field=self._entity,
            )
        text = str(value)
        if len(text) > _LONGEST:
            said = f"record {place}: field {self._entity!r}: {len(text)} characters"
            raise Usage(
                _ATTEMPT, said, f"It names whom the prediction is about, in at most {_LONGEST}.", field=self._entity
            )
        return text

    def _ids(self, given: Any, count: int) -> list[str]:
        if given is None:
            return new_ids(self._clock, count)
        if not isinstance(given, list) or len(given) != count:
            got = f"{len(given)} of them" if isinstance(given, list) else _shown(given)
            obstacle = f"ids: expected a list of {count} texts, one per record, got {got}"
            raise Usage(_ATTEMPT, obstacle, _IDS, field="ids")
        for one in given:
            if not isinstance(one, str) or not 1 <= len(one) <= 200:
                obstacle = f"ids: expected texts of 1 to 200 characters, got {_shown(one)}"
                raise Usage(_ATTEMPT, obstacle, _IDS, field="ids")
        if len(set(given)) != count:
            raise Usage(_ATTEMPT, "ids: the same id stands for two records", "Ids name predictions.", field="ids")
        return given


def _time(given: Any, now: int) -> int:
    try:
        when = datetime.fromisoformat(given)
        micros = to_micros(when)
    except (TypeError, ValueError, OverflowError):
        raise Usage(
            _ATTEMPT,
            f"time: expected ISO text such as 2011-04-01T08:26:00Z, got {_shown(given)}",
            "Leave it out to mean now.",
            field="time",
        ) from None
    if micros > now + _AHEAD:
        raise Usage(
            _ATTEMPT, f"time: {given} lies in the future; it is {iso(now)}", "Leave it out to mean now.", field="time"
        )
    return micros


def _shown(value: Any) -> str:
    text = _encode(value).decode()
    return text if len(text) <= 80 else f"{text[:77]}..."
