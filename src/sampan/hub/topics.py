"""What each topic of ``GET /live`` says: small JSON about how things stand now.

``say`` holds texts for the elements of a page that carry their names (``data-say``), ``draw`` lines for its pictures
(``data-draw``): both are made here, so that the script formats nothing.
"""

from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.errors import NotFound
from sampan.hub.parts import Parts
from sampan.hub.pulse import Pulse
from sampan.hub.render import number
from sampan.hub.spark import filled, spark
from sampan.log.position import Position
from sampan.runs.records import RUNNING, Runs
from sampan.serve.claims import Claims
from sampan.serve.stream import PREFIX
from sampan.watch.alerts import open_alerts

if TYPE_CHECKING:
    from sampan.log.group import Counts
    from sampan.log.read import StoredEvent

_NEWEST: Final = 8
_RUNS: Final = 10
_CHUNK: Final = 16_384  # bytes of a step's output in one message


class Topics:
    """The topics of one workspace. ``waiting`` says how many events wait in quarantine, ``cases`` which for people."""

    def __init__(
        self,
        parts: Parts,
        pulse: Pulse,
        counts: "Counts",
        waiting: Callable[[], int],
        cases: Callable[[], Sequence[Any]] = tuple,
    ) -> None:
        self._parts, self._pulse, self._counts, self._waiting = parts, pulse, counts, waiting
        self._cases = cases
        self._looks = {
            "pulse": self._beat,
            "log": self._log,
            "quarantine": self._quarantine,
            "runs": self._runs,
            "endpoints": self._endpoints,
            "alerts": self._alerts,
            "reviews": self._reviews,
            "proposals": self._proposals,
        }
        self._newest: tuple[Position, list[Any]] = (Position(), [])
        self._predictions: tuple[Position, list[Any]] = (Position(), [])
        self._logs: dict[str, dict[str, int]] = {}  # per run: how much of each log has been told

    def known(self, topic: str) -> bool:
        """Whether there is such a topic. Of a run any name is good: one that is not there is told as not there."""
        return topic in self._looks or (topic.startswith("run:") and topic[4:].isalnum() and len(topic) < 50)

    def look(self, topic: str) -> dict[str, Any]:
        """How things stand."""
        return self._run(topic[4:]) if topic.startswith("run:") else self._looks[topic]()

    # -- the log

    def _beat(self) -> dict[str, Any]:
        now = self._pulse.now()
        return {
            "rate": now,
            "say": {"rate": number(now, 1), "busiest": number(self._pulse.most())},
            "draw": {"rate": spark(self._pulse.bars()), "rate_area": filled(self._pulse.bars())},
        }

    def _log(self) -> dict[str, Any]:
        position = self._parts.log.position()
        if position != self._newest[0]:
            found = self._parts.log.events(newest_first=True, limit=_NEWEST)
            self._newest = (position, [_event(self._parts, one) for one in found])
        counts = {name: getattr(self._counts, name) for name in ("accepted", "duplicate", "quarantined", "refused")}
        counts["accepted"] += sum(last for stream, last in position.items() if stream.startswith(PREFIX))
        return {
            **counts,
            "position": str(position),
            "newest": self._newest[1],
            "say": {name: number(value) for name, value in counts.items()},
        }

    def _quarantine(self) -> dict[str, Any]:
        waiting = self._waiting()
        return {"waiting": waiting, "say": {"waiting": number(waiting)}}

    # -- runs

    def _runs(self) -> dict[str, Any]:
        records = Runs(self._parts.db)
        found = []
        for run in records.list(_RUNS):
            line = {"run": run.id, "state": run.state, "target": run.target, "finished": run.finished}
            found.append({**line, "steps": _states(records, run.id)} if run.state == RUNNING else line)
        return {"runs": found}

    def _run(self, id: str) -> dict[str, Any]:
        records = Runs(self._parts.db)
        try:
            run = records.get(id)
        except NotFound:
            return {"run": id, "state": "unknown", "steps": [], "logs": {}}
        steps = [
            {"name": step.name, "state": step.state, "seconds": round(step.seconds, 3)}
            for step in records.steps(run.id)
        ]
        return {"run": run.id, "state": run.state, "steps": steps, "logs": self._output(run.id)}

    def _output(self, run: str) -> dict[str, Any]:
        """What the steps of a run printed since the last look: ``text`` are the bytes from ``start`` to ``size``."""
        folder = self._parts.folder.data / "runs" / run
        told = self._logs.setdefault(run, {})
        if len(self._logs) > _RUNS:
            del self._logs[next(iter(self._logs))]
        found = {}
        for path in sorted(folder.glob("*.log")) if folder.is_dir() else ():
            size = path.stat().st_size
            start = max(min(told.get(path.name, size), size), size - _CHUNK)
            text, told[path.name] = _chunk(path, start, size)
            found[path.name] = {"start": start, "size": told[path.name], "text": text}
        return found

    # -- alerts

    def _alerts(self) -> dict[str, Any]:
        found = open_alerts(self._parts.db)
        lines = [{"id": one.id, "kind": one.kind, "about": one.about, "title": one.title} for one in found]
        return {"open": len(found), "alerts": lines, "say": {"open": number(len(found))}}

    # -- serving

    def _reviews(self) -> dict[str, Any]:
        found = self._cases()
        held = Claims(self._parts.db, self._parts.clock).all() if found else {}
        claimed = {one.id: said.who for one in found if (said := held.get((one.endpoint, one.id))) is not None}
        return {"waiting": [one.id for one in found], "claimed": claimed, "say": {"waiting": number(len(found))}}

    def _proposals(self) -> dict[str, Any]:
        rows = self._parts.db.rows("SELECT id, tried, asked, closed FROM proposals ORDER BY created DESC LIMIT 20")
        return {"newest": [dict(row) for row in rows], "trying": self._parts.trials()}

    def _endpoints(self) -> dict[str, Any]:
        streams = {stream: last for stream, last in self._parts.log.position().items() if stream.startswith(PREFIX)}
        position = Position(streams)
        if position != self._predictions[0]:
            found = [
                event
                for stream in streams
                for event in self._parts.log.events(type="prediction", stream=stream, newest_first=True, limit=_NEWEST)
            ]
            found.sort(key=lambda event: -event.received)
            self._predictions = (position, [_prediction(event) for event in found[:_NEWEST]])
        names = sorted(row["name"] for row in self._parts.db.rows("SELECT DISTINCT name FROM endpoints"))
        return {
            "endpoints": [{"name": name, "state": self._parts.serving_state(name)} for name in names],
            "position": str(position),
            "predictions": self._predictions[1],
        }


def _event(parts: Parts, event: "StoredEvent") -> dict[str, Any]:
    return {
        "position": event.position,
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "subject": parts.log.subject(event),
        "time": event.time,
        "received": event.received,
    }


def _prediction(event: "StoredEvent") -> dict[str, Any]:
    data = msgspec.json.decode(event.data)
    told = {name: data.get(name) for name in ("endpoint", "version", "entity", "prediction", "action", "rule")}
    return {"id": event.id, "time": event.time, **told}


def _states(records: Runs, run: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for step in records.steps(run):
        counts[step.state] = counts.get(step.state, 0) + 1
    return counts


def _chunk(path: Path, start: int, size: int) -> tuple[str, int]:
    """Text from byte ``start`` to ``size``, and where it ends: a letter that is not whole yet is left for later."""
    with path.open("rb") as file:
        file.seek(start)
        decoder = getincrementaldecoder("utf-8")("backslashreplace")
        text = decoder.decode(file.read(size - start))
        return text, file.tell() - len(decoder.getstate()[0])
