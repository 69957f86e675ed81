"""What a request is answered that is cut off, since the hub ends and has waited for it for as long as it does."""

from typing import Final

from sampan.api.guard import SAFE, Refusal, Response, Scope
from sampan.api.headers import HEADERS
from sampan.base.errors import Busy

_AGAIN: Final = b"5"  # seconds in which a hub that is only started again is up


def cut_off(scope: Scope, refusal: Refusal) -> Response:
    """503, in the form that who asks can read; the server itself would say 500, and nothing of why."""
    read = scope["method"] in SAFE
    error = Busy(
        f"Answer {scope['method']} {scope['path'][:100]}",
        "the hub was told to end, and this took longer than it waits",
        "Ask again when it is up." if read else "It may have been done: look when it is up, then send it again.",
    )
    kind, body = refusal(scope, error.status, error)
    own = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    return Response(
        error.status, [*HEADERS, *own, (b"retry-after", _AGAIN)], b"" if scope["method"] == "HEAD" else body
    )
