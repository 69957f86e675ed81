"""The forms with which people comment on what a page shows."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from litestar import Response, post
from litestar.handlers import BaseRouteHandler

from sampan.base.errors import SampanError, Usage
from sampan.hub.doors import Ask, refuse, response
from sampan.hub.remarks import KINDS
from sampan.hub.render import Answer, Frame
from sampan.team.roles import PRINCIPAL, Principal

_BODY: Final = 150_000  # the longest comment, as a form sends it
_FIELDS: Final = 4


class Says(Protocol):
    """Who keeps what is said."""

    def comment(self, kind: str, name: str, text: str, actor: str) -> Any: ...
    def withdraw(self, comment: str, actor: str) -> Any: ...


def commenting(says: Says, frame: Callable[[], Frame]) -> list[BaseRouteHandler]:
    """The routes of the forms that add a comment and withdraw one; each leads back to the object's page."""

    async def answer(request: Ask, work: Callable[[str], Any]) -> Response[bytes]:
        principal: Principal = dict(request.scope)[PRINCIPAL]  # type: ignore[assignment]
        try:
            made = await asyncio.to_thread(work, principal.name)
        except SampanError as error:
            around = frame()
            around.who = principal.name
            return refuse(request, error.status, error, around)
        kind, _, name = str(made["object"]).partition(" ")
        return response(Answer(303, "text/plain", b""), {"location": f"{KINDS[kind].address(name)}#comments"})

    @post("/comments/{kind:str}/{name:str}/add", status_code=303)
    async def add(request: Ask, kind: str, name: str, body: bytes) -> Response[bytes]:
        return await answer(request, lambda me: says.comment(kind, name, _text(body), me))

    @post("/comments/{comment:str}/withdraw", status_code=303)
    async def withdraw(request: Ask, comment: str) -> Response[bytes]:
        return await answer(request, lambda me: says.withdraw(comment, me))

    return [add, withdraw]


def _text(body: bytes) -> str:
    if len(body) > _BODY:
        raise Usage("Comment", f"the form has {len(body)} bytes", f"It may have up to {_BODY}.")
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=_FIELDS).get("text", [""])[0]
    except ValueError:
        raise Usage("Comment", f"the form has more than {_FIELDS} fields", "Send the field text alone.") from None
