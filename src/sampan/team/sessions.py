"""Browser sessions, kept on the server: a cookie holds a random value, the database its SHA-256.

A session ends 12 hours after its last use and 7 days after its start, when its token is revoked, and on sign-out.
"""

import secrets
import threading
from typing import Final

from sampan.base.clock import Clock
from sampan.store.database import Database
from sampan.team.roles import Principal
from sampan.team.tokens import hash_of

IDLE: Final = 12 * 3_600_000_000
LONGEST: Final = 7 * 86_400_000_000
_NOTE_USE: Final = 300_000_000  # writing every use down would cost a sync per page
OWNER: Final = "owner"


class Sessions:
    """Sessions of one workspace. ``owner`` is who the token file stands for."""

    def __init__(self, db: Database, clock: Clock, owner: Principal) -> None:
        self._db = db
        self._clock = clock
        self._owner = owner

    def open(self, principal: Principal, expires: int | None = None) -> str:
        """Start a session; returns the cookie's value. It never outlives the token behind it."""
        value = secrets.token_urlsafe(32)
        now = self._clock.micros()
        until = min(now + LONGEST, expires) if expires else now + LONGEST
        with self._db.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE expires < ? OR used < ?", (now, now - IDLE))
            connection.execute(
                "INSERT INTO sessions (hash, token, created, used, expires) VALUES (?, ?, ?, ?, ?)",
                (hash_of(value), principal.token, now, now, until),
            )
        return value

    def find(self, value: str) -> Principal | None:
        """Whose session a cookie stands for, or None."""
        if not 20 <= len(value) <= 100:
            return None
        now = self._clock.micros()
        row = self._db.row(
            """SELECT s.hash, s.token, s.used, s.expires, t.name, t.role FROM sessions s
               LEFT JOIN tokens t ON t.id = s.token AND t.revoked IS NULL AND t.expires > :now
               WHERE s.hash = :hash AND s.expires > :now AND s.used > :idle""",
            {"hash": hash_of(value), "now": now, "idle": now - IDLE},
        )
        if row is None or (row["name"] is None and row["token"] != OWNER):
            return None
        if now - row["used"] > _NOTE_USE:
            with self._db.transaction() as connection:
                connection.execute("UPDATE sessions SET used = ? WHERE hash = ?", (now, row["hash"]))
        return self._owner if row["token"] == OWNER else Principal(row["name"], row["role"], row["token"])

    def close(self, value: str) -> None:
        """End a session."""
        with self._db.transaction() as connection:
            connection.execute("DELETE FROM sessions WHERE hash = ?", (hash_of(value),))


class Links:
    """One-time sign-in links, kept in memory: they die with the hub that made them."""

    LIFE: Final = 24 * 3_600_000_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Principal, int]] = {}
        self._used: set[str] = set()

    def make(self, principal: Principal) -> str:
        """A code that signs its bearer in once, within 24 hours."""
        code = secrets.token_urlsafe(24)
        with self._lock:
            self._open[hash_of(code)] = (principal, self._clock.micros() + self.LIFE)
        return code

    def use(self, code: str) -> Principal | None:
        """Exchange a code. None if it is unknown or too old."""
        key = hash_of(code)
        with self._lock:
            principal, until = self._open.pop(key, (None, 0))
            if principal is None or until < self._clock.micros():
                return None
            self._used.add(key)
            return principal

    def was_used(self, code: str) -> bool:
        return hash_of(code) in self._used
