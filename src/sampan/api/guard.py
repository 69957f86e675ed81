"""One layer in front of every route: Host, policy, who asks, may they, does a foreign page make them ask.

It sits outside all routers and sees every HTTP request and every WebSocket, so that a route cannot be forgotten:
what has no policy is denied. It decides on ``Host``, ``Origin``, ``Sec-Fetch-*`` and a secret, never on a user agent.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import msgspec

from sampan.api import slashes
from sampan.api.policies import ANYBODY, BASIC, QUERY_SECRET, Policies
from sampan.base.errors import SampanError
from sampan.team.roles import PRINCIPAL, Principal

Scope = Any
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
#: Makes the content type and body of a refusal.
Refusal = Callable[[Scope, int, SampanError], tuple[bytes, bytes]]

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
#: Addresses that mean "every interface", which is no name that a Host header could have.
WILDCARDS: Final = frozenset({"0.0.0.0", "::", "", "*"})  # noqa: S104 - compared with, not bound to


class Gate(Protocol):
    """Whom a secret stands for, by the way it came."""

    def bearer(self, header: bytes) -> Principal | None: ...
    def basic(self, header: bytes) -> Principal | None: ...
    def plain(self, secret: bytes) -> Principal | None: ...
    def cookie(self, value: str) -> Principal | None: ...
    def why_not(self, sent: bytes) -> SampanError: ...


class Response(NamedTuple):
    """An answer, whole."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    async def give(self, send: Send) -> None:
        """As an ASGI application gives it."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})


class Hosts:
    """The names that the hub answers to. An exact list: DNS rebinding makes any other name point here."""

    def __init__(self, bind: str, port: int, extra: str = "") -> None:
        names = ["127.0.0.1", "localhost", "[::1]"]
        if bind not in WILDCARDS:
            names.append(f"[{bind}]" if ":" in bind else bind.lower())
        self._exact = {f"{name}:{port}".encode() for name in names}
        if port == 80:
            self._exact |= {name.encode() for name in names}
        for entry in filter(None, (part.strip().lower() for part in extra.split(","))):
            self._exact.add(entry.encode())
            if not entry.rpartition("]")[2].rpartition(":")[1]:
                self._exact.add(f"{entry}:{port}".encode())

    def allow(self, host: bytes) -> bool:
        return host.lower() in self._exact


#: Why a request that names nobody is refused.
NOBODY: Final = "nobody is signed in"


def refusal_json(scope: Scope, status: int, error: SampanError) -> tuple[bytes, bytes]:
    """A refusal for machines."""
    return b"application/json", msgspec.json.encode(error.body())


class Judge:
    """Says what a request that may not pass is answered."""

    def __init__(
        self, *, policies: Policies, gate: Gate, hosts: Hosts, cookie: str, refusal: Refusal = refusal_json
    ) -> None:
        self._policies = policies
        self._gate = gate
        self._hosts = hosts
        self._cookie = cookie
        self._refusal = refusal

    def refuses(self, scope: Scope) -> Response | None:
        """The answer to an HTTP request that is not let through; None for one that is."""
        slashes.keep(scope)
        verdict = self._judge(scope, "http")
        return None if verdict is None else self._refused(scope, *verdict)

    def admits(self, scope: Scope) -> bool:
        """Whether a request that was let through would still be: its token may have been taken back meanwhile."""
        return self._judge(scope, scope["type"]) is None

    def _judge(self, scope: Scope, kind: str) -> tuple[int, SampanError, Mapping[bytes, bytes]] | None:
        hosts = 0
        host = authorization = cookie = origin = b""
        site = mode = destination = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
                hosts += 1
            elif name == b"authorization":
                authorization = value
            elif name == b"cookie":
                cookie = cookie + b"; " + value if cookie else value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"sec-fetch-mode":
                mode = value
            elif name == b"sec-fetch-dest":
                destination = value
        if hosts != 1 or not self._hosts.allow(host):
            named = host.decode("latin-1")[:200] if hosts == 1 else f"{hosts} of them"
            advice = "Use the address that `sampan up` printed, or name further hosts in SAMPAN_ALLOWED_HOSTS."
            return 421, SampanError("Answer a request", f"its Host is not one of this hub's: {named!r}", advice), {}

        method: str = scope["method"] if kind == "http" else "WEBSOCKET"
        acts = self._policies.acts(scope["path"])
        public = acts is not None and acts.get("GET" if method == "HEAD" else method) == ANYBODY

        secret = _taken_out(scope) if scope["path"] in QUERY_SECRET else b""
        if authorization:
            principal = self._gate.bearer(authorization)
            if principal is None and scope["path"] in BASIC:
                principal = self._gate.basic(authorization)
        elif secret:
            principal = self._gate.plain(secret)
        else:
            principal = self._session(cookie) if cookie else None
            if self._foreign(method, host, origin, site, mode, destination, signed_in=principal is not None):
                return (
                    403,
                    SampanError(
                        "Answer a request",
                        "another site made your browser send it",
                        "Open the hub itself and try there.",
                    ),
                    {},
                )
        if public:
            scope[PRINCIPAL] = principal
            return None
        if principal is None:
            return 401, self._why_not(authorization or secret, cookie), {b"www-authenticate": b'Bearer realm="sampan"'}
        scope[PRINCIPAL] = principal
        if acts is None:
            return (
                404,
                SampanError("Answer a request", f"there is nothing at {slashes.shown(scope['path'])[:200]!r}"),
                {},
            )
        if method == "OPTIONS":
            allow = ", ".join(sorted({*acts, "OPTIONS"} | ({"HEAD"} if "GET" in acts else set())))
            return 204, SampanError("", ""), {b"allow": allow.encode()}
        act = acts.get("GET" if method == "HEAD" else method)
        if act is None:
            allow = ", ".join(sorted(acts))
            return (
                405,
                SampanError("Answer a request", f"{method} is not possible here", f"Possible: {allow}."),
                {b"allow": allow.encode()},
            )
        if not principal.may(act):
            return (
                403,
                SampanError(
                    "Answer a request",
                    f"the token {principal.name!r} has the role {principal.role!r}, which may not {act}",
                    "Ask an admin for a token with a wider role.",
                ),
                {},
            )
        return None

    def _why_not(self, sent: bytes, cookies: bytes) -> SampanError:
        if sent:
            return self._gate.why_not(sent)
        ended = any(part.strip().startswith(self._cookie.encode() + b"=") for part in cookies.split(b";"))
        return SampanError(
            "Answer a request",
            "your session has ended" if ended else NOBODY,
            "Send `Authorization: Bearer TOKEN`, or open a sign-in link: `sampan token link` makes one.",
        )

    def _session(self, cookies: bytes) -> Principal | None:
        for part in cookies.split(b";"):
            name, _, value = part.strip().partition(b"=")
            if name == self._cookie.encode():
                return self._gate.cookie(value.decode("latin-1"))
        return None

    @staticmethod
    def _foreign(
        method: str, host: bytes, origin: bytes, site: bytes, mode: bytes, destination: bytes, *, signed_in: bool
    ) -> bool:
        """Whether a browser sent this for a page that is not ours."""
        if method in SAFE:
            # A foreign page may link to us. It may not embed us or read what only a signed-in person sees.
            if not signed_in or not site or site in (b"same-origin", b"none"):
                return False
            return mode != b"navigate" or destination not in (b"", b"document")
        own = origin in (b"http://" + host, b"https://" + host)
        if origin and not own:
            return True
        if site:
            return site not in (b"same-origin", b"none")
        if origin:
            return False
        return signed_in  # a browser that says neither where it comes from nor what it is doing

    def _refused(self, scope: Scope, status: int, error: SampanError, headers: Mapping[bytes, bytes]) -> Response:
        kind, body = self._refusal(scope, status, error) if status != 204 else (b"text/plain", b"")
        own = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
        return Response(status, [*own, *headers.items()], b"" if scope["method"] == "HEAD" else body)


class Guard(Judge):
    """Lets a request through to ``app``, or answers it."""

    def __init__(
        self, app: Asgi, *, policies: Policies, gate: Gate, hosts: Hosts, cookie: str, refusal: Refusal = refusal_json
    ) -> None:
        super().__init__(policies=policies, gate=gate, hosts=hosts, cookie=cookie, refusal=refusal)
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        kind = scope["type"]
        if kind == "lifespan":
            return self._app(scope, receive, send)
        if kind == "websocket":
            verdict = self._judge(scope, kind)
            return self._app(scope, receive, send) if verdict is None else _hang_up(receive, send, *verdict[:2])
        refused = self.refuses(scope)
        return self._app(scope, receive, send) if refused is None else refused.give(send)


async def _hang_up(receive: Receive, send: Send, status: int, error: SampanError) -> None:
    await receive()  # websocket.connect
    await send({"type": "websocket.close", "code": 4000 + status, "reason": error.obstacle[:100]})


def _taken_out(scope: Scope) -> bytes:
    """The secret of a request's query, which has it no more afterwards: what is logged of a request has no secret."""
    kept, secret = [], b""
    for part in scope["query_string"].split(b"&"):
        name, _, value = part.partition(b"=")
        if unquote_to_bytes(name) == b"api_secret":
            secret = secret or unquote_to_bytes(value.replace(b"+", b" "))
        else:
            kept.append(part)
    scope["query_string"] = b"&".join(kept)
    return secret
