"""Keys of subjects. A personal value is encrypted with its subject's key before it is framed; when the key is
destroyed, the value is gone and the chain stays whole.

The encryption is deterministic (AES-SIV, with source, id and field as associated data): the same event sent twice
gives the same bytes, and equal values in different events do not.
"""

import base64
import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.errors import DiskFull, SampanError
from sampan.base.files import sync_folder

if TYPE_CHECKING:
    from sampan.log.contracts import Contract

SEALED: Final = "$sealed"  # an encrypted value stands in the data as {"$sealed": "<base64>"}
_ENCODE: Final = msgspec.json.Encoder().encode


class SubjectKeys:
    """One key per subject, in a database of its own (``.sampan/keys.db``), which must not be in a backup for ever."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._keys: dict[str, bytes | None] = {}
        self._fresh: dict[str, bytes] = {}
        self._connection: sqlite3.Connection | None = None

    def _open(self, *, make: bool) -> sqlite3.Connection | None:
        if self._connection is None and (make or self.path.exists()):
            made = not self.path.exists()
            if made:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=10)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("CREATE TABLE IF NOT EXISTS keys (subject TEXT PRIMARY KEY, key BLOB NOT NULL)")
            connection.execute("CREATE TABLE IF NOT EXISTS destroyed (subject TEXT NOT NULL)")
            if made:
                sync_folder(self.path.parent)
            self._connection = connection
        return self._connection

    def get(self, subject: str) -> bytes | None:
        """The key of a subject; None if there never was one or it was destroyed."""
        with self._lock:
            if subject in self._keys:
                return self._keys[subject]
            key = self._read(subject)
            self._keys[subject] = key
            return key

    def _read(self, subject: str) -> bytes | None:
        connection = self._open(make=False)
        if connection is None:
            return None
        row = connection.execute("SELECT key FROM keys WHERE subject = ?", (subject,)).fetchone()
        return row[0] if row else None

    def make(self, subject: str) -> bytes:
        """The key of a subject, a new one if need be. It is durable after the next ``flush``."""
        with self._lock:
            key = self._keys.get(subject) or self._read(subject)
            if key is None:
                key = os.urandom(32)
                self._fresh[subject] = key
            self._keys[subject] = key
            return key

    def flush(self) -> None:
        """Make new keys durable; called before the events that need them are. Raises DiskFull."""
        if not self._fresh:
            return
        with self._lock:
            fresh = dict(self._fresh)
            try:
                connection = self._open(make=True)
                assert connection is not None
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT OR REPLACE INTO keys VALUES (?, ?)", fresh.items())
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if getattr(error, "sqlite_errorname", "").startswith("SQLITE_FULL"):
                    raise DiskFull("Keep a subject's key", "the disk is full", "Free some space.") from error
                raise SampanError("Keep a subject's key", f"{self.path}: {error}") from error
            for subject in fresh:
                self._fresh.pop(subject, None)

    def destroy(self, subject: str) -> bool:
        """Forget a subject's key durably; whatever it encrypted cannot be read again. Whether there was one."""
        with self._lock:
            self._fresh.pop(subject, None)
            self._keys.pop(subject, None)
            connection = self._open(make=False)
            if connection is None:
                return False
            connection.execute("PRAGMA secure_delete=ON")
            connection.execute("BEGIN IMMEDIATE")
            gone = connection.execute("DELETE FROM keys WHERE subject = ?", (subject,)).rowcount > 0
            if gone:
                connection.execute("INSERT INTO destroyed VALUES (?)", (subject,))
            connection.execute("COMMIT")
            return gone

    def destroyed(self) -> int:
        """How many keys have been destroyed: part of the state of any table that shows personal values."""
        with self._lock:
            connection = self._open(make=False)
            if connection is None:
                return 0
            count: int = connection.execute("SELECT count(*) FROM destroyed").fetchone()[0]
            return count

    def copy_to(self, path: Path) -> bool:
        """A copy of all keys in a file that only its owner reads; whether there are any."""
        if not self.path.exists():
            return False
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        source = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)
        copy = sqlite3.connect(path)
        try:
            source.backup(copy)
        finally:
            copy.close()
            source.close()
        return True

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            self._keys.clear()


def seal_bytes(keys: SubjectKeys, subject: str, raw: bytes) -> bytes:
    """Bytes for quarantine that may hold somebody's personal values."""
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(keys.make(subject)).encrypt(raw, [b"quarantine"])


def open_bytes(keys: SubjectKeys, subject: str, raw: bytes) -> bytes | None:
    """What ``seal_bytes`` was given; None once the key is gone."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    key = keys.get(subject)
    if key is None:
        return None
    try:
        return AESSIV(key).decrypt(raw, [b"quarantine"])
    except InvalidTag:
        return None


class Sealer:
    """Encrypts the personal fields of one contract's events, and opens them again."""

    def __init__(self, contract: "Contract", keys: SubjectKeys) -> None:
        self.fields = contract.personal
        self.subject_field = contract.subject_field
        self.keys = keys

    def subject(self, event: dict[str, Any]) -> str:
        """Whom an event is about: its subject, else the field that the contract names, else its own id."""
        data = event.get("data") or {}
        said = event.get("subject") or (data.get(self.subject_field) if self.subject_field else None)
        return str(said) if said is not None else f"event:{event['source']}:{event['id']}"

    def seal(self, raw: bytes) -> bytes:
        """The event's JSON with its personal values encrypted."""
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        event = msgspec.json.decode(raw)
        data = event["data"]
        present = [name for name in self.fields if data.get(name) is not None]
        if not present:
            return raw
        cipher = AESSIV(self.keys.make(self.subject(event)))
        for name in present:
            about = [str(event["source"]).encode(), str(event["id"]).encode(), name.encode()]
            data[name] = {SEALED: base64.b64encode(cipher.encrypt(_ENCODE(data[name]), about)).decode()}
        return _ENCODE(event)

    def open(self, event: dict[str, Any]) -> dict[str, Any]:
        """The event with its personal values readable; None where the subject's key is gone."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        data = event["data"]
        sealed = [name for name in self.fields if isinstance(data.get(name), dict) and SEALED in data[name]]
        if not sealed:
            return event
        data = dict(data)
        key = self.keys.get(self.subject(event))
        for name in sealed:
            value = None
            if key is not None:
                about = [str(event["source"]).encode(), str(event["id"]).encode(), name.encode()]
                try:
                    value = msgspec.json.decode(AESSIV(key).decrypt(base64.b64decode(data[name][SEALED]), about))
                except InvalidTag:
                    value = None
            data[name] = value
        return event | {"data": data}
