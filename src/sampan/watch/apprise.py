"""Apprise targets, each message sent by a process of its own that can connect to public addresses only.

Apprise speaks to more than a hundred services with connections of its own making, so the limit is set below all of
them: an audit hook of Python, which cannot be taken off again, sees every connect and every datagram and raises for
an address that ``outgoing`` would refuse. The same hook refuses to start programs. The address with its secrets goes
to the process by its standard input.
"""

import os
import subprocess
import sys
from typing import Any, Final

import msgspec

from sampan.base.errors import SampanError, Unreachable, Usage
from sampan.base.outgoing import Outgoing, public
from sampan.watch.limits import Target

_PATIENCE: Final = 30.0
#: Targets that are not a message to anybody elsewhere.
_HERE: Final = frozenset({"dbus", "file", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows"})
_MISSING: Final = 70
_REFUSED: Final = 71
_INVALID: Final = 72


class Task(msgspec.Struct, frozen=True):
    """What the process is told on its standard input."""

    url: str
    title: str
    text: str
    good: bool
    allowed: list[tuple[str, int]]


def send(target: Target, body: bytes, outgoing: Outgoing) -> None:
    """Send a message once. Raises SampanError if it did not arrive."""
    attempted = f"Tell {target.name}"
    if target.url.partition("://")[0].lower() in _HERE:
        raise Usage(attempted, "it is a target on this machine", "Name a service that people read elsewhere.")
    title, text, good = describe(body)
    task = Task(target.url, title, text, good, sorted(outgoing.allowed))
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONPATH", "VIRTUAL_ENV", "TMPDIR")
    environment = {name: os.environ[name] for name in keep if name in os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "sampan.watch.apprise"],
            input=msgspec.json.encode(task),
            capture_output=True,
            timeout=_PATIENCE,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unreachable(attempted, f"no answer within {_PATIENCE:g} s", "It is tried again.") from None
    if done.returncode == _MISSING:
        raise Usage(
            attempted, "Apprise is not installed", "Install it where the hub runs: pip install 'sampan[alerts]'."
        )
    if done.returncode == _INVALID:
        raise Usage(attempted, "Apprise does not know such an address", "Its documentation lists what it knows.")
    if done.returncode == _REFUSED:
        where = done.stdout.decode(errors="replace").strip()
        raise Usage(
            attempted,
            f"it would connect to {where}, which is not a public address",
            "If it is meant, name it in allow_private of [alerts].",
        )
    if done.returncode:
        raise Unreachable(attempted, "Apprise could not deliver it", "It is tried again.")


def describe(body: bytes) -> tuple[str, str, bool]:
    """A message for people: title, text, and whether it is good news."""
    from sampan.watch.alerts import Message

    message = msgspec.json.decode(body, type=Message)
    alert = message.alert
    over = message.event == "resolved"
    title = f"[{message.workspace}] {'Over: ' if over else ''}{alert.title}"
    lines = [
        ("Reason", alert.reason),
        ("Cause", alert.cause),
        ("Producer", alert.producer),
        ("Field", alert.field),
        ("Example", alert.example),
        ("Owner", alert.owner),
        ("Do", "" if over else alert.action),
        ("See", message.link),
    ]
    return title, "\n".join(f"{name}: {value}" for name, value in lines if value), over or message.event == "test"


def guard(allowed: list[tuple[str, int]], refused: list[str]) -> None:
    """From now on this process connects to public addresses only, and starts no program."""
    fine = frozenset(allowed)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
            address = given[1]
            if address is None:  # a connected socket's own peer, which was looked at when it connected
                return
            if not isinstance(address, tuple) or not isinstance(address[0], str):
                refused.append("a socket of this machine")
            elif not public(address[0]) and (address[0].partition("%")[0], address[1]) not in fine:
                refused.append(f"{address[0]}:{address[1]}")
            else:
                return
            raise PermissionError("not a public address")
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"):
            raise PermissionError("no programs are started here")

    sys.addaudithook(hook)


def main() -> int:
    """One message, from the standard input; the exit code says what came of it."""
    import logging

    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    try:
        import apprise
    except ModuleNotFoundError:
        return _MISSING
    logging.disable(logging.CRITICAL)
    refused: list[str] = []
    guard(task.allowed, refused)
    sender = apprise.Apprise()
    if not sender.add(task.url):
        return _INVALID
    kind = apprise.NotifyType.SUCCESS if task.good else apprise.NotifyType.WARNING
    done = sender.notify(title=task.title, body=task.text, notify_type=kind, body_format=apprise.NotifyFormat.TEXT)
    if done:
        return 0  # whatever was refused on the way: of a name's addresses, another one took it
    if refused:
        sys.stdout.write(refused[0])
        return _REFUSED
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SampanError as error:
        sys.exit(error.exit_code)
