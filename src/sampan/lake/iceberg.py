"""A table's metadata as Apache Iceberg has it (format version 2), in a folder and without a catalog.

The layout is that of Iceberg's tables in a file system: ``metadata/vN.metadata.json`` is one whole state of the table,
``version-hint.text`` names the newest N. Manifests come first, then the metadata under its own name, then the hint: a
reader sees the table before or after, and a kill in between leaves files that the next publication names or removes.
PyIceberg writes the Avro files and checks the metadata; docs/decisions/table-publish.md says why not more of it.
"""

import os
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sampan.base.errors import Damaged, Usage
from sampan.base.files import make_folder, sync, sync_folder, write_durably
from sampan.lake.open_types import Column, Shape

if TYPE_CHECKING:
    from pyiceberg.manifest import ManifestEntry
    from pyiceberg.schema import Schema
    from pyiceberg.table.metadata import TableMetadataV2
    from pyiceberg.table.name_mapping import MappedField
    from pyiceberg.types import IcebergType

_METADATA: Final = re.compile(r"v(\d+)\.metadata\.json")
_AVRO: Final = re.compile(r"(snap-)?(?P<id>\d+)(?(1)|-m0)\.avro")
_UNFINISHED: Final = re.compile(r"\.(v\d+\.metadata\.json|version-hint\.text)(\.\d+){2}\.tmp")
_HINT: Final = "version-hint.text"
_VERSIONS: Final = 10  # metadata files that stay, the newest one with them
_WIDER: Final = {("int", "long"), ("float", "double")}
_PATHS: Final = "schema.name-mapping.default"

Paths = dict[tuple[str, ...], int]


class DataFile(NamedTuple):
    """A Parquet file, wherever it lies."""

    path: Path
    rows: int
    bytes: int


def written(folder: Path) -> list[Path]:
    """The files below ``folder`` whose names are those that a table's metadata has here, also where it is damaged."""
    return [
        path
        for path in sorted((folder / "metadata").glob("*"))
        if path.name == _HINT or any(names.fullmatch(path.name) for names in (_METADATA, _AVRO, _UNFINISHED))
    ]


