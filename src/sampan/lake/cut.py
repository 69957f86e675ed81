"""The rows of a query cut into partitions: files of one stretch of time each, with the sums of their rows.

Whole, by stretches that read no more than the declaration allows, or to be held against files that are there.
"""

import os
import random
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from sampan.base.errors import BadQuery, Damaged
from sampan.base.files import make_folder
from sampan.lake.draft import TableDraft, TableFile
from sampan.lake.partition import Increment, Stretch, Unequal
from sampan.lake.query import Source, open_sources, quote_name, quote_text
from sampan.lake.write import OPTIONS, explain, fields_of, prepare, rewrite, settle, temporary_path
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    import duckdb

    from sampan.lake.digest import TableDigest

EVENT_TIME: Final = "_time"
_LABEL: Final = "__partition"
_LABELS: Final = re.compile(r"\d{4}-\d\d-\d\d(T\d\d)?")
_TIMES: Final = ("DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE")
_SHOWN: Final = 5  # rows of a difference
_TRIED: Final = 2  # partitions built both ways whenever a table is built whole
_MOST: Final = 10_000
_SYNCED: Final = 8
_REPORT: Final = "Please report it with the query; leaving the line `-- incremental:` out builds the table whole."


class Builder:
    """Builds the partitions of one table, whole or by stretches of time."""

    def __init__(
        self,
        sql: str,
        sources: dict[str, Source],
        out_dir: Path,
        increment: Increment,
        *,
        threads: int = 0,
        memory: int = 0,
        name: str = "query",
    ) -> None:
        self._sql, self._sources, self._out, self._name = sql, sources, out_dir, name
        self._increment, self._how = increment, increment.how
        self._threads = threads or os.cpu_count() or 1
        self._memory = memory
        self.fields: tuple[tuple[str, str], ...] = ()

    def whole(self) -> TableDraft:
        """All of it, by the query as it is written."""
        with self._opened() as (connection, folder):
            files, flags = self._write(connection, folder)
            return self.draft(files or [self._empty(connection, folder)], flags)

    def stretches(self, stretches: Sequence[Stretch], *, keep: bool = True) -> tuple[list[TableFile], tuple[str, ...]]:
        """Stretches of it, each from what the declaration says that its rows are made of."""
        files: list[TableFile] = []
        flags: tuple[str, ...] = ()
        with self._opened() as (connection, folder):
            for stretch in stretches:
                self._narrow(connection, self._how.read(stretch))
                which = _within(quote_name(self._how.column), stretch)
                fresh, flags = self._write(connection, folder, which, keep=keep)
                files += fresh
        return files, flags

    def compare(
        self, kept: Sequence[TableFile], count: int = 0, seed: int = 0
    ) -> tuple[tuple[str, ...], list[Unequal]]:
        """``count`` partitions (0: all) of those that the table has or that the query gives over all that it reads,
        drawn by ``seed``; and those among them that are not the same, to the row, in both."""
        found: list[Unequal] = []
        labels = sorted({file.partition for file in kept if file.partition}.union(self._labels()))
        if 0 < count < len(labels):
            labels = sorted(random.Random(seed).sample(labels, count))  # noqa: S311
        if not labels:
            return (), found
        paths = [Blobs(self._out).path(file.sha256) for file in kept if file.partition in labels]
        with self._opened(paths) as (connection, folder):
            which = f"{{label}} IN ({', '.join(map(quote_text, labels))})"
            plain, _ = self._write(connection, folder, which, keep=False)
            for label in labels:
                if summed(kept, label) == summed(plain, label):
                    continue
                mine = [Blobs(self._out).path(file.sha256) for file in kept if file.partition == label]
                whole = sorted(folder.glob(f"*/{_LABEL}={label}/*.parquet"))
                one, other = (self._rows(connection, a, b) for a, b in ((mine, whole), (whole, mine)))
                found.append(Unequal(label, summed(kept, label)[0], summed(plain, label)[0], one, other))
        return tuple(labels), found

    def _labels(self) -> list[str]:
        """The partitions that the query gives over all that it reads."""
        with self._opened() as (connection, _):
            body, _ = self._body(connection)
            label = self._how.label_of(quote_name(self._how.column))
            rows = connection.execute(f"SELECT DISTINCT {label} FROM (\n{body}\n) AS it").fetchall()
        return self._checked([row[0] for row in rows])

    def _rows(
        self, connection: "duckdb.DuckDBPyConnection", of: Sequence[Path], beside: Sequence[Path]
    ) -> tuple[str, ...]:
        """A few rows that are in some files and not in others."""
        if not of:
            return ()
        one, other = (
            f"SELECT * FROM read_parquet([{', '.join(quote_text(str(path)) for path in paths)}],"
            " hive_partitioning = false)"
            for paths in (of, beside)
        )
        rows = connection.execute(f"{one}{f' EXCEPT ALL {other}' if beside else ''} LIMIT {_SHOWN}").to_arrow_table()
        return tuple(", ".join(f"{name}={value}" for name, value in row.items()) for row in rows.to_pylist())

    def draft(self, files: Iterable[TableFile], flags: tuple[str, ...]) -> TableDraft:
        """The table that files make up."""
        ordered = sorted(files, key=lambda file: (file.partition, file.sha256))
        if not ordered:
            with self._opened() as (connection, folder):
                self._body(connection)
                ordered = [self._empty(connection, folder)]
        import pyarrow.parquet as pq

        from sampan.lake.digest import TableDigest

        digest = TableDigest(pq.read_schema(Blobs(self._out).path(ordered[0].sha256)))
        for file in ordered:
            digest.add(file.rows, file.sums or (0, 0))
        fields = self.fields or (self._increment.base.draft.fields if self._increment.base else ())
        size = sum(file.bytes for file in ordered)
        return TableDraft(digest.text(), fields, tuple(ordered), digest.rows, size, flags)

    def try_out(self, draft: TableDraft) -> None:
        """Raise BadQuery if some partitions come out otherwise when built from what they are declared to be made of.
        The last and one in the middle: the first ones have little before them to look back on."""
        labels = sorted({file.partition for file in draft.files if file.partition})
        for label in dict.fromkeys([*labels[len(labels) // 2 :][:1], *labels[-1:]][:_TRIED]):
            files, _ = self.stretches([self._how.stretch(label)], keep=False)
            there, made = (summed(given, label) for given in (draft.files, files))
            if there != made:
                raise BadQuery(
                    f"Build {self._name}",
                    f"`incremental: {self._how}` does not hold: made of what that says, the {self._how.by} {label} has"
                    f" {made[0]:,} rows, and other ones than the {there[0]:,} that the whole query gives it",
                    "Look farther back (or ahead), or leave the line out and build the table whole.",
                )

    # -- within

    @contextmanager
    def _opened(self, files: Sequence[Path] = ()) -> Iterator[tuple["duckdb.DuckDBPyConnection", Path]]:
        """A connection with all sources whole, and a folder for it to write to."""
        import duckdb

        folder = temporary_path(self._out, "cut")
        make_folder(folder)
        try:
            opened = open_sources(
                self._sources,
                threads=self._threads,
                memory=self._memory,
                files=files,
                folders=[folder],
                spill=folder.parent,
            )
            with closing(opened) as connection:
                yield connection, folder
        except duckdb.Error as error:
            raise explain(f"Build {self._name}", error, self._name) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _narrow(self, connection: "duckdb.DuckDBPyConnection", read: Stretch) -> None:
        """Let the events, and the tables that are built bit by bit, show only a stretch of time."""
        columns = dict.fromkeys(self._increment.events, EVENT_TIME)
        columns.update({name: feed.how.column for name, feed in self._increment.feeds.items()})
        for name, column in columns.items():
            whole = f"__whole_{name}"
            there = connection.execute("SELECT 1 FROM duckdb_views() WHERE view_name = ?", [whole]).fetchone()
            if there is None:
                connection.execute(f"ALTER VIEW {quote_name(name)} RENAME TO {quote_name(whole)}")
            within = _within(quote_name(column), read)
            connection.execute(
                f"CREATE OR REPLACE VIEW {quote_name(name)} AS SELECT * FROM {quote_name(whole)} WHERE {within}"
            )

    def _body(self, connection: "duckdb.DuckDBPyConnection") -> tuple[str, tuple[str, ...]]:
        body, flags = prepare(connection, self._sql, None, self._name)
        fields = fields_of(connection, body)
        types = {name.lower(): type for name, type in fields}
        column = self._how.column
        if _LABEL in types:
            raise BadQuery(f"Build {self._name}", f"a column is called {_LABEL!r}", "Give it another name with AS.")
        if types.get(column.lower(), "") not in _TIMES:
            found = types.get(column.lower())
            raise BadQuery(
                f"Build {self._name}",
                f"`incremental: {self._how}` needs a column {column!r} with a time or a date"
                + (f"; it holds {found}" if found else ", and there is none"),
                f"Name one of {', '.join(name for name, _ in fields)}; cast what is neither TIMESTAMP nor DATE.",
            )
        return body, flags

    def _write(
        self, connection: "duckdb.DuckDBPyConnection", folder: Path, which: str = "", *, keep: bool = True
    ) -> tuple[list[TableFile], tuple[str, ...]]:
        """The rows (``which`` of them: SQL about their time or label) as files, one partition each."""
        body, flags = self._body(connection)
        label = self._how.label_of(quote_name(self._how.column))
        no_time = f"{quote_name(self._how.column)} IS NULL"  # so that these are refused, whatever part is built
        where = f" WHERE {which.replace('{label}', label)} OR {no_time}" if which else ""
        rows = f"SELECT *, {label} AS {quote_name(_LABEL)} FROM (\n{body}\n) AS it{where}"
        home = folder / os.urandom(4).hex()
        copied = connection.execute(
            f"COPY ({rows} ORDER BY {quote_name(_LABEL)}) TO {quote_text(str(home))}"
            f" ({OPTIONS}, PARTITION_BY ({quote_name(_LABEL)}))"
        ).fetchone()
        paths = sorted(home.glob(f"{_LABEL}=*/*.parquet"))
        named = [unquote(path.parent.name.partition("=")[2]) for path in paths]
        self._checked([None if "HIVE_DEFAULT" in label else label for label in named])
        if len(paths) > _MOST:
            raise BadQuery(
                f"Build {self._name}", f"it would be cut into {len(paths):,} files", "Cut it by a longer stretch."
            )
        files = self._files(connection, paths, keep)
        if copied is not None and sum(file.rows for file in files) != copied[0]:  # of a PIVOT it says nothing
            raise Damaged(f"Build {self._name}", f"of {copied[0]} rows some are in no partition", _REPORT)
        return files, flags

    def _checked(self, labels: list[str | None]) -> list[str]:
        """Labels, each of which is one. Raises BadQuery for rows without a time, or with one that no calendar has."""
        column = self._how.column
        if None in labels:
            raise BadQuery(
                f"Build {self._name}",
                f"rows have no {column}, so that they belong to no {self._how.by}",
                "Leave them out in the query, or give them a time.",
            )
        if odd := [label for label in labels if label is not None and not _LABELS.fullmatch(label)]:
            raise BadQuery(
                f"Build {self._name}",
                f"rows have a {column} of {odd[0]}, which is in no year from 1 to 9999",
                "Leave them out in the query, or give them another time.",
            )
        return [label for label in labels if label is not None]

    def _files(self, connection: "duckdb.DuckDBPyConnection", paths: Sequence[Path], keep: bool) -> list[TableFile]:
        """Finished files with the sums of their rows, durable and in the lake if they are to be kept."""
        if not paths:
            return []
        sums = [self._digest(connection, path) for path in paths]
        one = f"SELECT * FROM read_parquet({quote_text(str(paths[0]))}, hive_partitioning = false)"
        self.fields = self.fields or fields_of(connection, one)
        sizes = [path.stat().st_size for path in paths]
        digests = [""] * len(paths)
        if keep:
            with ThreadPoolExecutor(_SYNCED) as pool:  # the disk takes many syncs for little more than one
                digests = list(pool.map(self._keep, paths))
        labels = [path.parent.name.partition(f"{_LABEL}=")[2] for path in paths]
        return [
            TableFile(sha256, size, digest.rows, partition=label, sums=digest.sums)
            for sha256, size, digest, label in zip(digests, sizes, sums, labels, strict=True)
        ]

    def _digest(self, connection: "duckdb.DuckDBPyConnection", path: Path) -> "TableDigest":
        from sampan.lake.digest import digest_parquet

        try:
            return digest_parquet([path], self._threads)
        except Damaged:
            older = path.with_suffix(".older")
            rewrite(connection, path, older)
            older.replace(path)
            return digest_parquet([path], self._threads)

    def _keep(self, path: Path) -> str:
        sha256 = settle(path)
        Blobs(self._out).place(path, sha256)
        return sha256

    def _empty(self, connection: "duckdb.DuckDBPyConnection", folder: Path) -> TableFile:
        """A file with the columns and no rows, for a table that has none."""
        body, _ = self._body(connection)
        path = folder / "empty.parquet"
        connection.execute(f"COPY (SELECT * FROM (\n{body}\n) AS it LIMIT 0) TO {quote_text(str(path))} ({OPTIONS})")
        return self._files(connection, [path], keep=True)[0]


def summed(files: Iterable[TableFile], label: str) -> tuple[int, int, int]:
    """Rows of a partition, and what they add up to: equal for equal rows."""
    rows = first = second = 0
    for file in files:
        if file.partition == label:
            rows += file.rows
            one, two = file.sums or (0, 0)
            first, second = (first + one) % 2**64, (second + two) % 2**64
    return rows, first, second


def _within(column: str, stretch: Stretch) -> str:
    start, end = (f"TIMESTAMPTZ '{time.isoformat(sep=' ')}'" for time in (stretch.start, stretch.end))
    return f"{column} >= {start} AND {column} < {end}"
