"""Connections that one process leaves and another finds: file descriptors, sent over a socket.

A message has one byte for each connection in it; where that is 1, what was read of it lies in a file that follows it.
"""

import array
import os
import socket
import tempfile
from collections.abc import Iterable, Iterator
from typing import Final

_AT_ONCE: Final = 100  # connections in one message; a system takes 253 files
_FILES: Final = 2 * _AT_ONCE


def leave(file: int, connections: Iterable[tuple[int, bytes]]) -> None:
    """Leave connections, each with what was read of it, for whoever looks next; those that do not fit are closed."""
    with socket.socket(fileno=os.dup(file)) as way:
        waiting = list(connections)
        while waiting:
            some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
            files: list[int] = []
            marks = bytearray()
            for connection, read in some:
                files.append(connection)
                marks.append(bool(read))
                if read:
                    files.append(_written(read))
            try:
                socket.send_fds(way, [marks], files)
            except OSError:  # nobody has looked for so long that no more go in
                pass
            finally:
                for one in files:
                    os.close(one)


def find(file: int) -> Iterator[tuple[int, bytes]]:
    """All that were left."""
    with socket.socket(fileno=os.dup(file)) as way:
        while True:
            try:
                marks, ancillary, _, _ = way.recvmsg(_AT_ONCE, socket.CMSG_SPACE(_FILES * array.array("i").itemsize))
            except OSError:
                return
            files = array.array("i")
            for _, _, data in ancillary:
                files.frombytes(data[: len(data) - len(data) % files.itemsize])
            left = iter(files)
            for mark in marks:
                connection = next(left, None)
                if connection is None:
                    break
                os.set_inheritable(connection, False)
                yield connection, _read(next(left, None)) if mark else b""
            if not marks:
                return


def _written(data: bytes) -> int:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        return os.dup(file.fileno())


def _read(file: int | None) -> bytes:
    if file is None:
        return b""
    with open(file, "rb") as found:  # noqa: PTH123 - it has no path
        found.seek(0)
        return found.read()
