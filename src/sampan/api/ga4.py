"""``POST /mp/collect``: GA4's Measurement Protocol; ``POST /debug/mp/collect``: its validation, which keeps nothing.

``api_secret`` in the query is a token of Sampan's; the guard takes it out before anything else sees the request.
``measurement_id`` or ``firebase_app_id`` is the events' source. As at Google, what was taken is answered with 204,
the malformed included.
"""

from typing import Final
from urllib.parse import parse_qs

import msgspec

from sampan.api.bodies import Unpackable
from sampan.api.guard import Scope
from sampan.api.messages import MessageIntake
from sampan.api.taker import Reply, Taker
from sampan.log.check import Checker
from sampan.log.from_ga4 import Finding, Ga4Messages, findings

COLLECT: Final = "/mp/collect"
DEBUG: Final = "/debug/mp/collect"


def stream_of(scope: Scope) -> str:
    """Which data stream a request's query names."""
    query: bytes = scope["query_string"]
    said = parse_qs(query.decode("latin-1"))
    return (said.get("measurement_id") or said.get("firebase_app_id") or [""])[0]


class Collect(MessageIntake):
    """Takes GA4's messages."""

    TAKEN = (204, b"", b"")

    def messages(self, scope: Scope, body: bytes, producer: str) -> Ga4Messages:
        return Ga4Messages(body, stream_of(scope), producer, self._clock.micros())


class Validate(Taker):
    """Says what is wrong with a message: what the protocol does not allow, then what the contracts do not."""

    async def take(self, scope: Scope, body: bytes, kind: bytes, encoding: bytes, producer: str) -> Reply:
        try:
            body = self._bodies.unpack(body, encoding)
        except Unpackable as reason:
            found = [Finding("", str(reason), "VALUE_INVALID")]
        else:
            found = findings(body) or self._broken(Ga4Messages(body, stream_of(scope), producer, self._clock.micros()))
        return 200, b"application/json", msgspec.json.encode({"validationMessages": found})

    def _broken(self, messages: Ga4Messages) -> list[Finding]:
        """What would go to quarantine. Its checker has no keys: nothing is kept, so nothing is encrypted."""
        batch = self._translator.batch(messages, Checker(self._translator.contracts))
        found = []
        for bad in batch.bads:
            origin = bad.complaint.origin
            event = origin.part.partition("/")[0] if origin is not None else ""
            path = f"events[{event}]" if event else "events"
            path += bad.complaint.path.removeprefix("$").replace(".data", ".params", 1)
            found.append(Finding(path, bad.complaint.reason, "VALUE_INVALID"))
        return found