class IcebergTable:
    """The Iceberg table in ``folder``, which need not be there yet. Raises Usage without PyIceberg, Damaged."""

    def __init__(self, folder: Path) -> None:
        try:
            import pyiceberg  # noqa: F401
        except ModuleNotFoundError:
            advice = "pip install 'sampan[iceberg]'"
            raise Usage("Publish as Iceberg", "PyIceberg is not installed", advice) from None
        self.folder, self._at = folder, folder / "metadata"
        versions = self._versions()
        self.version = versions[-1] if versions else 0
        self._now = self._read(self.version) if versions else None

    @property
    def location(self) -> str:
        """Where the table says that it lies; empty if there is none."""
        return self._now.location if self._now is not None else ""

    @property
    def properties(self) -> Mapping[str, str]:
        return self._now.properties if self._now is not None else {}

    @property
    def metadata_file(self) -> Path:
        """The newest metadata, for readers that want a file."""
        return self._at / f"v{self.version}.metadata.json"

    @property
    def snapshots(self) -> int:
        """How many snapshots the newest metadata names."""
        return len(self._now.snapshots) if self._now is not None else 0

    def current(self) -> Mapping[str, str]:
        """The notes of the current snapshot; empty if there is none."""
        found = self._now.current_snapshot() if self._now is not None else None
        return _notes(found)

    def files(self) -> set[Path]:
        """The data files of the current snapshot."""
        return {Path(entry.data_file.file_path) for entry in self._entries()}

    def settle(self) -> None:
        """Let the hint name the newest metadata, should a kill have come between the two."""
        hint = str(self.version).encode()
        if not (self._at / _HINT).exists() or (self._at / _HINT).read_bytes() != hint:
            write_durably(self._at / _HINT, hint)

    def commit(
        self,
        columns: Sequence[Column],
        files: Sequence[DataFile],
        *,
        notes: Mapping[str, str],
        properties: Mapping[str, str],
        now: int,
        since: int,
    ) -> int:
        """Make ``files`` the table's content by a new snapshot; gives how many snapshots had to leave its history.

        ``now`` and ``since`` in milliseconds: snapshots before ``since`` leave it for their age. Those leave it, too,
        in which a name means another column than now, since readers find columns of these files by name.
        """
        from pyiceberg.table.metadata import TableMetadataV2

        make_folder(self._at)
        old = self._now
        schema, last_id = self._schema(columns)
        snapshot = self._snapshot(schema, files, notes, now)
        before = [one for one in old.snapshots if one.timestamp_ms >= since] if old is not None else []
        by_id = {one.schema_id: one for one in (*(old.schemas if old is not None else ()), schema)}
        paths, kept = _paths(schema), []
        for one in sorted(before, key=lambda one: -(one.sequence_number or 0)):
            theirs = _paths(by_id[one.schema_id])
            if all(paths.get(path, id) == id for path, id in theirs.items()):
                paths = {**theirs, **paths}
                kept.append(one)
        kept = [*reversed(kept), snapshot]
        there, used = {one.snapshot_id for one in kept}, {one.schema_id for one in kept}
        log = [one for one in (old.snapshot_log if old is not None else ()) if one.snapshot_id in there]
        metadata_log: list[Any] = list(old.metadata_log if old is not None else ())
        if old is not None:
            entry = {"metadata-file": str(self.metadata_file), "timestamp-ms": old.last_updated_ms}
            metadata_log = [*metadata_log, entry][1 - _VERSIONS :]
        values = {**properties, _PATHS: _mapping(paths), "write.metadata.previous-versions-max": str(_VERSIONS - 1)}
        text = {
            "format-version": 2,
            "location": str(self.folder),
            "last-updated-ms": snapshot.timestamp_ms,
            "last-column-id": last_id,
            "schemas": [one for id, one in by_id.items() if id in used],
            "current-schema-id": schema.schema_id,
            "partition-specs": [_unpartitioned()],
            "last-partition-id": 999,
            "sort-orders": [_unsorted()],
            "properties": values,
            "current-snapshot-id": snapshot.snapshot_id,
            "snapshots": kept,
            "snapshot-log": [*log, {"snapshot-id": snapshot.snapshot_id, "timestamp-ms": snapshot.timestamp_ms}],
            "metadata-log": metadata_log,
            "refs": {"main": {"snapshot-id": snapshot.snapshot_id, "type": "branch"}},
            "last-sequence-number": snapshot.sequence_number,
        }
        made = TableMetadataV2.model_validate(text if old is None else {**text, "table-uuid": old.table_uuid})
        self.version += 1
        write_durably(self.metadata_file, made.model_dump_json().encode())
        write_durably(self._at / _HINT, str(self.version).encode())
        self._now = made
        return len(before) + 1 - len(kept)

    def retained(self) -> Iterator[Mapping[str, str]]:
        """The notes of each snapshot that a metadata file names which stays."""
        for version in self._versions()[-_VERSIONS:]:
            for one in self._read(version).snapshots:
                yield _notes(one)

    def sweep(self) -> None:
        """Remove the metadata files that are too old to stay, and what only they named."""
        versions = self._versions()
        for version in versions[:-_VERSIONS]:
            (self._at / f"v{version}.metadata.json").unlink()
        ids = {one.snapshot_id for version in versions[-_VERSIONS:] for one in self._read(version).snapshots}
        for path in self._at.glob("*.avro"):
            match = _AVRO.fullmatch(path.name)
            if match and int(match["id"]) not in ids:
                path.unlink()

    # -- reading

    def _versions(self) -> list[int]:
        try:
            names = [path.name for path in self._at.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(int(match[1]) for name in names if (match := _METADATA.fullmatch(name)))

    def _read(self, version: int) -> "TableMetadataV2":
        from pydantic import ValidationError
        from pyiceberg.table.metadata import TableMetadataV2

        path = self._at / f"v{version}.metadata.json"
        try:
            return TableMetadataV2.model_validate_json(path.read_bytes())
        except (ValidationError, OSError) as error:
            raise self._damaged(path, str(error).splitlines()[0]) from error

    def _entries(self) -> "list[ManifestEntry]":
        from pyiceberg.io.pyarrow import PyArrowFileIO

        current = self._now.current_snapshot() if self._now is not None else None
        if current is None:
            return []
        io = PyArrowFileIO()
        try:
            return [entry for one in current.manifests(io) for entry in one.fetch_manifest_entry(io)]
        except (OSError, ValueError) as error:
            raise self._damaged(Path(current.manifest_list), str(error).splitlines()[0]) from error

    def _damaged(self, path: Path, obstacle: str) -> Damaged:
        advice = "`sampan table unpublish` removes what was published; publish it again, then its history begins anew."
        return Damaged(f"Read {path}", obstacle, advice)

    # -- writing

    def _schema(self, columns: Sequence[Column]) -> "tuple[Schema, int]":
        """The columns with ids: those of the current schema by name, else new ones; and the highest id ever given."""
        from pyiceberg.schema import Schema
        from pyiceberg.types import StructType

        old = self._now
        ids = _Ids(old.last_column_id if old is not None else 0)
        shape = Shape("struct", "", tuple((one.name, one.shape) for one in columns))
        before = old.schema().as_struct() if old is not None else None
        struct = _evolved(shape, before, ids)
        assert isinstance(struct, StructType)
        known = old.schemas if old is not None else []
        for one in known:
            if one.as_struct() == struct:
                return one, ids.last
        number = max((one.schema_id for one in known), default=-1) + 1
        return Schema(*struct.fields, schema_id=number), ids.last

    def _snapshot(self, schema: "Schema", files: Sequence[DataFile], notes: Mapping[str, str], now: int) -> Any:
        from pyiceberg.io.pyarrow import PyArrowFileIO
        from pyiceberg.manifest import ManifestEntry, ManifestEntryStatus, write_manifest, write_manifest_list
        from pyiceberg.table.snapshots import Snapshot

        old, io = self._now, PyArrowFileIO()
        last = old.current_snapshot() if old is not None else None
        before = self._entries()
        id = old.new_snapshot_id() if old is not None else secrets.randbits(62) + 1
        number = old.next_sequence_number() if old is not None else 1
        listed, manifest = self._at / f"snap-{id}.avro", self._at / f"{id}-m0.avro"
        named = {str(file.path): file for file in files}
        there = {entry.data_file.file_path for entry in before}
        with write_manifest(2, _unpartitioned(), schema, io.new_output(str(manifest)), id, "deflate") as writer:
            for entry in before:
                (writer.existing if entry.data_file.file_path in named else writer.delete)(entry)
            for path, file in named.items():
                if path not in there:
                    status = ManifestEntryStatus.ADDED
                    writer.add_entry(ManifestEntry.from_args(status=status, snapshot_id=id, data_file=_data_file(file)))
        parent = last.snapshot_id if last is not None else None
        with write_manifest_list(2, io.new_output(str(listed)), id, parent, number, "deflate") as lists:
            lists.add_manifests([writer.to_manifest_file()])
        for made in (manifest, listed):
            _sync(made)
        sync_folder(self._at)
        added = [file for path, file in named.items() if path not in there]
        deleted = [entry.data_file for entry in before if entry.data_file.file_path not in named]
        counts = {
            "added-data-files": len(added),
            "added-records": sum(file.rows for file in added),
            "added-files-size": sum(file.bytes for file in added),
            "deleted-data-files": len(deleted),
            "deleted-records": sum(file.record_count for file in deleted),
            "removed-files-size": sum(file.file_size_in_bytes for file in deleted),
            "total-data-files": len(named),
            "total-records": sum(file.rows for file in files),
            "total-files-size": sum(file.bytes for file in files),
        }
        told = {**{name: str(count) for name, count in counts.items()}, **notes}
        return Snapshot.model_validate(
            {
                "snapshot-id": id,
                "parent-snapshot-id": parent,
                "sequence-number": number,
                "timestamp-ms": max(now, old.last_updated_ms + 1) if old is not None else now,
                "manifest-list": str(listed),
                "summary": {"operation": "append" if last is None else "overwrite", **told},
                "schema-id": schema.schema_id,
            }
        )


class _Ids:
    def __init__(self, last: int) -> None:
        self.last = last

    def next(self) -> int:
        self.last += 1
        return self.last


def _evolved(shape: Shape, old: "IcebergType | None", ids: _Ids) -> "IcebergType | None":
    """A type with the ids of the type before it, where it goes on; None where Iceberg lets no type become this one."""
    from pyiceberg.types import ListType, MapType, NestedField, StructType

    if shape.kind == "struct":
        if not isinstance(old, StructType | None):
            return None
        before = {field.name: field for field in old.fields} if old is not None else {}
        fields = []
        for name, part in shape.parts:
            known = before.get(name)
            type_ = _evolved(part, known.field_type, ids) if known is not None else None
            id = known.field_id if known is not None and type_ is not None else ids.next()
            fields.append(NestedField(id, name, type_ or _evolved(part, None, ids), required=False))
        return StructType(*fields)
    parts = dict(shape.parts)
    if shape.kind == "list":
        if not isinstance(old, ListType | None):
            return None
        id = old.element_id if old is not None else ids.next()
        inner = _evolved(parts["element"], old.element_type if old is not None else None, ids)
        return ListType(id, inner, element_required=False) if inner is not None else None
    if shape.kind == "map":
        if not isinstance(old, MapType | None):
            return None
        key_id, value_id = (old.key_id, old.value_id) if old is not None else (ids.next(), ids.next())
        key = _evolved(parts["key"], old.key_type if old is not None else None, ids)
        value = _evolved(parts["value"], old.value_type if old is not None else None, ids)
        same = key is not None and value is not None and (old is None or key == old.key_type)
        return MapType(key_id, key, value_id, value, value_required=False) if same else None
    return _primitive(shape.kind, old)


def _primitive(kind: str, old: "IcebergType | None") -> "IcebergType | None":
    from pydantic import TypeAdapter
    from pyiceberg.types import DecimalType, NestedField

    made: IcebergType = (
        TypeAdapter(NestedField).validate_python({"id": 1, "name": "it", "type": kind, "required": False}).field_type
    )
    if old is None or old == made or (str(old), kind) in _WIDER:
        return made
    if isinstance(old, DecimalType) and isinstance(made, DecimalType):
        return made if old.scale == made.scale and old.precision <= made.precision else None
    return None


def _paths(schema: "Schema") -> Paths:
    """Field ids by where the fields lie, as a file without ids names them."""
    found: Paths = {}

    def walk(fields: "Sequence[MappedField]", above: tuple[str, ...]) -> None:
        for field in fields:
            path = (*above, field.names[0])
            found[path] = field.field_id or 0
            walk(field.fields, path)

    walk(schema.name_mapping.root, ())
    return found


def _mapping(paths: Paths) -> str:
    """The name mapping of fields by where they lie."""
    from pyiceberg.table.name_mapping import MappedField, NameMapping

    def below(above: tuple[str, ...]) -> "list[MappedField]":
        return [
            MappedField.model_validate({"field-id": id, "names": [path[-1]], "fields": below(path)})
            for path, id in paths.items()
            if path[:-1] == above
        ]

    return NameMapping(below(())).model_dump_json()


def _data_file(file: DataFile) -> Any:
    """A file's entry. Without bounds of columns: it is read whole or by the Parquet file's own statistics."""
    from pyiceberg.manifest import DataFile as Entry
    from pyiceberg.manifest import DataFileContent, FileFormat
    from pyiceberg.typedef import Record

    made = Entry.from_args(
        content=DataFileContent.DATA,
        file_path=str(file.path),
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=file.rows,
        file_size_in_bytes=file.bytes,
        split_offsets=_groups(file.path),
    )
    made.spec_id = 0
    return made


def _groups(path: Path) -> list[int] | None:
    """Where the row groups of a file begin, so that several readers may share it."""
    import pyarrow.parquet as pq

    found = pq.read_metadata(path)
    firsts = [found.row_group(number).column(0) for number in range(found.num_row_groups)] if found.num_columns else []
    offsets = [min(first.dictionary_page_offset or first.data_page_offset, first.data_page_offset) for first in firsts]
    return offsets or None


def _notes(snapshot: Any) -> Mapping[str, str]:
    return dict(snapshot.summary.additional_properties) if snapshot is not None and snapshot.summary else {}


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        sync(fd)
    finally:
        os.close(fd)


def _unpartitioned() -> Any:
    from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC

    return UNPARTITIONED_PARTITION_SPEC


def _unsorted() -> Any:
    from pyiceberg.table.sorting import UNSORTED_SORT_ORDER

    return UNSORTED_SORT_ORDER
