"""One type of event as SQL sees it: typed Parquet per sealed segment, made once and kept in the cache, and the rest
as an Arrow table.
"""

import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sampan.base.files import unfinished
from sampan.log.builtin import BUILTIN
from sampan.log.columns import schema_of, table_of
from sampan.log.contracts import Contract, Contracts
from sampan.log.keys import SubjectKeys
from sampan.log.log import LogSource
from sampan.log.position import Position
from sampan.log.read import Item, StreamReader
from sampan.log.stream import Manifest

FORMAT: Final = 1
_STRETCH: Final = 2_000  # items turned into columns at a time: as objects they take ten times as much memory
_GROUP: Final = 100_000, 16 << 20  # rows, or bytes, of a Parquet file that lie together
_PARTS: Final = 512  # unsealed parts that are kept: types times streams
_BLOCKS: Final = 32  # pieces of an unsealed part before they are made one
_TURNS: Final = tuple(threading.Lock() for _ in range(16))  # of threads that make a projection
_BATCH: Final = 25_000  # rows of it that lie together: with a tenth as many DuckDB takes twice as long


def open_source(source: LogSource) -> tuple[list[Path], pa.Table | None]:
    """Parquet files of the sealed segments and a table of the rest; together one type's events at a position.

    The columns are the newest contract version's fields, then ``_id _time _received _known_at _source _version
    _position``. ``known_by`` is left to the query that scans them, and ``after`` too but for whole segments. If there
    is no event at all, the table is empty but has its columns.
    """
    contract = _contracts(source.contracts).contract(source.type)
    keys = SubjectKeys(Path(source.keys))
    try:
        return _open(source, contract, keys)
    finally:
        keys.close()


def _open(source: LogSource, contract: Contract, keys: SubjectKeys) -> tuple[list[Path], pa.Table | None]:
    folder = Path(source.folder)
    cache = folder.parent / "cache"
    labels = contract.labels
    paths: list[Path] = []
    rest: list[pa.Table] = []
    after = Position.parse(source.after)
    for name, last in Position.parse(source.position).items():
        reader = StreamReader(folder / name, cache / "log")
        reached = 0
        for manifest in reader.stream.manifests():
            if manifest.last > last:
                break
            reached = manifest.last
            if manifest.last > after[name] and not labels.isdisjoint(manifest.types):
                paths.append(_projection(cache / "projections", source, reader, manifest, contract, keys))
        gone = keys.destroyed() if contract.personal else 0
        state = _State(reached, f"{contract.digest} {_stamp(source.contracts)}", gone)
        rest.extend(_unsealed((source.folder, name, contract.type), state).upto(last, reader, contract, keys))
    if not paths and not rest:
        return [], schema_of(contract).empty_table()
    return paths, pa.concat_tables(rest) if rest else None


class _Unsealed:
    """The events of one type in the unsealed part of a stream, as columns. Each call turns only what is new into
    columns, so that a page that asks again and again pays for each event once."""

    def __init__(self, reached: int) -> None:
        self._lock = threading.Lock()
        self._first = reached + 1
        self._last = reached  # item up to which ``_blocks`` go
        self._blocks: list[tuple[int, pa.Table]] = []  # number of the last item that each covers, and its events

    def upto(self, last: int, reader: StreamReader, contract: Contract, keys: SubjectKeys) -> list[pa.Table]:
        """The events up to and with item ``last``."""
        with self._lock:
            if last > self._last:
                fresh = reader.items(self._last + 1, last, labels=contract.labels)
                if tables := list(_tables(fresh, contract, reader.name, keys)):
                    self._blocks.append((last, _together(tables)))
                    if len(self._blocks) > _BLOCKS:
                        self._blocks = [(last, _together([table for _, table in self._blocks]))]
                self._last = last
            elif last < self._last and any(end > last for end, _ in self._blocks):  # an earlier position than before
                return list(
                    _tables(reader.items(self._first, last, labels=contract.labels), contract, reader.name, keys)
                )
            return [table for _, table in self._blocks]


class _State(NamedTuple):
    """What the columns of an unsealed part hang on: the end of the sealed part, the contract with its file, the number
    of destroyed keys. With another of these they are no longer the same."""

    reached: int
    contract: str
    gone: int


_kept: OrderedDict[tuple[str, str, str], tuple[_State, _Unsealed]] = OrderedDict()
_keeping = threading.Lock()


