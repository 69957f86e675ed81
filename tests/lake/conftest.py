"""A lake on a real database and real files."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.base.clock import ManualClock
from sampan.lake.lake import Lake, Snapshot
from sampan.lake.query import TableSource
from sampan.lake.write import write_query
from sampan.store.database import Database


class Workspace:
    """A folder with records and a lake, and short ways to build tables in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock(1_300_000_000_000_000)
        self.db = Database(folder / "records.db", writable=True)
        self.lake = Lake(self.db, folder / "lake", self.clock)

    def build(self, name: str, sql: str, **sources: TableSource) -> Snapshot:
        """Build and record a table, without publishing it."""
        draft = write_query(sql, dict(sources), self.folder / "lake", threads=2, name=name)
        return self.lake.add(draft, name)

    def source(self, sql: str, name: str = "t") -> TableSource:
        """A table of that content, to read from."""
        return self.lake.source_of(self.build(name, sql), name)

    def close(self) -> None:
        self.db.close()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path)
    yield made
    made.close()


@pytest.fixture
def lake(workspace: Workspace) -> Lake:
    return workspace.lake
