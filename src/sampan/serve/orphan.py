"""A serving process ends when the hub that started it ends, however that happens.

The end of the socket pair is the first sign. It is not seen while a rule keeps the process busy, so the kernel is
asked too (Linux: PR_SET_PDEATHSIG), or a thread looks at the parent's id (elsewhere).
"""

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with(parent: int) -> None:
    """Arrange that this process ends with its parent; ends it at once if the parent is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True, name="parent watch").start()
    if os.getppid() != parent:
        os._exit(0)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)
