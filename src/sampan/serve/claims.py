"""Who is at work on a case that waits for people, and until when: so that two do not answer the same one.

A claim is a lease: it ends by itself. It decides nothing; what settles a case is in the log (``sampan.serve.reviews``).
"""

import sqlite3
from typing import Final

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.errors import Conflict
from sampan.store.database import Database

MINUTES: Final = 15.0  # that a claim lasts, unless somebody says otherwise
LONGEST: Final = 480.0
_HELD: Final = "SELECT who, at, until FROM claims WHERE endpoint = ? AND prediction = ? AND at <= ? AND until > ?"


class Claim(msgspec.Struct, frozen=True):
    """Somebody is at work on a case, from ``at`` to ``until``, in microseconds."""

    who: str
    at: int
    until: int


class Claims:
    """The claims of a workspace. Writing needs the records' lock; reading does not."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def held(self, endpoint: str, prediction: str, at: int | None = None) -> Claim | None:
        """Who is at work on a case now, or was at an instant."""
        then = self._clock.micros() if at is None else at
        row = self._db.row(f"{_HELD} ORDER BY at DESC, rowid DESC LIMIT 1", (endpoint, prediction, then, then))
        return None if row is None else Claim(row["who"], row["at"], row["until"])

    def all(self) -> dict[tuple[str, str], Claim]:
        """Who is at work on what now, by endpoint and prediction."""
        now = self._clock.micros()
        rows = self._db.rows("SELECT * FROM claims WHERE at <= ? AND until > ? ORDER BY at, rowid", (now, now))
        return {(row["endpoint"], row["prediction"]): Claim(row["who"], row["at"], row["until"]) for row in rows}

    def check(self, attempted: str, endpoint: str, prediction: str, who: str) -> None:
        """Raises Conflict where somebody else is at work on a case."""
        held = self.held(endpoint, prediction)
        if held is not None and held.who != who:
            said = f"{held.who or 'somebody'} is at work on it until {iso(held.until)[:19]}Z"
            raise Conflict(attempted, said, "Leave it to them, or take it over: sampan review claim CASE --over.")

    def take(self, attempted: str, endpoint: str, prediction: str, who: str, until: int, over: bool) -> Claim:
        """Be at work on a case until then, and nobody else. Raises Conflict where somebody else is, unless it is taken
        over from them (``over``)."""
        made = Claim(who, self._clock.micros(), until)
        with self._db.transaction() as records:
            if not over:
                self.check(attempted, endpoint, prediction, who)
            self._end(records, endpoint, prediction, made.at)
            row = (endpoint, prediction, made.who, made.at, made.until)
            records.execute("INSERT INTO claims (endpoint, prediction, who, at, until) VALUES (?, ?, ?, ?, ?)", row)
        return made

    def release(self, attempted: str, endpoint: str, prediction: str, who: str) -> None:
        """Be at work on it no more. Raises Conflict where somebody else is."""
        self.check(attempted, endpoint, prediction, who)
        with self._db.transaction() as records:
            self._end(records, endpoint, prediction, self._clock.micros())

    def _end(self, records: sqlite3.Connection, endpoint: str, prediction: str, now: int) -> None:
        values = (now, endpoint, prediction, now)
        records.execute("UPDATE claims SET until = ? WHERE endpoint = ? AND prediction = ? AND until > ?", values)
