"""The records of alerts: one open alert per key, what was sent to whom, what is silenced.

An alert and the messages about it are written in one transaction, before anything is sent. What is waiting is sent,
then marked. A kill in between sends it again under the same id: at least once, and the receiver can tell.
"""

import logging
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from sampan.base.clock import Clock, iso
from sampan.base.errors import NotFound, Usage
from sampan.base.ids import new_id
from sampan.store.database import Database
from sampan.store.states import States

_LOG = logging.getLogger("sampan.watch")
OPENED: Final = "opened"
RESOLVED: Final = "resolved"
_EVER: Final = 1 << 62
WAITING: Final = "waiting"
DELIVERED: Final = "delivered"
GIVEN_UP: Final = "given up"

#: Seconds before each further attempt; after the last it is given up.
BACK_OFF: Final = (2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, *((600.0,) * 12), *((3_600.0,) * 22))


class Breach(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that is crossed now. ``key`` says what is the same alert; all else is for people."""

    kind: str
    about: str  # the producer, endpoint, run's target … that it is about
    title: str
    reason: str
    cause: str
    evidence: str  # address of a page of the hub
    action: str  # one thing to do now
    owner: str = ""
    producer: str = ""
    type: str = ""
    field: str = ""
    example: str = ""  # position of one event, or what else stands for it
    value: float = 0.0
    bound: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.about}"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as pages, commands and messages show it. Times in microseconds of the workspace's clock."""

    id: str
    key: str
    kind: str
    about: str
    title: str
    owner: str
    producer: str
    type: str
    field: str
    reason: str
    example: str
    cause: str
    evidence: str
    action: str
    value: float
    bound: float
    times: int  # how often a look has found the limit crossed
    silenced: str  # why nobody was told, if somebody silenced it
    opened: int
    seen: int
    resolved: int | None = None

    @property
    def state(self) -> str:
        return "open" if self.resolved is None else "resolved"


class Delivery(msgspec.Struct, frozen=True):
    """One message to one target. Its times are real ones, whatever clock the workspace has."""

    id: str  # the same for every attempt and target: receivers drop what they have seen
    target: str
    alert: str
    event: str
    state: str
    attempts: int
    due: int
    error: str
    body: str
    created: int
    delivered: int | None = None


class Silence(msgspec.Struct, frozen=True):
    """Alerts that nobody wants to hear of: a kind, or one key (``quarantined:till``)."""

    id: str
    what: str
    until: int
    actor: str
    reason: str
    created: int


KINDS: Final = (
    *("quarantined", "silent", "differs", "run_failed", "endpoint_down", "disk", "log_fault", "sealing"),
    *("rebuild_failed", "rollout", "review", "exposure", "damaged", "outcomes", "shadow"),
)


class Alerts:
    """The alerts of a workspace. Writing needs the writable records."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._states = States(db, "alert")

    def list(self, limit: int = 100, by: int | None = None) -> Sequence[Alert]:
        """Open ones first, then by when they opened, the newest first; ``by``: as they stood at that instant."""
        rows = self._db.rows(
            "SELECT * FROM alerts WHERE opened <= ?1"
            " ORDER BY coalesce(resolved, ?1 + 1) <= ?1, opened DESC, id DESC LIMIT ?2",
            (_EVER if by is None else by, limit),
        )
        return [self._then(Alert(**dict(row)), by) for row in rows]

    def open(self) -> Sequence[Alert]:
        return open_alerts(self._db)

    def get(self, id: str, by: int | None = None) -> Alert:
        """An alert by its id or the beginning of it, or ``last``; ``by``: as it stood at that instant. Raises NotFound,
        for one that opened later too."""
        if id == "last":
            newest = self._db.row("SELECT id FROM alerts ORDER BY opened DESC, id DESC LIMIT 1")
            id = newest["id"] if newest is not None else id
        rows = self._db.rows("SELECT * FROM alerts WHERE id LIKE ? LIMIT 2", (f"{id}%",)) if id.isalnum() else []
        if len(rows) != 1:
            problem = "more than one begins so" if rows else "there is none of that id"
            raise NotFound(f"Show the alert {id[:40]!r}", problem, "`sampan alert list` shows them.")
        found = Alert(**dict(rows[0]))
        if by is not None and found.opened > by:
            attempted = f"See the alert {found.id} as of {iso(by)}"
            raise NotFound(attempted, f"it opened at {iso(found.opened)}", "Choose a later time.")
        return self._then(found, by)

    def _then(self, alert: Alert, by: int | None) -> Alert:
        """An alert as it stood at an instant. Between the look that opened it and its last one, its figure is that
        with which it opened."""
        if by is None:
            return alert
        if alert.resolved is not None and alert.resolved > by:
            alert = msgspec.structs.replace(alert, resolved=None)
        if alert.seen <= by:
            return alert
        state = self._states.at(alert.id, by)
        value, reason = state.value if state is not None else (alert.value, alert.reason)
        return msgspec.structs.replace(alert, times=1, seen=alert.opened, value=value, reason=reason)

    def raise_(self, breach: Breach, targets: Sequence[str], body: "Compose", silenced: str) -> Alert:
        """Record a new alert together with the messages about it."""
        now = self._clock.micros()
        alert = Alert(
            id=new_id(self._clock),
            key=breach.key,
            times=1,
            silenced=silenced,
            opened=now,
            seen=now,
            **msgspec.structs.asdict(breach),
        )
        names = Alert.__struct_fields__
        with self._db.transaction() as records:
            records.execute(
                f"INSERT INTO alerts ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                msgspec.structs.astuple(alert),
            )
            self._states.put(alert.id, [alert.value, alert.reason], now)
            self._put(alert, OPENED, [] if silenced else targets, body)
        return alert

    def seen(self, alert: Alert, value: float, reason: str) -> None:
        """The limit is still crossed: the same alert, a newer figure."""
        with self._db.transaction() as records:
            records.execute(
                "UPDATE alerts SET times = times + 1, seen = ?, value = ?, reason = ? WHERE id = ?",
                (self._clock.micros(), value, reason, alert.id),
            )

    def resolve(self, alert: Alert, body: "Compose") -> Alert:
        """Close an alert, and tell those who were told of it."""
        now = self._clock.micros()
        told = self._db.rows("SELECT target FROM deliveries WHERE alert = ? AND event = ?", (alert.id, OPENED))
        done = msgspec.structs.replace(alert, resolved=now)
        with self._db.transaction() as records:
            records.execute("UPDATE alerts SET resolved = ? WHERE id = ?", (now, alert.id))
            self._put(done, RESOLVED, [row["target"] for row in told], body)
        return done

    def _put(self, alert: Alert, event: str, targets: Sequence[str], body: "Compose") -> None:
        id, now = f"{alert.id}.{event}", real_micros()
        text = body(id, event, alert)
        with self._db.transaction() as records:
            records.executemany(
                "INSERT INTO deliveries (id, target, alert, event, state, attempts, due, error, body, created)"
                " VALUES (?, ?, ?, ?, ?, 0, ?, '', ?, ?)",
                [(id, target, alert.id, event, WAITING, now, text, now) for target in targets],
            )

    # -- messages

    def deliveries(self, alert: str | None = None, limit: int = 200, by: int | None = None) -> Sequence[Delivery]:
        """What was sent about an alert, or the newest of all; ``by``: what there was to send at that instant."""
        rows = self._db.rows(
            "SELECT * FROM deliveries WHERE (?1 IS NULL OR alert = ?1) AND created <= ?2"
            " ORDER BY created DESC, target LIMIT ?3",
            (alert, _EVER if by is None else by, limit),
        )
        found = [Delivery(**dict(row)) for row in rows]
        if by is None:
            return found
        waited = {"state": WAITING, "delivered": None, "error": "", "attempts": 0}
        return [one if _ended(one, by) else msgspec.structs.replace(one, **waited) for one in found]

    def due(self) -> Sequence[Delivery]:
        """For each target one message that is due. That an alert is over is told after that it opened, never before."""
        now = real_micros()
        seen: set[tuple[str, str]] = set()
        found: dict[str, Delivery] = {}
        for row in self._db.rows("SELECT * FROM deliveries WHERE state = ? ORDER BY created, id", (WAITING,)):
            about = (row["target"], row["alert"])
            if about not in seen and row["due"] <= now:
                found.setdefault(row["target"], Delivery(**dict(row)))
            seen.add(about)
        return list(found.values())

    def mark(self, delivery: Delivery, error: str) -> None:
        """Write down how an attempt ended; ``error`` is empty if it went well."""
        now = real_micros()
        state, due = DELIVERED, now
        if error:
            late = delivery.attempts >= len(BACK_OFF)
            state = GIVEN_UP if late else WAITING
            due = now if late else now + round(BACK_OFF[delivery.attempts] * 1_000_000)
        with self._db.transaction() as records:
            records.execute(
                "UPDATE deliveries SET state = ?, attempts = attempts + 1, due = ?, error = ?, delivered = ?"
                " WHERE id = ? AND target = ?",
                (state, due, error[:500], None if error else now, delivery.id, delivery.target),
            )

    # -- silences

    def silences(self, by: int | None = None) -> Sequence[Silence]:
        """Those in force, in real time; ``by``: at that instant."""
        at = real_micros() if by is None else by
        sql = "SELECT * FROM silences WHERE created <= ?1 AND until > ?1 ORDER BY created DESC"
        rows = self._db.rows(sql, (at,))
        return [Silence(**dict(row)) for row in rows]

    def silence(self, what: str, seconds: float, *, actor: str, reason: str) -> Silence:
        """Keep quiet about a kind or a key for a while: alerts are recorded and nobody is told."""
        if what.partition(":")[0] not in KINDS:
            raise Usage("Silence alerts", f"{what[:80]!r} is no kind of alert", f"Kinds: {', '.join(KINDS)}.")
        if not 0 < seconds <= 90 * 86_400:
            raise Usage("Silence alerts", f"{seconds:g} seconds", "From one second up to 90 days.")
        now = real_micros()
        made = Silence(new_id(self._clock), what, now + round(seconds * 1_000_000), actor, reason[:500], now)
        with self._db.transaction() as records:
            records.execute("INSERT INTO silences VALUES (?, ?, ?, ?, ?, ?)", msgspec.structs.astuple(made))
        return made

    def unsilence(self, id: str, *, actor: str) -> Silence:
        """Take a silence back: what opens from now on is told again. Raises NotFound if none of that id is in force."""
        now = real_micros()
        with self._db.transaction() as records:
            found = next((one for one in self.silences() if one.id == id), None)
            if found is None:
                problem = f"none of the id {id[:40]!r} is in force"
                raise NotFound("Take back a silence", problem, "`sampan alert list` shows them.")
            records.execute("UPDATE silences SET until = ? WHERE id = ?", (now, id))
        _LOG.info("a silence was taken back", extra={"facts": {"what": found.what, "actor": actor}})
        return msgspec.structs.replace(found, until=now)

    def silenced(self, breach: Breach) -> str:
        """Why nobody shall be told of a breach, or nothing."""
        for one in self.silences():
            if one.what in (breach.kind, breach.key):
                return f"silenced by {one.actor}" + (f": {one.reason}" if one.reason else "")
        return ""


class Compose(msgspec.Struct, frozen=True):
    """Makes the text of a message about an alert."""

    workspace: str
    address: str  # of the hub, as people reach it

    def __call__(self, id: str, event: str, alert: Alert) -> str:
        link = f"{self.address}/alerts/{alert.id}" if self.address else f"/alerts/{alert.id}"
        message = Message(id=id, event=event, workspace=self.workspace, link=link, alert=alert)
        return msgspec.json.encode(message).decode()


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a webhook. ``id`` is the same for every attempt: drop what you have seen."""

    id: str
    event: str  # opened | resolved | test
    workspace: str
    link: str
    alert: Alert
    version: int = 1


def _ended(delivery: Delivery, by: int) -> bool:
    """Whether a message had been delivered by an instant, or given up, which says itself when."""
    return (delivery.delivered or delivery.due) <= by


def open_alerts(db: Database) -> list[Alert]:
    """The alerts that are open now, the newest first."""
    rows = db.rows("SELECT * FROM alerts WHERE resolved IS NULL ORDER BY opened DESC, id DESC")
    return [Alert(**dict(row)) for row in rows]


def real_micros() -> int:
    """Real time: messages are sent and tried again in it, whatever time-lapse a workspace plays."""
    return time.time_ns() // 1000
