"""The watch of a running hub: looks every few seconds, opens and resolves alerts, sends what waits to be sent.

Looking and sending have a thread each, so that a target which hangs does not keep anything from being noticed.
"""

import logging
import math
import threading
import time
from collections.abc import Callable
from functools import partial

from sampan.base.clock import Clock
from sampan.base.errors import Damaged, SampanError
from sampan.base.outgoing import Outgoing
from sampan.store.database import Database
from sampan.watch.alerts import Alert, Alerts, Compose, Delivery
from sampan.watch.limits import Alerting, Target
from sampan.watch.look import Memory, Signal
from sampan.watch.signals import LOOKS, Sight

_LOG = logging.getLogger("sampan.watch")
_FRESH = 60.0  # seconds after which the newest figure of an open alert is written down again
_REST = 60.0  # seconds until what did not arrive is tried again while nothing can be written down
#: Sends one message to one target; raises SampanError if it did not arrive.
Send = Callable[[Target, str, bytes, Outgoing], None]


def send(target: Target, id: str, body: bytes, outgoing: Outgoing) -> None:
    """Send by the way that a target has."""
    if target.kind == "webhook":
        from sampan.watch.webhook import send as by_webhook

        by_webhook(target, id, body, outgoing)
    else:
        from sampan.watch.apprise import send as by_apprise

        by_apprise(target, body, outgoing)


class Watch:
    """Alerts of one running hub."""

    def __init__(
        self,
        sight: Sight,
        alerting: Alerting,
        db: Database,
        clock: Clock,
        compose: Compose,
        *,
        changed: Callable[[Alert], None] = lambda alert: None,
        outgoing: Outgoing | None = None,
        send: Send = send,
    ) -> None:
        self.alerts = Alerts(db, clock)
        self.alerting = alerting
        self._sight, self._compose, self._changed, self._send = sight, compose, changed, send
        self._outgoing = Outgoing(alerting.allow_private) if outgoing is None else outgoing
        self._targets = {target.name: target for target in alerting.targets}
        self._memory = Memory()
        self._told: dict[str, int] = {}  # alert → when its figure was last written down
        self._unmarked: dict[tuple[str, str], tuple[str, float]] = {}  # message and target → how its last attempt ended
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._threads: list[threading.Thread] = []
        self._complaints: dict[str, str] = {}  # what went wrong → how, the last time
        self._looked = time.monotonic()

    # -- looking

    def look(self) -> None:
        """Compare everything with its limits once."""
        self._guarded(self._sight.log.rates.catch_up)
        known = {alert.key: alert for alert in self.alerts.open()}
        self._memory.damage = ""
        for kind in LOOKS:
            try:
                self._look_for(kind, known)
            except Exception as error:  # noqa: BLE001 - one kind that goes wrong must not hide those after it
                if isinstance(error, Damaged):
                    self._memory.damage = f"{error.attempted}: {error.obstacle}"
                self._complain(f"could not look for {kind}", error)
        self._looked = time.monotonic()

    def _look_for(self, kind: str, known: dict[str, Alert]) -> None:
        """If this fails, what is open stays open: nobody has seen that it is over."""
        signals = {signal.key: signal for signal in LOOKS[kind](self._sight, self.alerting.limits, self._memory)}
        for signal in signals.values():
            if alert := known.get(signal.key):
                self._go_on(alert, signal)
            elif signal.over:
                self._open(signal)
        for alert in known.values():
            if alert.kind == kind and alert.key not in signals:
                self._changed(self.alerts.resolve(alert, self._compose))
                self._wake.set()

    def quiet(self) -> float:
        """Seconds since the last look ended."""
        return time.monotonic() - self._looked

    def _open(self, signal: Signal) -> None:
        breach = signal.make()
        names = list(self._targets)
        alert = self.alerts.raise_(breach, names, self._compose, self.alerts.silenced(breach))
        _LOG.warning("an alert opened", extra={"facts": {"alert": alert.id, "key": alert.key, "title": alert.title}})
        self._changed(alert)
        self._wake.set()

    def _go_on(self, alert: Alert, signal: Signal) -> None:
        if signal.kind == "rollout" and signal.make().example != alert.example:
            self._changed(self.alerts.resolve(alert, self._compose))  # it was about another one
            self._open(signal)
            return
        now = self._sight.now()
        if signal.over and now - self._told.get(alert.id, alert.seen) >= _FRESH * 1_000_000:
            self._told[alert.id] = now
            self.alerts.seen(alert, signal.value, signal.reason)

    # -- sending

    def deliver(self) -> int:
        """Send every message that is due, one for each target; gives of how many it is written down how it went."""
        marked: list[Delivery] = []
        threads = [
            threading.Thread(
                target=self._guarded, args=(partial(self._try, one, marked),), name=f"tell {one.target}", daemon=True
            )
            for one in self.alerts.due()
        ]
        for thread in threads:  # not a pool: the end of the process would wait for a target that hangs
            thread.start()
        for thread in threads:
            thread.join()
        return len(marked)

    def _try(self, delivery: Delivery, marked: list[Delivery]) -> None:
        """Send one message and write down how it went. If that fails (a full disk), only the writing is tried again:
        what has arrived would come again and again."""
        key = (delivery.id, delivery.target)
        error, until = self._unmarked.get(key, ("", 0.0))
        if time.monotonic() >= until:
            error = self._tell(delivery)
            self._unmarked[key] = error, time.monotonic() + _REST if error else math.inf
        self.alerts.mark(delivery, error)
        del self._unmarked[key]
        marked.append(delivery)

    def _tell(self, delivery: Delivery) -> str:
        """Send one message to one target; gives why it did not arrive, or nothing."""
        target = self._targets.get(delivery.target)
        error = ""
        if target is None:
            error = "it is no longer among the targets in sampan.toml"
        else:
            try:
                self._send(target, delivery.id, delivery.body.encode(), self._outgoing)
            except SampanError as problem:
                error = f"{problem.obstacle}. {problem.advice}".strip()
        if error:
            level = logging.INFO if delivery.attempts else logging.WARNING  # it is said once, not at every attempt
            _LOG.log(level, "a message did not arrive", extra={"facts": {"target": delivery.target, "reason": error}})
        return error

    def test(self, names: list[str]) -> dict[str, str]:
        """Send a test to targets now (all, if none are named); gives what went wrong with each, or nothing."""
        return test(self.alerting, self._compose, self._sight.now(), names, self._outgoing, self._send)

    # -- in the hub

    def start(self) -> None:
        """Look and send until ``stop``."""
        for work in (self._looking, self._sending):
            thread = threading.Thread(target=work, name=f"watch{work.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End after what is under way; what waits is sent after the next start."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout=3)

    def _looking(self) -> None:
        while not self._stopping.wait(self.alerting.every):
            self._guarded(self.look)

    def _sending(self) -> None:
        while not self._stopping.is_set():
            if not self._guarded(self.deliver):
                self._wake.wait(min(self.alerting.every, 2.0))
                self._wake.clear()

    def _guarded(self, work: Callable[[], object]) -> object:
        """A watch that ends because of one mistake watches nothing: it says so and goes on."""
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - the edge of a thread
            if not self._stopping.is_set():
                self._complain(f"{getattr(work, '__name__', 'sending')} failed", error)
            return None

    def _complain(self, what: str, error: Exception) -> None:
        """Say what went wrong; not again until it goes wrong in another way."""
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, SampanError):
            why = f"{error.attempted}: {error.obstacle}"
        if self._complaints.get(what) != why:
            self._complaints[what] = why
            _LOG.error("%s: %s", what, why)


