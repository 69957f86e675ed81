"""Registered versions: numbered per model, frozen, never changed or removed."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Damaged, NotFound, Usage
from sampan.base.ids import is_name
from sampan.models.version import Signature, Version, VersionDraft
from sampan.store.blobs import Blobs
from sampan.store.database import Database

if TYPE_CHECKING:
    from sampan.models.formats import Predictor


class _Stored(msgspec.Struct, frozen=True):
    """The signature column: what the digest covers, and what the version was made with."""

    signature: Signature
    made_with: dict[str, str]


class Models:
    """The versions of a workspace. Writing needs the records' lock; reading does not."""

    def __init__(
        self, db: Database, blobs: Blobs, clock: Clock, published: Callable[[], Mapping[str, int]] = dict
    ) -> None:
        """``published`` gives the version of each model on main."""
        self._db = db
        self.blobs = blobs
        self._clock = clock
        self._published = published

    def register(self, draft: VersionDraft, name: str, run: str | None = None, key: str | None = None) -> Version:
        """Give a draft the model's next number. The same content again gets the number it has already."""
        if not is_name(name):
            raise Usage("Register a model", f"{name!r} is no name", "Use letters, digits, _ and -.")
        for file, digest in draft.files.items():
            if not self.blobs.has(digest):
                raise NotFound(f"Register {name}", f"its file {file} ({digest[:12]}) is not in the store")
        with self._db.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM versions WHERE model = ? AND digest = ?", (name, draft.digest)
            ).fetchone()
            if row is None:
                last = connection.execute("SELECT max(number) FROM versions WHERE model = ?", (name,)).fetchone()[0]
                connection.execute(
                    "INSERT INTO versions (model, number, digest, kind, format, files, signature, metrics, run, key,"
                    " created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        name,
                        (last or 0) + 1,
                        draft.digest,
                        draft.kind,
                        draft.format,
                        _text(draft.files),
                        _text(_Stored(draft.signature, draft.made_with)),
                        _text(draft.metrics),
                        run,
                        key,
                        self._clock.micros(),
                    ),
                )
                row = connection.execute(
                    "SELECT * FROM versions WHERE model = ? AND digest = ?", (name, draft.digest)
                ).fetchone()
        return _version(row)

    def get(self, ref: str) -> Version:
        """``reorder@3``, or of ``reorder`` the version on main; the newest, where main has none. Raises NotFound."""
        name, at, number = ref.partition("@")
        if not at and name in (published := self._published()):
            at, number = "@", str(published[name])
        if at and not number.isdecimal():
            raise NotFound(f"Find the version {ref!r}", f"{number!r} is not a version number", "Write MODEL@NUMBER.")
        sql, parameters = "SELECT * FROM versions WHERE model = ?", [name]
        if at:
            sql, parameters = sql + " AND number = ?", [name, number]
        row = self._db.row(sql + " ORDER BY number DESC LIMIT 1", parameters)
        if row is None:
            known = sorted({version.model for version in self.list()})
            raise NotFound(
                f"Find the version {ref!r}",
                "there is none",
                f"Known models: {', '.join(known)}." if known else "A model step registers one: `sampan run`.",
            )
        return _version(row)

    def list(self, model: str | None = None) -> "list[Version]":
        """All versions, or those of one model, newest first."""
        if model is None:
            rows = self._db.rows("SELECT * FROM versions ORDER BY created DESC, model, number DESC")
        else:
            rows = self._db.rows("SELECT * FROM versions WHERE model = ? ORDER BY number DESC", (model,))
        return [_version(row) for row in rows]

    def load(self, ref: str) -> "Predictor":
        """A predictor of a registered version, its files checked. For notebooks and commands; the hub does not."""
        from sampan.models.formats import load

        return load(self.get(ref), self.blobs)


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _version(row: sqlite3.Row) -> Version:
    try:
        stored = msgspec.json.decode(row["signature"], type=_Stored)
        return Version(
            model=row["model"],
            number=row["number"],
            digest=row["digest"],
            kind=row["kind"],
            format=row["format"],
            files=msgspec.json.decode(row["files"]),
            signature=stored.signature,
            metrics=msgspec.json.decode(row["metrics"]),
            made_with=stored.made_with,
            run=row["run"],
            key=row["key"],
            created=row["created"],
        )
    except msgspec.DecodeError as error:
        raise Damaged(
            f"Read the version {row['model']}@{row['number']}",
            f"its record does not parse: {error}",
            "Restore a backup.",
        ) from error
