"""Whom a secret stands for, in a process that has no records: it goes by what the hub has told it, digests alone."""

from collections.abc import Sequence
from typing import Final

from sampan.base.clock import Clock
from sampan.base.errors import SampanError
from sampan.team.gate import SteadyClock, ended, secret_of
from sampan.team.roles import Principal
from sampan.team.tokens import Pass, Token, hash_of

_KEPT: Final = 10_000


class Passes:
    """Lets in who sends a token as ``Authorization: Bearer``: there are no sessions here, and no other ways."""

    def __init__(self, passes: Sequence[Pass], clock: Clock) -> None:
        self.clock = SteadyClock(clock)
        self.take(passes)

    def take(self, passes: Sequence[Pass]) -> None:
        """Go by these from now on."""
        self._tokens = {one.digest: one.token for one in passes}
        self._known: dict[bytes, Token] = {}

    def bearer(self, header: bytes) -> Principal | None:
        """Whom an ``Authorization`` header stands for."""
        token = self._known.get(header)
        if token is None:
            scheme, _, secret = header.partition(b" ")
            if scheme.lower() != b"bearer":
                return None
            token = self._tokens.get(hash_of(secret.strip().decode("utf-8", "surrogateescape")))
            if token is None:
                return None
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[header] = token
        if token.state(self.clock.micros()) != "living":
            return None
        return Principal(token.name, token.role, token.id)

    def until(self, header: bytes) -> int:
        """When the token of a header that was let in expires (microseconds)."""
        return self._known[header].expires

    def why_not(self, sent: bytes) -> SampanError:
        """Why a token lets nobody in, as the hub would say it."""
        token = self._tokens.get(hash_of(secret_of(sent)))
        return ended(token if token is not None and token.state(self.clock.micros()) != "living" else None)

    def basic(self, header: bytes) -> Principal | None:
        """Nobody."""
        return None

    def plain(self, secret: bytes) -> Principal | None:
        """Nobody."""
        return None

    def cookie(self, value: str) -> Principal | None:
        """Nobody."""
        return None
