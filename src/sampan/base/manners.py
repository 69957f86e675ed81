"""How a thread that computes leaves room for the one that answers requests."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

_WORK: Final = 0.0005  # seconds
_REST: Final = 0.003
_Item = TypeVar("_Item")


def resting(items: Iterable[_Item]) -> Iterator[_Item]:
    """The items; whoever takes them rests after every half millisecond of work, unless it is the main thread.

    A thread that computes in Python keeps the interpreter for five milliseconds whenever another wants it, and the
    event loop wants it again for each of its callbacks: a tenth of a second of work held requests up for far longer.
    """
    if threading.current_thread() is threading.main_thread():
        yield from items
        return
    began = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - began > _WORK:
            time.sleep(_REST)
            began = time.perf_counter()
