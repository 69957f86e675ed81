"""Who answers an endpoint's clients at its own address while no process of it does: the hub, with 503 and the reason.

The same guard, routes and faces as in front of a process. Connections stay open and go to the process that comes up.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from sampan.api.entrance import Entrance
from sampan.api.guard import Response
from sampan.api.readiness import Check, Readiness
from sampan.base.errors import SampanError
from sampan.serve.bundle import Bundle
from sampan.serve.faces import NATIVE, face, pack
from sampan.serve.order import Door
from sampan.serve.overload import retry_after


class Doorkeeper(Entrance):
    """Takes up what comes until it is told to ``end``. ``why``: what clients are told."""

    def __init__(
        self, door: Door, endpoint: str, bundle: Bundle, why: Callable[[], SampanError], count: Callable[[int], None]
    ) -> None:
        super().__init__(door, endpoint, bundle, 1, count)
        self._why = why

    async def begin(self) -> None:
        """Take up the connections that were left, and all that come."""
        await self.open(self._turn_away)

    async def end(self) -> None:
        """Leave all connections to the next process."""
        self.rest()
        await asyncio.sleep(0)  # what was asked is answered
        await self.leave()

    def _turn_away(self, request: int, body: bytes, number: int) -> None:
        error = self._why()
        said, headers = face(number).refuse(error)
        answer = partial(self.answered, request, 503, said if number == NATIVE else pack(headers, said))
        asyncio.get_running_loop().call_soon(answer)

    def _look(self, name: str) -> tuple[Bundle, bool] | None:
        return (self._bundle, False) if name == self._endpoint else None

    def _health(self, path: str) -> Response:
        found = super()._health(path)
        if path == "/healthz":
            return found
        check = Check("serving", False, self._why().obstacle)
        body = msgspec.json.encode(Readiness(False, self._door.instance, [check]))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        again = str(retry_after(503)).encode()
        return Response(503, [*headers, (b"cache-control", b"no-store"), (b"retry-after", again)], body)

    def _watch(self) -> None:
        """Nothing is under way for long, and the hub is not to be ended for it."""
