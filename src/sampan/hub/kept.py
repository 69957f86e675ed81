"""What a question to the log has found, kept for a moment: open pages ask again and again while events keep coming."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from sampan.log.log import Log

T = TypeVar("T")
_KEPT: Final = 32
_PATIENCE: Final = 5.0  # what is found may be as many times older than it took to find,
_OLDEST: Final = 2.0  # and not older than so many seconds


class Kept(Generic[T]):
    """The newest answers to one kind of question."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[Hashable, tuple[str, int, float, T]] = {}

    def ask(self, log: "Log", which: Hashable, question: Callable[[], T]) -> T:
        """The answer as of now, or of a moment ago if it costs much. ``which``: all that it depends on but the log.

        What was found before a subject's key was destroyed is found anew.
        """
        key, position, gone = (str(log.folder), which), str(log.position()), log.keys.destroyed()
        began = time.monotonic()
        with self._lock:
            kept = self._found.get(key)
            if kept is not None and kept[1] == gone and (kept[0] == position or began < kept[2]):
                return kept[3]
        found = question()
        ended = time.monotonic()
        with self._lock:
            self._found.pop(key, None)
            self._found[key] = position, gone, ended + min(_PATIENCE * (ended - began), _OLDEST), found
            while len(self._found) > _KEPT:
                del self._found[next(iter(self._found))]
        return found

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._found.clear()
