"""Calls to others that a shadow's rules would make: noticed where Python makes them, named, and not made.

Nobody sees what a shadow would have said, so nothing may come of it. Calls by libraries that go round Python's sockets
are not noticed; asking the model is no call of the rules, and goes out.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_MOST: Final = 20  # calls of one record that are named
_LONGEST: Final = 200
_NETWORK: Final = ("socket.connect", "socket.sendto", "socket.sendmsg")
_NAMES: Final = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
_PROGRAMS: Final = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
_ALL: Final = frozenset((*_NETWORK, *_NAMES, *_PROGRAMS))


class HeldBack(PermissionError):
    """What the rules get in place of an answer."""


_held: list[str] | None = None
_hooked = False


@contextmanager
def held_back() -> Iterator[list[str]]:
    """Within it, calls to others raise HeldBack; gives the list that they are named in."""
    global _held, _hooked
    if not _hooked:
        sys.addaudithook(_hook)  # it cannot be taken away again, and costs a comparison
        _hooked = True
    before, _held = _held, []
    try:
        yield _held
    finally:
        _held = before


def _hook(event: str, given: tuple[Any, ...]) -> None:
    if _held is None or event not in _ALL:
        return
    what = _named(event, given)[:_LONGEST]
    if what not in _held and len(_held) < _MOST:
        _held.append(what)
    raise HeldBack(f"a shadow calls nobody: {what}")


def _named(event: str, given: tuple[Any, ...]) -> str:
    """Whom a call goes to: ``crm.example:443``, a path, the program."""
    if event in _PROGRAMS:
        return f"program {given[0]}"
    if event in _NAMES:
        port = given[1] if event == "socket.getaddrinfo" and len(given) > 1 else None
        host = given[0].decode(errors="replace") if isinstance(given[0], bytes) else given[0]
        return f"{host}:{port}" if port else f"{host}"
    address = given[1]
    return ":".join(map(str, address[:2])) if isinstance(address, tuple) else f"{address}"
