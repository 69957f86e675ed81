"""The process that workers are forked from: a fresh interpreter that has imported what steps will need.

It is started early, so that its imports overlap planning, and forks a worker per request. It has no threads of its
own and knows nothing of the run. When the engine's process ends, its socket ends with it; this process then leaves
and its workers are killed by the kernel (Linux) or see their own sockets end.

Requests are lines: ``preload MODULE…`` and ``fork NUMBER`` (with the worker's socket attached). Answers are lines:
``started NUMBER PID`` and ``exited NUMBER STATUS MAXRSS``.
"""

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import warnings
from importlib import import_module

_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    """Serve until the engine is gone."""
    gc.disable()  # what is imported stays
    control = socket.socket(fileno=descriptor)
    control.set_inheritable(False)
    waking, woken = os.pipe()
    for end in (waking, woken):
        os.set_blocking(end, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the engine decides what an interrupt means
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    import ctypes  # noqa: F401 - before the first fork, for die_with_parent

    from sampan.flow import child

    # Libraries start threads when imported; those that we preload allow a fork before their first use.
    warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")
    me = os.getpid()
    workers: dict[int, int] = {}
    rest = b""
    while True:
        ready = select.select([control.fileno(), waking], [], [])[0]
        if waking in ready:
            os.read(waking, 4096)
            _reap(control, workers)
        if control.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(control, 65536, 1)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            verb, *words = line.decode().split(" ")
            if verb == "preload":
                _preload(words)
            elif verb == "fork":
                gc.freeze()  # so that no worker looks through what it shares, which would copy it
                pid = os.fork()
                if pid == 0:
                    gc.enable()
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    control.close()
                    os.close(waking)
                    os.close(woken)
                    os.setsid()  # so that the engine can kill what the step starts, too
                    die_with_parent(me)
                    child.main(socket.socket(fileno=descriptors[0]))
                    os._exit(0)
                os.close(descriptors[0])
                workers[pid] = int(words[0])
                control.sendall(f"started {words[0]} {pid}\n".encode())


def _reap(control: socket.socket, workers: dict[int, int]) -> None:
    while workers:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in workers:
            memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            code = os.waitstatus_to_exitcode(status)
            control.sendall(f"exited {workers.pop(pid)} {code} {memory}\n".encode())


def _preload(modules: list[str]) -> None:
    for name in modules:
        with contextlib.suppress(Exception):  # the step that needs it says what is wrong, in its own log
            import_module(name)


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends. Elsewhere than on Linux the socket's end does it."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # it ended before we asked
