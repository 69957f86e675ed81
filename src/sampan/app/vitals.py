"""What the running hub knows of itself: whether it is ready, and its figures for Prometheus."""

import os
import time
from typing import TYPE_CHECKING, Final

from sampan.api.exposition import Exposition
from sampan.api.readiness import Check
from sampan.base.errors import SampanError
from sampan.serve.stream import PREFIX
from sampan.watch.alerts import KINDS

if TYPE_CHECKING:
    from sampan.app.hub import RunningHub

_STARTED: Final = time.time()
_LATE: Final = 60.0  # seconds without a look after which nobody is watching


def checks(hub: "RunningHub") -> list[Check]:
    """What must be well for requests to be answered as they should be."""
    found = [Check("log", not (reason := hub.writer.health().reason), reason)]
    try:
        hub.app.db.rows("SELECT 1")
        found.append(Check("records", True))
    except SampanError as error:
        found.append(Check("records", False, error.obstacle))
    found.append(Check("tracking", not (fault := hub.tracking.db.fault), fault))
    quiet = hub.watch.quiet()
    found.append(Check("watch", quiet < _LATE, "" if quiet < _LATE else f"nothing was looked at for {quiet:.0f} s"))
    found.append(Check("serving", not hub.ending, "it is being stopped" if hub.ending else ""))
    return found


def metrics(hub: "RunningHub") -> bytes:
    """The figures of this moment."""
    from sampan import __version__

    out = Exposition()
    out.gauge("sampan_build_info", "Which Sampan this is.", [({"version": __version__}, 1)])
    _log(hub, out)
    _requests(hub, out)
    _work(hub, out)
    _process(out)
    return out.text()


def _log(hub: "RunningHub", out: Exposition) -> None:
    writer = hub.writer
    verdicts = ("accepted", "duplicate", "quarantined", "refused")
    rows = [({"verdict": name}, getattr(writer.counts, name)) for name in verdicts]
    out.counter("sampan_events_total", "Events sent to this log since it began, by what became of them.", rows)
    out.gauge("sampan_quarantine_waiting", "Quarantined events that nobody has repaired.", [({}, hub.waiting())])
    health = writer.health()
    out.gauge("sampan_intake_waiting_bytes", "Bytes of events that wait for the disk.", [({}, health.waiting)])
    out.gauge("sampan_intake_ready", "Whether the log takes events.", [({}, int(health.ready))])
    out.histogram("sampan_log_sync_seconds", "How long a sync of the log took.", [({}, writer.syncs)])
    out.gauge("sampan_seal_backlog", "Closed segments that wait to be sealed.", [({}, writer.sealing.backlog)])
    out.counter("sampan_segments_sealed_total", "Segments sealed since the start.", [({}, writer.sealing.sealed)])
    out.gauge("sampan_seal_failed", "Whether the last seal failed.", [({}, int(bool(writer.sealing.failure)))])


def _requests(hub: "RunningHub", out: Exposition) -> None:
    kinds = [(key, kind) for key, kind in sorted(hub.requests.kinds.items(), key=lambda one: one[0]) if kind.statuses]
    rows = [
        ({"method": method, "route": route, "status": str(status)}, number)
        for (method, route), kind in kinds
        for status, number in sorted(kind.statuses.items())
    ]
    out.counter("sampan_requests_total", "Requests answered since the start.", rows)
    timed = [({"method": method, "route": route}, kind.seconds) for (method, route), kind in kinds]
    out.histogram("sampan_request_seconds", "How long requests took.", timed)


def _work(hub: "RunningHub", out: Exposition) -> None:
    states = hub.app.db.rows("SELECT state, count(*) AS number FROM runs GROUP BY state ORDER BY state")
    out.gauge("sampan_runs", "Runs in the records, by state.", [({"state": s["state"]}, s["number"]) for s in states])
    served = [
        ({"endpoint": name.removeprefix(PREFIX)}, last)
        for name, last in hub.app.log.position().items()
        if name.startswith(PREFIX)
    ]
    out.counter("sampan_predictions_total", "Predictions in the log, by endpoint.", served)
    endpoints = hub.serving.status()
    up = [({"endpoint": one.name}, int(one.state == "serving")) for one in endpoints]
    out.gauge("sampan_endpoint_up", "Whether an endpoint answers.", up)
    direct = [
        ({"endpoint": name, "status": str(status)}, number)
        for name, answered in sorted(hub.serving.answered.items())
        for status, number in sorted(answered.copy().items())
    ]
    out.counter("sampan_endpoint_requests_total", "Requests that its process answered past the hub.", direct)
    restarts = [({"endpoint": one.name}, one.restarts) for one in endpoints]
    out.counter("sampan_endpoint_restarts_total", "How often its process was started again.", restarts)
    open = [alert.kind for alert in hub.watch.alerts.open()]
    out.gauge("sampan_alerts_open", "Open alerts, by kind.", [({"kind": kind}, open.count(kind)) for kind in KINDS])
    waiting = hub.app.db.rows("SELECT count(*) AS number FROM deliveries WHERE state = 'waiting'")[0]["number"]
    out.gauge("sampan_alert_messages_waiting", "Messages about alerts that wait to be sent.", [({}, waiting)])


def _process(out: Exposition) -> None:
    times = os.times()
    used = round(times.user + times.system, 2)
    out.counter("process_cpu_seconds_total", "Processor time of the hub's process.", [({}, used)])
    out.gauge("process_start_time_seconds", "When the hub's process began.", [({}, round(_STARTED, 3))])
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - not a file of ours
            pages = int(file.read().split()[1])
        out.gauge("process_resident_memory_bytes", "Memory it has.", [({}, pages * os.sysconf("SC_PAGE_SIZE"))])
        out.gauge("process_open_fds", "Files it has open.", [({}, len(os.listdir("/proc/self/fd")))])  # noqa: PTH208
    except OSError:
        pass  # a machine that does not tell
