"""Aliases: names for versions of a model that people move, with a history that only grows.

Two who move the same alias at once do not overwrite each other: who says which change he had seen (its token) is
refused if there has been another since, and both attempts stay in the history.
"""

import re
import sqlite3
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Conflict, NotFound, Usage
from sampan.store.database import Database

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}\Z")
_NUMBER: Final = re.compile(r"[vV]\d+\Z")
_EVER: Final = 2**62
_NEWEST: Final = """SELECT model, alias, number, id, actor, reason, at FROM aliases
    WHERE model = ? AND alias = ? AND refused = '' AND at <= ? ORDER BY id DESC LIMIT 1"""
#: The token of an alias that names nothing.
NEVER: Final = 0


class Alias(msgspec.Struct, frozen=True):
    """What an alias names, since when (microseconds). ``token`` is the change that made it so."""

    model: str
    alias: str
    number: int
    token: int
    actor: str
    reason: str
    since: int

    @property
    def ref(self) -> str:
        """``reorder@3``"""
        return f"{self.model}@{self.number}"


class Change(msgspec.Struct, frozen=True):
    """An attempt to move an alias. ``number``: None took it away. ``refused`` says why, if nothing was changed;
    ``evidence``: what spoke for it."""

    token: int
    model: str
    alias: str
    number: int | None
    actor: str
    reason: str
    at: int
    refused: str = ""
    evidence: list[str] = []


AliasList: TypeAlias = list[Alias]
Changes: TypeAlias = list[Change]


def check_alias(attempted: str, alias: str) -> None:
    """Raises Usage for what is no alias, or could be taken for a version's number."""
    if not _NAME.match(alias):
        raise Usage(attempted, f"{alias[:100]!r} is no alias", "Use letters, digits, _ and -, a letter first.")
    if _NUMBER.match(alias) or alias.lower() == "latest":
        raise Usage(attempted, f"the alias {alias!r} is reserved", "It would look like a version: take another.")


class Aliases:
    """The aliases of a workspace's models. Writing needs the records' lock; reading does not."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def move(
        self,
        model: str,
        alias: str,
        number: int | None,
        *,
        actor: str,
        reason: str = "",
        token: int | None = None,
        evidence: Sequence[str] = (),
    ) -> Alias | None:
        """Have an alias name another version, or none. Naming what it names already changes nothing.

        ``token``: of the state that the caller has seen, ``NEVER`` for none; left out, whatever is in force. Raises
        Conflict (and writes the attempt down) where that is no longer in force; NotFound for a version that is none,
        and for an alias to take away that is none; Usage. ``evidence``: what speaks for it, for the history.
        """
        attempted = f"Point {alias} at {model}@{number}" if number is not None else f"Remove the alias {alias}"
        check_alias(attempted, alias)
        now, refused = self._clock.micros(), ""
        with self._db.transaction() as records:
            last = records.execute(_NEWEST, (model, alias, _EVER)).fetchone()
            held = _alias(last)
            if token is not None and token != (held.token if held is not None else NEVER):
                says = f"names {held.ref}, as {held.actor} decided" if held is not None else "names no version"
                refused = f"{alias} {says}: something else than you saw"
            elif number is not None and not _living(records, model, number):
                raise NotFound(attempted, f"there is no version {model}@{number}", "`sampan model list` shows those.")
            elif number is None and held is None:
                raise NotFound(
                    attempted, f"{model} has no alias {alias!r}", f"`sampan model show {model}` shows those."
                )
            if refused or held is None or held.number != number:
                self._put(records, model, alias, number, actor, reason, refused, now, evidence)
        if refused:
            raise Conflict(attempted, refused, "Look at its history, and decide anew.")
        return self.find(model, alias)

    def refuse(self, model: str, alias: str, number: int, *, actor: str, reason: str, why: str) -> None:
        """Keep in the history that somebody tried, and why it was refused."""
        with self._db.transaction() as records:
            self._put(records, model, alias, number, actor, reason, why, self._clock.micros(), ())

    @staticmethod
    def _put(records: sqlite3.Connection, *given: Any) -> None:
        *row, evidence = given
        records.execute(
            """INSERT INTO aliases (model, alias, number, actor, reason, refused, at, evidence)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
            (*row, msgspec.json.encode(evidence).decode() if evidence else None),
        )

    def find(self, model: str, alias: str, by: int | None = None) -> Alias | None:
        """What an alias names, or named at an instant."""
        return _alias(self._db.row(_NEWEST, (model, alias, _EVER if by is None else by)))

    def token(self, model: str, alias: str) -> int:
        """Of the state in force, for ``move``."""
        held = self.find(model, alias)
        return NEVER if held is None else held.token

    def list(self, model: str | None = None, by: int | None = None) -> AliasList:
        """All aliases in force, or of one model, by name; ``by``: those at an instant."""
        rows = self._db.rows(
            """SELECT model, alias, number, id, actor, reason, at FROM aliases WHERE id IN (
                   SELECT max(id) FROM aliases WHERE refused = '' AND at <= ? GROUP BY model, alias)
               AND number IS NOT NULL AND model = coalesce(?, model) ORDER BY model, alias""",
            (_EVER if by is None else by, model),
        )
        return [Alias(*row) for row in rows]

    def history(self, model: str, by: int | None = None) -> Changes:
        """All attempts to move aliases of a model, newest first."""
        rows = self._db.rows(
            """SELECT id AS token, model, alias, number, actor, reason, at, refused, evidence FROM aliases
               WHERE model = ? AND at <= ? ORDER BY id DESC""",
            (model, _EVER if by is None else by),
        )
        return [Change(**{**dict(row), "evidence": msgspec.json.decode(row["evidence"] or "[]")}) for row in rows]


def _alias(row: sqlite3.Row | None) -> Alias | None:
    return None if row is None or row["number"] is None else Alias(*row)


def _living(records: sqlite3.Connection, model: str, number: int) -> bool:
    query = "SELECT 1 FROM versions WHERE model = ? AND number = ? AND deleted IS NULL"
    return records.execute(query, (model, number)).fetchone() is not None
