"""Models and rules that take too long are interrupted, so that there is an answer while somebody still waits for one.

A thread looks how long the loop has been at it, and has a signal raise ``Overdue`` within the model or the rule, and
nowhere else. What does not come back to Python (a library that hangs), or catches everything, is not interrupted; then
the process is ended with what is under way (``sampan.api.entrance``, ``sampan.serve.lane``). A model that is asked in a
thread is left alone there, and what is declared for that answers.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sampan.serve.overload import TooSlow, interrupted

T = TypeVar("T")
_SIGNAL: Final = signal.SIGUSR2
_LIMIT, _MORE = 0.6, 0.12  # of the time in which clients are answered: at first, and for what answers instead
MODEL, RULE, BEFORE = range(3)  # in this order one stands in for the other: so often it may have rung before


class Overdue(BaseException):  # a rule that catches every Exception does not catch this
    """Raised where a model or a rule takes too long."""


class Alarm:
    """One of a process. Within ``with`` it is set; outside, and before ``start``, it does not ring."""

    def __init__(self, endpoint: str = "") -> None:
        self._endpoint = endpoint
        self._limit = self._more = 0.0
        self._begun = 0.0
        self._within = False
        self._rung = 0
        self._main = threading.main_thread().ident
        #: Whether it has ever rung: what was interrupted may be half done, so another process must serve.
        self.rang = False

    def start(self, patience: float) -> None:
        """Ring from now on, so that whoever waits for that many seconds has an answer. Called in the main thread."""
        self._limit, self._more = _LIMIT * patience, _MORE * patience
        signal.signal(_SIGNAL, self._ring)
        threading.Thread(target=self._watch, daemon=True, name="alarm").start()

    @property
    def limit(self) -> float | None:
        """Seconds after which something else is to answer; None for never."""
        return self._limit or None

    def too_slow(self) -> TooSlow:
        """What is said of a model that is still at it in a thread, where nothing interrupts it: another process must
        serve."""
        self.rang = True
        return interrupted(self._endpoint, self._limit)

    def __enter__(self) -> None:
        self._begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._begun, self._rung = 0.0, 0

    def guard(self, call: Callable[..., T], what: int) -> Callable[..., T]:
        """The same, interrupted when it takes too long. It then raises ``TooSlow``; and at once, if what it stands in
        for took too long and it has, too."""

        def guarded(*given: Any, **more: Any) -> T:
            if threading.get_ident() != self._main:  # where it cannot be interrupted, and holds nobody up
                return call(*given, **more)
            if self._rung > what:
                raise interrupted(self._endpoint, self._limit)
            try:
                self._within = True
                try:
                    return call(*given, **more)
                finally:
                    self._within = False
            except Overdue:
                raise interrupted(self._endpoint, self._limit) from None

        return guarded

    def _ring(self, number: int, frame: object) -> None:
        # By now it may be at another call than the one that the thread has seen.
        if self._within and self._begun and time.monotonic() - self._begun > self._limit:
            self._within, self.rang = False, True
            self._rung += 1
            self._begun = time.monotonic() - self._limit + self._more
            raise Overdue

    def _watch(self) -> None:
        main = self._main
        assert main is not None
        while True:
            time.sleep(self._more / 4)
            begun = self._begun
            if begun and self._within and time.monotonic() - begun > self._limit:
                sys.stderr.write(f"A model or a rule took more than {self._limit:g} s and is interrupted.\n")
                signal.pthread_kill(main, _SIGNAL)
