"""What commands and the hub ask about events: load them, compare their sources, repair what was quarantined."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from sampan.app.workplace import Workplace
from sampan.base.errors import Busy, SampanError

if TYPE_CHECKING:
    from sampan.log.repairs import Told
    from sampan.log.writer import StreamWriter

_WORTH_SEALING: Final = 20_000  # events; reading them unsealed takes a tenth of a second, each time


class Arriving(Workplace):
    """Loads, compares and repairs events."""

    def stats(self) -> Any:
        """Figures of the log."""
        return self.log.stats()

    @contextmanager
    def _intake(self, attempted: str) -> Iterator["StreamWriter"]:
        """The writer of the intake stream: the hub's own in the hub, else one under the lock."""
        if self._hub is not None:
            yield self._hub.writer
            return
        with self.writing(attempted):
            self.contracts.register(self.db, self.clock)
            writer = self.log.writer("intake")
            try:
                yield writer
            finally:
                writer.close()

    @contextmanager
    def appending(
        self, attempted: str, waiting: Callable[[int], None] = lambda _: None
    ) -> Iterator[Callable[[bytes], dict[str, int]]]:
        """Append events (NDJSON) without a hub, as the one writer; gives the counts by verdict of each batch.

        At the end it waits until the segments that are full have been sealed, and the last one if there is much in it:
        each reading of one that is not sealed costs as much again. ``waiting`` is told how many there are.
        """
        with self._intake(attempted) as writer:

            def append(body: bytes) -> dict[str, int]:
                batch = writer.alone(lambda: writer.checker.read(body, lines=True))
                answer = writer.append(batch, "command")
                counts = (answer.accepted, answer.duplicate, answer.quarantined)
                return dict(zip(("accepted", "duplicate", "quarantined"), counts, strict=True))

            yield append
            last = writer.unsealed >= _WORTH_SEALING
            if backlog := writer.sealing.backlog + last:
                waiting(backlog)
                with suppress(SampanError):  # what is not sealed is not lost: it is tried again later
                    writer.seal() if last else writer.sealing.wait()

    def own_types(self) -> list[str]:
        """The types of event that the workspace declares itself."""
        return [one.type for one in self.contracts.own()]

    def conform(self, type: str, by: str = "source", since: int | None = None) -> Any:
        """Compare the sources of a type; what all of it shows is kept for pages, alerts and runs."""
        import msgspec

        from sampan.log.conform import conform, record

        found = conform(self.log, type, by=by, since=since, now=self.clock.micros())
        if by == "source" and since is None:
            with suppress(Busy), self._as_writer("Keep how sources compare"):
                record(self.db, found)
        return msgspec.to_builtins(found)

    def repair(self, proposals: list[Any], rule: str, author: str, told: "Told | None" = None) -> Any:
        """Re-enter quarantined events as a rule has repaired them; again is harmless. ``told`` goes to the history."""
        import msgspec

        from sampan.log.quarantine import Proposal, Quarantine
        from sampan.log.repairs import Repairs, Told

        told = told or Told()
        made = msgspec.convert(proposals, list[Proposal])
        with self._intake("Repair quarantined events") as writer:
            told.keep_text(self.blobs, rule)
            done = Quarantine(self.log).apply(made, writer, rule=rule, author=author)
            record = Repairs(self.db, self.clock).add(done, name=told.name, reason=told.reason) if done.events else None
        if self._hub is not None:
            self._hub.count_repaired()
        return {**msgspec.to_builtins(done), "repair": record.id if record else ""}
