"""A message in quarantine read again, by the protocol in which it came."""

from sampan.log.frames import Origin
from sampan.log.from_cloudevents import CloudEventMessages
from sampan.log.from_ga4 import Ga4Messages
from sampan.log.from_segment import SegmentMessages
from sampan.log.translate import Messages


def reread(raw: bytes, origin: Origin, producer: str) -> Messages | None:
    """The request that a held message would be by itself; None for a protocol that is not known (any more)."""
    match origin.protocol:
        case "segment":
            return SegmentMessages.again(raw, origin.beside, producer)
        case "cloudevents":
            return CloudEventMessages.again(raw, origin.beside)
        case "ga4":
            return Ga4Messages.again(raw, origin.beside, producer)
        case _:
            return None
