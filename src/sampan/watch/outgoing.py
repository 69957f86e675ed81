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
from typing import Final
from urllib.parse import urlsplit

from sampan.base.errors import Refused, Unreachable

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


class Outgoing:
    """Sends requests out. ``allowed`` are the private addresses with ports that may be called all the same."""

    def __init__(self, allowed: Collection[tuple[str, int]] = (), resolve: Resolve = resolve) -> None:
        self.allowed = frozenset(allowed)
        self._resolve = resolve

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
                    f'If it is meant, write allow_private = ["{text}:{port}"] into [alerts].',
                )
        if not found:
            raise Unreachable(f"Find {host[:100]}", "it has no address")
        return found

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Send a body; gives the status of the answer. Raises Refused, Unreachable."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        attempted = f"Call {host[:100]}"
        if parts.scheme not in ("http", "https") or not host:
            raise Refused(attempted, "it is not an http:// or https:// address")
        addresses = self.addresses(host, port)
        line = [_connect(addresses, port, attempted)]
        late = threading.Event()
        stop = threading.Timer(PATIENCE, _cut, [line, late])  # whatever it drips, and however slowly
        stop.daemon = True
        stop.start()
        try:
            if parts.scheme == "https":
                line[0] = ssl.create_default_context().wrap_socket(line[0], server_hostname=host)
            request = http.client.HTTPConnection(host, port, timeout=PATIENCE)
            request.auto_open = 0
            request.sock = line[0]
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            request.request("POST", path, body, headers)
            answer = request.getresponse()
            answer.read(_ANSWER)
            if late.is_set():
                raise TimeoutError(f"no whole answer within {PATIENCE:g} s")
            return answer.status
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Unreachable(attempted, str(error) or type(error).__name__, "It is tried again.") from error
        finally:
            stop.cancel()
            line[0].close()


def _connect(addresses: list[str], port: int, attempted: str) -> socket.socket:
    problem: OSError | None = None
    for address in addresses[:4]:
        try:
            return socket.create_connection((address, port), timeout=PATIENCE / 2)
        except OSError as error:
            problem = error
    raise Unreachable(attempted, str(problem), "It is tried again.") from problem


def _cut(line: list[socket.socket], late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        line[0].shutdown(socket.SHUT_RDWR)
