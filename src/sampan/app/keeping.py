"""What commands and the hub ask about keeping: pins, clean-ups, backups, published tables."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.app.workplace import Workplace
from sampan.base.errors import Damaged

if TYPE_CHECKING:
    from sampan.keep.pins import Pins


class Keeping(Workplace):
    """Says what stays, and takes copies of it."""

    @property
    def pinned(self) -> "Pins":
        from sampan.keep.pins import Pins

        return Pins(self.db, self.lake, self.models, self.runs, self.clock)

    def pin(self, ref: str, reason: str, actor: str) -> Any:
        """Keep a commit, version or run whatever its age."""
        import msgspec

        with self._as_writer(f"Pin {ref}"):
            return msgspec.to_builtins(self.pinned.add(ref, actor=actor, reason=reason))

    def unpin(self, ref: str, actor: str) -> Any:
        """Let it go when it is old."""
        import msgspec

        with self._as_writer(f"Remove the pin of {ref}"):
            return msgspec.to_builtins(self.pinned.remove(ref))

    def pins(self) -> Any:
        """All pins."""
        import msgspec

        return msgspec.to_builtins(self.pinned.list())

    def clean(self, apply: bool, actor: str, report: Callable[[Any], None]) -> Any:
        """Remove what nothing keeps, or say what would go. Runs wait until it has ended, and it for them. One that
        removed something, or could not, is written down."""
        import msgspec

        from sampan.keep.clean import Cleaner
        from sampan.keep.cleanups import Cleanups
        from sampan.keep.retention import read_retention

        retention, data = read_retention(self.folder.config()), self.folder.data
        if not apply:
            return msgspec.to_builtins(Cleaner(self.db, data, self.clock, retention).preview())
        with self._running("Clean up"), self._settled("Clean up"):
            try:
                done = Cleaner(self.db, data, self.clock, retention).apply(
                    lambda step: report(msgspec.to_builtins(step)), actor
                )
            except Damaged as error:
                Cleanups(self.db, self.clock).failed(actor, f"{error.obstacle}. {error.advice}")
                raise
            return msgspec.to_builtins(done)

    @property
    def busy(self) -> bool:
        """Whether a run, a merge, a replay or a clean-up is going on in this process."""
        return self._one_run.locked()

    def backup(self, to: Path, keys: bool = True) -> Any:
        """Copy all that cannot be derived again, and what has been derived, while the hub goes on."""
        import msgspec

        from sampan.keep.backup import Backup
        from sampan.keep.retention import read_retention

        with self._settled("Back up"):
            made = Backup(self.folder, self.db, self.log, self.clock, read_retention(self.folder.config()), to)
            return msgspec.to_builtins(made.make(keys=keys))

    def restore(self, backup: Path, to: Path) -> Any:
        """Make a workspace of a backup in an empty folder."""
        import msgspec

        from sampan.keep.restore import restore

        return msgspec.to_builtins(restore(backup, to))

    def publish_tables(self, names: list[str], ref: str, to: Path | None, told: Callable[[Any], None]) -> list[str]:
        """Publish tables (all of the ref, if none is named) as Apache Iceberg. It writes files and no records.

        ``told`` hears of each. Of all those that Iceberg cannot hold are left out; gives why. Raises for one by name.
        """
        import msgspec

        from sampan.base.errors import Refused
        from sampan.keep.retention import read_retention
        from sampan.lake.publish import Publications

        publications, retention = Publications(self.folder.data), read_retention(self.folder.config())
        left_out = []
        with self._settled("Publish tables"):
            for name in names or sorted(self.lake.names(ref)):
                try:
                    made = publications.publish(self.lake, name, ref, to, clock=self.clock, retention=retention.commits)
                except Refused as error:
                    if names:
                        raise
                    left_out.append(str(error))
                else:
                    told(msgspec.to_builtins(made))
        return left_out

    def unpublish_table(self, name: str, to: Path | None) -> list[str]:
        """Take a table's publications away; gives their folders."""
        from sampan.lake.publish import Publications

        with self._settled(f"Unpublish {name}"):
            return list(Publications(self.folder.data).remove(name, to))

    def publications(self) -> Any:
        """What is published as Apache Iceberg, and where."""
        from sampan.lake.publish import Publications

        known = Publications(self.folder.data)
        return [
            {"table": one.table, "branch": one.branch, "folder": str(known.folder(one)), "snapshots": list(one.files)}
            for one in known.list()
        ]

    def _settled(self, attempted: str) -> AbstractContextManager[Any]:
        """No file goes and no backup begins while this is held."""
        from sampan.store.lock import FileLock

        advice = "A clean-up or a backup is going on: try again when it has ended."
        return FileLock(self.folder.data / "settled.lock", attempted, advice)
