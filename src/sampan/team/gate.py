"""Whom a secret stands for. The gate answers for every request, so what it has looked up it keeps in memory.

Only the hub writes tokens and sessions while it is up, so ``forget`` after a change is enough for a revocation to
bite at once.
"""

import asyncio
import base64
import hmac
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from sampan.base.clock import Clock, iso
from sampan.base.errors import SampanError
from sampan.store.database import Database
from sampan.team.roles import Principal
from sampan.team.sessions import OWNER, Links, Sessions
from sampan.team.tokens import Pass, Token, Tokens, hash_of, mint

_K = TypeVar("_K")
_KEPT: Final = 10_000
_EVER: Final = 1 << 62
_TRIES, _WINDOW = 10, 60.0


class SteadyClock:
    """Real time that never goes back: no token or session becomes valid again because a clock was set."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._latest = 0

    def micros(self) -> int:
        now = self._clock.micros()
        if now > self._latest:
            self._latest = now
        return self._latest


class Gate:
    """Tokens, sessions and links of one running hub. ``secrets`` are the owner's: the token file's, SAMPAN_TOKEN.

    ``step_secret`` is that of the steps of a flow, to log with; it is written nowhere and ends with the process.
    """

    def __init__(self, db: Database, clock: Clock, secrets: list[str]) -> None:
        self.owner = Principal("owner", "admin", OWNER)
        self.clock = SteadyClock(clock)
        self.tokens = Tokens(db, self.clock)
        self.sessions = Sessions(db, self.clock, self.owner)
        self.links = Links(self.clock)
        self.step_secret = mint()
        self._step = Principal("step", "trainer", "step")
        self._step_hash = hash_of(self.step_secret)
        self._owner_hashes = [hash_of(secret) for secret in secrets if secret]
        self._bearers: dict[bytes, tuple[Principal, int]] = {}
        self._basics: dict[bytes, tuple[Principal, int]] = {}  # apart: they count on few routes
        self._cookies: dict[str, tuple[Principal, int]] = {}
        #: Takes what is known of tokens, whenever it changes.
        self.told: Callable[[list[Pass]], None] = lambda passes: None
        self._telling = asyncio.Lock()
        self._lock = threading.Lock()
        self._failures: list[float] = []

    def bearer(self, header: bytes) -> Principal | None:
        """Whom an ``Authorization`` header stands for."""
        if known := self._bearers.get(header):
            if known[1] > self.clock.micros():
                return known[0]
            self.forget()
        scheme, _, secret = header.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        found = self.secret(secret.strip().decode("utf-8", "surrogateescape"))
        if found is not None:
            self._keep(self._bearers, header, found)
            return found[0]
        return None

    def basic(self, header: bytes) -> Principal | None:
        """Whom an ``Authorization: Basic`` header stands for: its user name is a token, its password says nothing."""
        scheme, _, coded = header.partition(b" ")
        if scheme.lower() != b"basic":
            return None
        try:
            name = base64.b64decode(coded.strip(), validate=True).partition(b":")[0]
        except ValueError:
            return None
        return self.plain(name)

    def plain(self, secret: bytes) -> Principal | None:
        """Whom a token stands for that came by another way than ``Authorization: Bearer``."""
        if (known := self._basics.get(secret)) and known[1] > self.clock.micros():
            return known[0]
        found = self.secret(secret.decode("utf-8", "surrogateescape")) if secret else None
        if found is not None:
            self._keep(self._basics, secret, found)
            return found[0]
        return None

    def secret(self, secret: str) -> tuple[Principal, int] | None:
        """Whom a token stands for and until when."""
        digest = hash_of(secret)
        if any(hmac.compare_digest(digest, own) for own in self._owner_hashes):
            return self.owner, _EVER
        if hmac.compare_digest(digest, self._step_hash):
            return self._step, _EVER
        return self.tokens.find(secret)

    def why_not(self, sent: bytes) -> SampanError:
        """Why a token lets nobody in, as it was sent: alone, or in an ``Authorization`` header. Only who has a token is
        told what became of it."""
        return ended(self.tokens.dead(secret_of(sent)))

    def passes(self) -> list[Pass]:
        """What a process that has no records needs to know whom a secret stands for (``sampan.team.passes``)."""
        owner = Token(self.owner.token, self.owner.name, self.owner.role, 0, _EVER)
        step = Token(self._step.token, self._step.name, self._step.role, 0, _EVER)
        own = [Pass(digest, owner) for digest in self._owner_hashes]
        return [*own, Pass(self._step_hash, step), *self.tokens.passes()]

    async def changed(self) -> None:
        """A token was made or taken back: forget, and tell whoever goes by what this gate says."""
        self.forget()
        async with self._telling:  # what was read later is told later
            self.told(await asyncio.to_thread(self.passes))

    def cookie(self, value: str) -> Principal | None:
        """Whom a session cookie stands for."""
        now = self.clock.micros()
        if (known := self._cookies.get(value)) and known[1] > now:
            return known[0]
        principal = self.sessions.find(value)
        if principal is not None:
            self._keep(self._cookies, value, (principal, now + 30_000_000))  # 30 s, then idle time is noted again
        return principal

    def _keep(self, cache: dict[_K, tuple[Principal, int]], key: _K, found: tuple[Principal, int]) -> None:
        if len(cache) >= _KEPT:
            cache.clear()
        cache[key] = found

    def forget(self) -> None:
        """Drop what is remembered, after a token or session was taken back."""
        self._bearers.clear()
        self._basics.clear()
        self._cookies.clear()

    def too_many_tries(self) -> bool:
        """Whether sign-in has failed more than ten times within a minute."""
        now = time.monotonic()
        with self._lock:
            self._failures = [when for when in self._failures if now - when < _WINDOW]
            return len(self._failures) >= _TRIES

    def note_failure(self) -> None:
        with self._lock:
            self._failures.append(time.monotonic())


def ended(token: Token | None) -> SampanError:
    """Why a token lets nobody in; None: nobody made it."""
    attempted = "Answer a request"
    if token is None:
        return SampanError(
            attempted, "the token is none of this hub's", "An admin makes one with `sampan token create`."
        )
    at = token.expires if token.revoked is None else token.revoked
    how = "expired" if token.revoked is None else "was revoked"
    obstacle = f"the token {token.name!r} {how} on {iso(at)[:16].replace('T', ' at ')} UTC"
    again = f"`sampan token create {token.name} --role {token.role}`"
    return SampanError(attempted, obstacle, f"Ask an admin for another: {again} makes one.")


def secret_of(sent: bytes) -> str:
    """The token in a text or an ``Authorization`` header."""
    scheme, _, coded = sent.partition(b" ")
    found = coded.strip() if coded else scheme
    if scheme.lower() == b"basic":
        try:
            found = base64.b64decode(found, validate=True).partition(b":")[0]
        except ValueError:
            return ""
    return found.decode("utf-8", "surrogateescape")