def test(
    alerting: Alerting,
    compose: Compose,
    now: int,
    names: list[str],
    outgoing: Outgoing | None = None,
    send: Send = send,
) -> dict[str, str]:
    """Send a test to targets; gives what went wrong with each, or nothing."""
    from sampan.base.errors import NotFound
    from sampan.watch.alerts import Alert, real_micros

    known = {target.name: target for target in alerting.targets}
    for name in names:
        if name not in known:
            there = ", ".join(known) or "none; see [alerts] in sampan.toml"
            raise NotFound("Test a target", f"there is none called {name[:80]!r}", f"Targets: {there}.")
    id = f"test.{real_micros()}"
    alert = Alert(
        id=id,
        key="test:test",
        kind="test",
        about="test",
        title="A test from Sampan: nothing is wrong",
        owner="",
        producer="",
        type="",
        field="",
        reason="somebody asked for it",
        example="",
        cause="`sampan alert test`",
        evidence="/alerts",
        action="Nothing: that you read this is the result.",
        value=0.0,
        bound=0.0,
        times=1,
        silenced="",
        opened=now,
        seen=now,
    )
    body = compose(id, "test", alert).encode()
    found = {}
    for name in names or list(known):
        found[name] = ""
        try:
            send(known[name], id, body, outgoing or Outgoing(alerting.allow_private))
        except SampanError as error:
            found[name] = f"{error.obstacle}. {error.advice}".strip()
    return found
