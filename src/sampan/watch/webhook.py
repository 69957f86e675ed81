"""Signed webhooks: who receives one can tell that it is ours, fresh, and whether it came before.

The header ``Sampan-Signature`` is ``t=SECONDS,v1=HEX``, HEX being HMAC-SHA256 over ``SECONDS.BODY`` with the shared
secret; ``Sampan-Id`` is the id of the message, the same for every attempt. ``docs/how-to/alerts.md`` verifies one.
"""

import hashlib
import hmac
import time
from typing import Final

from sampan.base.errors import Unreachable
from sampan.base.outgoing import Outgoing
from sampan.watch.limits import Target

SIGNATURE: Final = "Sampan-Signature"
ID: Final = "Sampan-Id"


def sign(secret: str, body: bytes, seconds: int) -> str:
    """The signature of a body at a time."""
    digest = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def verify(secret: str, body: bytes, signature: str, now: int, tolerance: int = 300) -> bool:
    """Whether a signature is ours and not older than ``tolerance`` seconds."""
    fields = dict(part.partition("=")[::2] for part in signature.split(","))
    told = fields.get("t", "")
    if not told.isascii() or not told.isdecimal() or abs(now - int(told)) > tolerance:
        return False
    return hmac.compare_digest(sign(secret, body, int(told)).encode(), f"t={told},v1={fields.get('v1', '')}".encode())


def send(target: Target, id: str, body: bytes, outgoing: Outgoing) -> None:
    """Send a message once. Raises SampanError if it did not arrive."""
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "sampan",
        ID: id,
        SIGNATURE: sign(target.secret, body, int(time.time())),
    }
    status = outgoing.post(target.url, body, headers)
    if not 200 <= status < 300:
        advice = "Redirects are not followed: write the address that it leads to." if 300 <= status < 400 else ""
        raise Unreachable(f"Call {target.name}", f"it answered {status}", advice)