def _unsealed(which: tuple[str, str, str], state: _State) -> _Unsealed:
    """What is kept of one folder, stream and type. There is room for every type in the streams of many endpoints: what
    does not find its place would be turned into columns again by each question."""
    with _keeping:
        before, kept = _kept.get(which, (None, None))
        if kept is not None and before == state:
            _kept.move_to_end(which)
            return kept
        made = _Unsealed(state.reached)
        if before is None or before.reached <= state.reached:  # an earlier position is asked for now and then
            _kept[which] = (state, made)
            _kept.move_to_end(which)
            while len(_kept) > _PARTS:
                _kept.popitem(last=False)
        return made


@lru_cache(maxsize=8)
def _load(path: str, stamp: tuple[int, int] | None) -> Contracts:
    return Contracts.load(Path(path)) if path else Contracts()


def _contracts(path: str) -> Contracts:
    """The contracts of a file, read again only if it changed."""
    return _load(path, _stamp(path))


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        stat = Path(path).stat() if path else None
    except FileNotFoundError:
        return None
    return (stat.st_mtime_ns, stat.st_size) if stat else None


def _tables(items: Iterator[Item], contract: Contract, stream: str, keys: SubjectKeys) -> Iterator[pa.Table]:
    block: list[Item] = []
    for item in items:
        block.append(item)
        if len(block) >= _STRETCH:
            yield table_of(contract, stream, block, keys)
            block = []
    if block:
        yield table_of(contract, stream, block, keys)


def _together(tables: list[pa.Table]) -> pa.Table:
    """The same rows in few batches."""
    whole = pa.concat_tables(tables).combine_chunks()
    return pa.Table.from_batches(whole.to_batches(max_chunksize=_BATCH), whole.schema)


def _grouped(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables: DuckDB reads groups of few rows slowly."""
    rows, size = _GROUP
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(one.num_rows for one in waiting) >= rows or sum(one.nbytes for one in waiting) >= size:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _projection(
    folder: Path,
    source: LogSource,
    reader: StreamReader,
    manifest: Manifest,
    contract: Contract,
    keys: SubjectKeys,
) -> Path:
    """The typed Parquet file of one segment and contract, made if it is not there."""
    code = _code(contract, manifest, source.contracts)
    what = f"{FORMAT} {manifest.stream} {manifest.number} {manifest.head} {contract.digest} {code}"
    gone = keys.destroyed() if contract.personal else 0
    name = f"{manifest.number:08d}-{sha256(f'{what} {gone}'.encode()).hexdigest()[:24]}.parquet"
    home = folder / contract.type / manifest.stream
    path = home / name
    if path.exists():
        return path
    with _TURNS[hash(path) % len(_TURNS)]:  # of two threads that ask at once, the second finds what the first has made
        if not path.exists():
            home.mkdir(parents=True, exist_ok=True)
            _project(path, reader, manifest, contract, keys)
    if gone:  # what was readable before a key was destroyed must not stay in a cache
        for stale in home.glob(f"{manifest.number:08d}-*.parquet"):
            if stale != path:
                stale.unlink(missing_ok=True)
    return path


def _project(path: Path, reader: StreamReader, manifest: Manifest, contract: Contract, keys: SubjectKeys) -> None:
    temporary = unfinished(path)
    try:
        with pq.ParquetWriter(temporary, schema_of(contract), compression="zstd", compression_level=1) as writer:
            items = reader.items(manifest.first, manifest.last, labels=contract.labels)
            for table in _grouped(_tables(items, contract, manifest.stream, keys)):
                writer.write_table(table)
        temporary.chmod(0o600)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _code(contract: Contract, manifest: Manifest, path: str) -> str:
    """What turned older versions into the newest, if there are any: the file that declares the upcasts. Those of
    built-in events are Sampan's own."""
    if (
        contract.cls not in BUILTIN
        and path
        and any(label != contract.label and label.startswith(f"{contract.type}@") for label in manifest.types)
    ):
        return sha256(Path(path).read_bytes()).hexdigest()
    return ""


def forget(cache: Path) -> None:
    """Remove every projection, for instance after a subject's key was destroyed."""
    with _keeping:
        _kept.clear()
    shutil.rmtree(cache / "projections", ignore_errors=True)
