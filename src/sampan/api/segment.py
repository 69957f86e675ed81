"""``POST /v1/track``, ``page``, ``screen``, ``identify``, ``group``, ``alias``, ``batch``, ``import``: Segment's API.

The write key is a token of Sampan's, as the user name of basic authentication. As at Segment, the answer is
``{"success": true}`` for whatever was taken, the malformed included: those are in quarantine, and ``sampan quarantine
list`` shows why. What was not kept is answered otherwise, so that a client tries again.
"""

from typing import Final

from sampan.api.guard import Scope
from sampan.api.messages import MessageIntake
from sampan.log.from_segment import BATCHES, CALLS, SegmentMessages

#: Path of each call → its name.
PATHS: Final = {f"/v1/{call}": call for call in (*CALLS, *BATCHES)}


class Segment(MessageIntake):
    """Takes Segment's calls."""

    TAKEN = (200, b"application/json", b'{"success": true}')

    def messages(self, scope: Scope, body: bytes, producer: str) -> SegmentMessages:
        return SegmentMessages(PATHS[scope["path"]], body, producer, self._clock.micros())
