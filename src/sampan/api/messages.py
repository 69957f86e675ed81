"""What intakes of other protocols share: a request's messages become checked events, and those go into the log."""

from abc import abstractmethod
from typing import ClassVar

from sampan.api.bodies import Unpackable
from sampan.api.guard import Scope
from sampan.api.taker import Reply, Taker
from sampan.log.check import Batch
from sampan.log.translate import Messages


class MessageIntake(Taker):
    """Takes one protocol's messages into one stream."""

    #: The answer to whatever was taken, the malformed included.
    TAKEN: ClassVar[Reply]

    @abstractmethod
    def messages(self, scope: Scope, body: bytes, producer: str) -> Messages:
        """The messages of a request. Raises TooMany before it makes any."""

    async def take(self, scope: Scope, body: bytes, kind: bytes, encoding: bytes, producer: str) -> Reply:
        await self._writer.submit(self._batch(scope, body, encoding, producer), producer)
        return self.TAKEN

    def _batch(self, scope: Scope, body: bytes, encoding: bytes, producer: str) -> Batch:
        checker = self._writer.checker
        try:
            body = self._bodies.unpack(body, encoding)
        except Unpackable as reason:
            return checker.unreadable(body, str(reason))
        return self._translator.batch(self.messages(scope, body, producer), checker)
