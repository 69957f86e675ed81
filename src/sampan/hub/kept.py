"""What a question to the log has found, kept for a moment: open pages ask again and again while events keep coming.

What is quick, as of a small log, is found anew whenever something has come. So is what has been asked once only: it may
have taken long because it was the first.
"""

import threading
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from sampan.log.log import Log

T = TypeVar("T")
_KEPT: Final = 32
_QUICK: Final = 0.1  # seconds
_PATIENCE: Final = 5.0  # what is found may be as many times older than it took to find,
_OLDEST: Final = 2.0  # and not older than so many seconds


class _Answer(NamedTuple, Generic[T]):
    """What was found at a position with so many keys destroyed, how long that took, and until when it is good enough
    whatever comes."""

    found: T
    position: str
    gone: int
    took: float
    until: float


class Kept(Generic[T]):
    """The newest answers to one kind of question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[Hashable, _Answer[T]] = {}

    def ask(self, log: "Log", which: Hashable, question: Callable[[], T]) -> T:
        """The answer as of now, or of a moment ago if it costs much. ``which``: all that it depends on but the log.

        What was found before a subject's key was destroyed is found anew.
        """
        key, position, gone = (str(log.folder), which), str(log.position()), log.keys.destroyed()
        began = time.monotonic()
        with self._lock:
            kept = self._found.get(key)
            if kept is not None and kept.gone == gone and (kept.position == position or began < kept.until):
                return kept.found
        found = question()
        ended = time.monotonic()
        took = ended - began
        usual = min(took, kept.took) if kept is not None else 0.0
        until = ended + min(_PATIENCE * usual, _OLDEST) if usual >= _QUICK else ended
        with self._lock:
            self._found.pop(key, None)
            self._found[key] = _Answer(found, position, gone, took, until)
            while len(self._found) > _KEPT:
                del self._found[next(iter(self._found))]
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._found.clear()
