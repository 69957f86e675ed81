"""Registered versions: numbered per model, frozen. One that is deleted is out of sight; its number stays taken."""

import re
import sqlite3
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Conflict, Damaged, Frozen, NotFound, Usage
from sampan.base.ids import whole
from sampan.models.aliases import Aliases
from sampan.models.labels import Labels
from sampan.models.version import GoldenFile, OnnxFile, Origin, Signature, Version, VersionDraft
from sampan.store.blobs import Blobs
from sampan.store.database import Database

if TYPE_CHECKING:
    from sampan.models.formats import Predictor


_NAME: Final = re.compile(r"\w([\w .\-]{0,248}[\w.\-])?\Z")
_EVER: Final = 2**62
_LIVING: Final = "created <= ?1 AND (deleted IS NULL OR deleted > ?1)"


def check_name(attempted: str, name: str) -> None:
    """Raises Usage for what is no model's name."""
    if not _NAME.match(name):
        raise Usage(attempted, f"{name[:100]!r} is no name", "Use up to 250 letters, digits, spaces, '_', '.' and '-'.")


class Registered(msgspec.Struct, frozen=True):
    """A model that has a name, with or without versions. Times are microseconds."""

    name: str
    actor: str
    created: int
    changed: int


VersionList: TypeAlias = list[Version]
RegisteredList: TypeAlias = list[Registered]


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
        self.aliases = Aliases(db, clock)
        self.labels = Labels(db, clock)

    def register(
        self,
        draft: VersionDraft,
        name: str,
        run: str | None = None,
        key: str | None = None,
        *,
        origin: Origin | None = None,
        actor: str = "",
    ) -> Version:
        """Give a draft the model's next number. The same content again gets the number it has already."""
        check_name("Register a model", name)
        for file, digest in draft.files.items():
            if not self.blobs.has(digest):
                raise NotFound(f"Register {name}", f"its file {file} ({digest[:12]}) is not in the store")
        if draft.golden is not None and not self.blobs.has(draft.golden.digest):
            raise NotFound(f"Register {name}", f"its golden requests ({draft.golden.digest[:12]}) are not in the store")
        if draft.onnx is not None and draft.onnx.digest and not self.blobs.has(draft.onnx.digest):
            raise NotFound(f"Register {name}", f"its ONNX form ({draft.onnx.digest[:12]}) is not in the store")
        derived = [None if one is None else _text(one) for one in (draft.golden, draft.onnx)]
        with self._db.transaction() as connection:
            row = connection.execute(
                "SELECT * FROM versions WHERE model = ? AND digest = ?", (name, draft.digest)
            ).fetchone()
            if row is None:
                last = connection.execute("SELECT max(number) FROM versions WHERE model = ?", (name,)).fetchone()[0]
                connection.execute(
                    """INSERT INTO versions (model, number, digest, kind, format, files, signature, metrics, run, key,
                       created, origin, actor, golden, onnx) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
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
                        None if origin is None else _text(origin),
                        actor,
                        *derived,
                    ),
                )
            elif row["deleted"] is not None:
                connection.execute(  # clean-up may have taken the derived files that it had
                    "UPDATE versions SET deleted = NULL, golden = ?, onnx = ? WHERE model = ? AND number = ?",
                    (*derived, name, row["number"]),
                )
            row = connection.execute(
                "SELECT * FROM versions WHERE model = ? AND digest = ?", (name, draft.digest)
            ).fetchone()
        return _version(row)

    def get(self, ref: str) -> Version:
        """``reorder@3``, ``reorder@champion`` by an alias, or of ``reorder`` the version on main; the newest, where
        main has none. Raises NotFound."""
        name, at, said = ref.partition("@")
        number = whole(said) if at else self._published().get(name)
        if at and number is None:
            alias = self.aliases.find(name, said)
            if alias is None:
                known = ", ".join(one.alias for one in self.aliases.list(name))
                raise NotFound(
                    f"Find the version {ref!r}",
                    f"{said!r} is neither a version number nor an alias of {name}",
                    f"Write MODEL@NUMBER{', or one of its aliases: ' + known if known else ''}.",
                )
            number = alias.number
        found = self._select(f"{_LIVING} AND model = ?2 AND number = coalesce(?3, number)", name, number, limit=1)
        if not found:
            raise NotFound(f"Find the version {ref!r}", *self._there(name))
        return found[0]

    def _there(self, name: str) -> tuple[str, str]:
        """What stands in the way of one who asks for a version that is not there, and what there is."""
        if versions := self.list(name):
            newest = versions[0].number
            return "there is none of that number", f"The newest of {name} is {name}@{newest}."
        names = sorted({version.model for version in self.list()})
        advice = f"Known models: {', '.join(names)}." if names else "A model step registers one: `sampan run`."
        return "there is none", advice

    def list(self, model: str | None = None, by: int | None = None) -> VersionList:
        """All versions, or those of one model, newest first; ``by``: those that there were at an instant."""
        found = self._select(f"{_LIVING} AND model = coalesce(?2, model)", model, by=by)
        return found if model is not None else sorted(found, key=lambda one: one.created, reverse=True)

    def _select(self, which: str, *given: Any, by: int | None = None, limit: int = -1) -> VersionList:
        query = f"SELECT * FROM versions WHERE {which} ORDER BY model, number DESC LIMIT {limit}"
        return [_version(row) for row in self._db.rows(query, (_EVER if by is None else by, *given))]

    # -- models as people see them: with a name, whether or not they have versions

    def create(self, name: str, *, actor: str) -> Registered:
        """Give a model a name before it has versions. Raises Usage, Conflict for one that there is."""
        attempted = f"Create the registered model {name[:100]!r}"
        check_name(attempted, name)
        if any(one.name == name for one in self.registered()):
            raise Conflict(attempted, f"Registered Model (name={name}) already exists", "Register versions of it.")
        with self._db.transaction() as records:
            records.execute(
                """INSERT INTO models (name, actor, created) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE
                   SET actor = excluded.actor, created = excluded.created, deleted = NULL""",
                (name, actor, self._clock.micros()),
            )
        return self.find(name)

    def find(self, name: str) -> Registered:
        """Raises NotFound."""
        for one in self.registered():
            if one.name == name:
                return one
        raise NotFound(f"Find the registered model {name[:100]!r}", f"Registered Model with name={name} not found")

    def registered(self, by: int | None = None) -> RegisteredList:
        """All models, by name; ``by``: those that there were at an instant."""
        rows = self._db.rows(
            f"""SELECT name, min(actor), min(at), max(changed) FROM (
                    SELECT name, actor, created AS at, created AS changed FROM models WHERE {_LIVING}
                    UNION ALL SELECT model, coalesce(actor, ''), created, created FROM versions WHERE {_LIVING})
                GROUP BY name ORDER BY name""",
            (_EVER if by is None else by,),
        )
        return [Registered(*row) for row in rows]

    def delete(self, ref: str, in_use: Callable[[Version], str]) -> Version:
        """Put a version that people registered out of sight; gc takes its files. ``in_use`` says what needs it, if
        anything does. Raises NotFound, Frozen for one that an alias names, that is in use, or that the flow derived."""
        version = self.get(ref)
        aliases = [one.alias for one in self.aliases.list(version.model) if one.number == version.number]
        needed = f"the alias {aliases[0]} names it" if aliases else in_use(version)
        if version.run is not None:
            needed = needed or f"run {version.run} of the flow made it"
        if needed:
            raise Frozen(f"Delete {version.ref}", needed, "Take it out of use first; what the flow made stays.")
        with self._db.transaction() as records:
            records.execute(
                "UPDATE versions SET deleted = ? WHERE model = ? AND number = ?",
                (self._clock.micros(), version.model, version.number),
            )
        return version

    def delete_model(self, name: str, in_use: Callable[[Version], str]) -> None:
        """Delete a model with all of its versions, or nothing of it. Raises what ``delete`` raises."""
        self.find(name)
        versions = self.list(name)
        with self._db.transaction() as records:
            for version in versions:
                self.delete(version.ref, in_use)
            records.execute("UPDATE models SET deleted = ? WHERE name = ?", (self._clock.micros(), name))

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
            origin=msgspec.json.decode(row["origin"], type=Origin) if row["origin"] else None,
            actor=row["actor"] or "",
            golden=msgspec.json.decode(row["golden"], type=GoldenFile) if row["golden"] else None,
            onnx=msgspec.json.decode(row["onnx"], type=OnnxFile) if row["onnx"] else None,
        )
    except msgspec.DecodeError as error:
        raise Damaged(
            f"Read the version {row['model']}@{row['number']}",
            f"its record does not parse: {error}",
            "Restore a backup.",
        ) from error
