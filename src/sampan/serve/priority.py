"""How soon a process gets a processor that others want too: what nobody waits for comes after the rest.

Only what can be taken back is used, as a candidate may become what is in force, and a nice value cannot be raised again
without rights. That is the policy for batches (Linux, ``sched(7)``), under which a process interrupts nobody when it
wakes, and, where the system weighs sessions (``autogroup``), the weight of its own.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

_LATER: Final = 10  # a tenth of what any other gets, where all want more than there is: enough to come up


def lower(pid: int) -> bool:
    """Let others go first; whether all of it could be done. A process that is gone is no failure."""
    return _set(pid, low=True)


def restore(pid: int) -> bool:
    """Treat it as any other again; whether all of it could be done: a session's weight may be changed ten times a
    second, those of all sessions together."""
    return _set(pid, low=False)


def _set(pid: int, *, low: bool) -> bool:
    if sys.platform != "linux":
        return True
    policy = os.SCHED_BATCH if low else os.SCHED_OTHER
    done: set[Path] = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while more := set(Path(f"/proc/{pid}/task").iterdir()) - done:  # a thread takes after the one that starts it
            for task in more:
                with contextlib.suppress(OSError):  # ended meanwhile; or the system does not let us, which is no harm
                    os.sched_setscheduler(int(task.name), policy, os.sched_param(0))
            done |= more
    group = Path(f"/proc/{pid}/autogroup")
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        try:
            if os.getsid(pid) == pid:  # its own session, and nobody else's
                group.write_text(f"{_LATER if low else 0}")
        except BlockingIOError:
            return False
        except OSError:  # a system without
            pass
    return True
