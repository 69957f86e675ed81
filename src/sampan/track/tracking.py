"""All that is logged in a workspace, in ``tracking.db`` and a folder of artifacts. No HTTP in here."""

from pathlib import Path
from typing import Final

from sampan.base.clock import Clock
from sampan.store.blobs import Blobs
from sampan.store.database import Database
from sampan.track.artifacts import Artifacts
from sampan.track.comparing import Comparing
from sampan.track.experiments import Experiments, begin, millis
from sampan.track.freezing import Freezer
from sampan.track.keys import Keys
from sampan.track.logged import LoggedModels
from sampan.track.logging import Logging
from sampan.track.runs import Runs
from sampan.track.schema import MIGRATIONS
from sampan.track.search import Search
from sampan.track.uploads import Uploads
from sampan.track.writer import NoWriter, Writer

DATABASE: Final = "tracking.db"
ARTIFACTS: Final = "artifacts"


def open_database(data: Path, *, writable: bool) -> Database:
    """The records of logged runs in a workspace's data folder."""
    return Database(data / DATABASE, writable=writable, migrations=MIGRATIONS)


class Tracking:
    """The parts, one per noun. One process at a time may write; Busy for the second. Others read."""

    def __init__(self, data: Path, clock: Clock, *, writable: bool = True) -> None:
        self.db = open_database(data, writable=writable)
        if writable:
            with self.db.transaction() as connection:
                begin(connection, millis(clock))
        self.keys = Keys(self.db)
        self.writer = Writer(self.db, self.keys.forget) if writable else NoWriter()
        self.experiments = Experiments(self.db, self.writer, clock)
        self.runs = Runs(self.db, self.writer, self.keys, clock)
        self.logging = Logging(self.writer, self.keys)
        self.search = Search(self.db, self.keys, self.runs, self.experiments)
        self.comparing = Comparing(self.db, self.keys, self.runs)
        self.freezer = Freezer(self.writer, clock)
        self.models = LoggedModels(self.db, self.writer, clock)
        self.artifacts = Artifacts(self.db, self.writer, Blobs(data / ARTIFACTS), data / "tmp", clock)
        self.uploads = Uploads(self.db, self.writer, self.artifacts, clock)
        if writable:
            self.uploads.sweep()

    def close(self) -> None:
        """Finish what was submitted."""
        self.writer.close()
        self.db.close()
