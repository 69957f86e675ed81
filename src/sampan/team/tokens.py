"""Access tokens: ``smp_`` + 32 random characters + 6 of checksum. Only their SHA-256 is kept.

The form follows GitHub's: a prefix and a checksum let scanners find leaked tokens without asking anybody. The
random part has 190 bits, so a slow hash would protect nothing.
"""

import builtins
import hashlib
import os
import secrets
import zlib
from pathlib import Path
from typing import Final

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Conflict, NotFound, Usage
from sampan.base.files import write_durably
from sampan.base.ids import is_name, new_id
from sampan.store.database import Database
from sampan.team.roles import ROLES, Principal

_PREFIX: Final = "smp_"
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RANDOM, _CHECK = 32, 6
DAY: Final = 86_400_000_000  # microseconds
LONGEST: Final = 365
_DEAD: Final = 1_000


class Token(msgspec.Struct, frozen=True):
    """A token as it is listed: everything but the secret."""

    id: str
    name: str
    role: str
    created: int
    expires: int
    revoked: int | None = None

    def state(self, at: int) -> str:
        """living, expired or revoked, at an instant."""
        if self.revoked is not None and self.revoked <= at:
            return "revoked"
        return "living" if self.expires > at else "expired"


class Pass(msgspec.Struct, frozen=True):
    """A token as it is told to a process that has no records: by the digest of its secret."""

    digest: str
    token: Token


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def mint() -> str:
    """A fresh secret."""
    random = "".join(secrets.choice(_ALPHABET) for _ in range(_RANDOM))
    return _PREFIX + random + _base62(zlib.crc32(random.encode()), _CHECK)


def well_formed(secret: str) -> bool:
    """Whether a text can be a token at all: prefix, length, alphabet, checksum."""
    random = secret[len(_PREFIX) : len(_PREFIX) + _RANDOM]
    return (
        secret.startswith(_PREFIX)
        and len(secret) == len(_PREFIX) + _RANDOM + _CHECK
        and set(random) <= set(_ALPHABET)
        and secret[-_CHECK:] == _base62(zlib.crc32(random.encode()), _CHECK)
    )


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def owner_token(path: Path) -> str:
    """The workspace's own admin token, made on first use in a file that only its owner can read."""
    try:
        secret = path.read_text("utf-8").strip()
    except FileNotFoundError:
        secret = mint()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, (secret + "\n").encode(), 0o600)
        return secret
    if path.stat().st_mode & 0o077:
        os.chmod(path, 0o600)  # noqa: PTH101 - others could read it: take that back
    if not well_formed(secret):
        raise Usage("Read the admin token", f"{path} does not hold a token", "Delete the file; `sampan up` makes one.")
    return secret


class Tokens:
    """The workspace's tokens. Needs the writable database to create or revoke."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock

    def create(self, name: str, role: str, days: int = 90) -> tuple[Token, str]:
        """Make a token; the secret is returned once and never shown again."""
        if role not in ROLES:
            raise Usage("Create a token", f"unknown role {role!r}", f"Roles: {', '.join(ROLES)}.")
        if not is_name(name):
            raise Usage(
                "Create a token", f"{name!r} is no name", "Use letters, digits, _ and -, beginning with a letter."
            )
        if not 1 <= days <= LONGEST:
            raise Usage("Create a token", f"{days} days", f"A token lives between 1 and {LONGEST} days.")
        now = self._clock.micros()
        if any(token.name == name and token.revoked is None and token.expires > now for token in self.list()):
            raise Conflict(
                "Create a token", f"there is one named {name!r}", f"Revoke it: `sampan token revoke {name}`."
            )
        secret = mint()
        token = Token(new_id(self._clock), name, role, now, now + days * DAY)
        with self._db.transaction() as connection:
            connection.execute(
                "INSERT INTO tokens (id, name, hash, role, created, expires) VALUES (?, ?, ?, ?, ?, ?)",
                (token.id, token.name, hash_of(secret), token.role, token.created, token.expires),
            )
        return token, secret

    def list(self, by: int | None = None) -> list[Token]:
        """All tokens, newest first; ``by``: those that there were at that instant, as they were."""
        rows = self._db.rows("SELECT id, name, role, created, expires, revoked FROM tokens ORDER BY created DESC")
        found = [Token(**dict(row)) for row in rows]
        if by is None:
            return found
        return [
            token if token.state(by) == "revoked" else msgspec.structs.replace(token, revoked=None)
            for token in found
            if token.created <= by
        ]

    def passes(self) -> builtins.list[Pass]:
        """All tokens that live, and the newest that do not, whose senders hear what became of them."""
        columns = "hash, id, name, role, created, expires, revoked"
        dead = "revoked IS NOT NULL OR expires <= ?"
        now = self._clock.micros()
        rows = [
            *self._db.rows(f"SELECT {columns} FROM tokens WHERE NOT ({dead})", (now,)),
            *self._db.rows(f"SELECT {columns} FROM tokens WHERE {dead} ORDER BY created DESC LIMIT ?", (now, _DEAD)),
        ]
        return [Pass(digest, Token(*rest)) for digest, *rest in rows]

    def revoke(self, name: str) -> Token:
        """Take a token back, by name or id, and end the sessions that it opened."""
        now = self._clock.micros()
        for token in self.list():
            if name in (token.id, token.name) and token.revoked is None:
                with self._db.transaction() as connection:
                    connection.execute("UPDATE tokens SET revoked = ? WHERE id = ?", (now, token.id))
                    connection.execute("DELETE FROM sessions WHERE token = ?", (token.id,))
                return msgspec.structs.replace(token, revoked=now)
        raise NotFound("Revoke a token", f"no living token {name!r}", "`sampan token list` shows them.")

    def dead(self, secret: str) -> Token | None:
        """The token of this secret if it is expired or revoked; None for one that lives or that nobody made."""
        if not well_formed(secret):
            return None
        columns = "id, name, role, created, expires, revoked"
        row = self._db.row(f"SELECT {columns} FROM tokens WHERE hash = ?", (hash_of(secret),))
        token = Token(**dict(row)) if row else None
        return token if token and token.state(self._clock.micros()) != "living" else None

    def find(self, secret: str) -> tuple[Principal, int] | None:
        """Whose secret this is and when it expires, or None if it is unknown, revoked or expired."""
        if not well_formed(secret):
            return None
        row = self._db.row(
            "SELECT id, name, role, expires FROM tokens WHERE hash = ? AND revoked IS NULL AND expires > ?",
            (hash_of(secret), self._clock.micros()),
        )
        return (Principal(row["name"], row["role"], row["id"]), row["expires"]) if row else None
