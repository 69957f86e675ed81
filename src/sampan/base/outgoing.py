"""Calls that leave this machine: only to addresses that anybody on the internet could call.

A name is resolved once, every address that it has is looked at, and the connection goes to one of exactly these;
an answer of the name server that changes afterwards changes nothing. Redirects are not followed and proxies of the
environment are not asked. Whoever must reach a private address names it in ``allow_private``.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from sampan.base.errors import BadSetting, Refused, Unreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Gives every address of a name, as text.
Resolve = Callable[[str, int], list[str]]

PATIENCE: Final = 10.0  # seconds for a whole call
_ANSWER: Final = 65_536  # bytes of an answer that are read
_TRANSLATED: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
#: Public by their number, but answered by the cloud that the machine runs in.
_METADATA: Final = frozenset({ipaddress.ip_address("168.63.129.16"), ipaddress.ip_address("192.0.0.192")})


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name; of 2130706433, 0x7f.1 and 0177.0.0.1 too, which the system reads as addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def public(text: str) -> bool:
    """Whether an address, written as numbers, is one that anybody could call."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return _public(address)


def _public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _public(address.ipv4_mapped)
        # addresses that carry another one inside: whoever routes them, we do not
        if address.sixtofour is not None or address.teredo is not None or any(address in net for net in _TRANSLATED):
            return False
        if int(address) >> 32 == 0:  # ::127.0.0.1, the form before mapped ones
            return False
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback)
        and not (address.is_link_local or address.is_private)
        and address not in _METADATA
    )


def private_address(text: str, where: str) -> tuple[str, int]:
    """``127.0.0.1:9000`` or ``[::1]:9000`` as an exception names it. Raises BadSetting."""
    host, colon, port = text.strip().rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        if colon and 0 < int(port) < 65_536:
            return str(address), int(port)
    except ValueError:
        pass
    raise BadSetting(f"Read {where}", f"{text!r} is not ADDRESS:PORT", 'For instance "127.0.0.1:9000" or "[::1]:9000".')


class Outgoing:
    """Sends requests out. ``allowed`` are the private addresses with ports that may be called all the same; ``advice``
    says how one more is allowed, with the address for ``{}``."""

    def __init__(
        self,
        allowed: Collection[tuple[str, int]] = (),
        resolve: Resolve = resolve,
        advice: str = 'If it is meant, write allow_private = ["{}"] into [alerts].',
    ) -> None:
        self.allowed = frozenset(allowed)
        self._resolve = resolve
        self._advice = advice

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses to connect to. Raises Refused if one of them is not public, Unreachable if there is none."""
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"Find {host[:100]}", str(error), "Is the name right, and is there a network?") from error
        for text in found:
            if not public(text) and (str(ipaddress.ip_address(text.partition("%")[0])), port) not in self.allowed:
                raise Refused(
                    f"Call {host[:100]}",
                    f"its address {text} is not a public one",
                    self._advice.format(f"[{text}]:{port}" if ":" in text else f"{text}:{port}"),
                )
        if not found:
            raise Unreachable(f"Find {host[:100]}", "it has no address")
        return found

    def connect(self, url: str, patience: float) -> http.client.HTTPConnection:
        """A connection to a web address, made to one of those that were looked at. Raises Refused, Unreachable."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        attempted = f"Call {host[:100]}"
        try:
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            raise Refused(attempted, "its port is no number from 1 to 65535") from None
        if parts.scheme not in ("http", "https") or not host:
            raise Refused(attempted, "it is not an http:// or https:// address")
        line = _connect(self.addresses(host, port), port, attempted, patience / 2)
        try:
            if parts.scheme == "https":
                line = _greeted(line, host, patience)
        except (OSError, ValueError) as error:
            line.close()
            raise Unreachable(attempted, str(error) or type(error).__name__, "It is tried again.") from error
        line.settimeout(patience)
        made = http.client.HTTPConnection(host, port, timeout=patience)
        made.auto_open = 0
        made.sock = line
        return made

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a body; gives the status of the answer. Raises Refused, Unreachable."""
        line = self.connect(url, PATIENCE)
        try:
            return send(line, url, body, headers, PATIENCE, _ANSWER).status
        finally:
            line.close()


class Answer(NamedTuple):
    """What came back. ``whole``: the body is not longer than what was read of it."""

    status: int
    body: bytes
    whole: bool


def send(
    line: http.client.HTTPConnection, url: str, body: bytes, headers: dict[str, str], patience: float, limit: int
) -> Answer:
    """Post a body over a connection, and read up to ``limit`` bytes of the answer. Raises Unreachable, also for one
    that is not whole after ``patience`` seconds, however slowly it drips."""
    parts = urlsplit(url)
    late = threading.Event()
    stop = threading.Timer(patience, _cut, [line.sock, late])
    stop.daemon = True
    stop.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        line.request("POST", path, body, headers)
        answer = line.getresponse()
        given = answer.read(limit)
        whole = not answer.read(1)
        if late.is_set():
            raise TimeoutError(f"no whole answer within {patience:g} s")
        return Answer(answer.status, given, whole)
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = f"no whole answer within {patience:g} s" if late.is_set() else str(error) or type(error).__name__
        raise Unreachable(f"Call {(parts.hostname or '')[:100]}", said, "It is tried again.") from error
    finally:
        stop.cancel()


def _connect(addresses: list[str], port: int, attempted: str, patience: float) -> socket.socket:
    problem: OSError | None = None
    for address in addresses[:4]:
        try:
            line = socket.create_connection((address, port), timeout=patience)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # head and body leave one by one
            return line
        except OSError as error:
            problem = error
    said = f"{address} port {port}: {(problem and problem.strerror) or problem}"
    raise Unreachable(attempted, said, "It is tried again.") from problem


def _greeted(line: socket.socket, host: str, patience: float) -> socket.socket:
    """The line with TLS on it."""
    made = ssl.create_default_context().wrap_socket(line, server_hostname=host, do_handshake_on_connect=False)
    stop = threading.Timer(patience, _cut, [made, threading.Event()])
    stop.daemon = True
    stop.start()
    try:
        made.do_handshake()
    except BaseException:
        made.close()
        raise
    finally:
        stop.cancel()
    return made


def _cut(line: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
