"""Ways in and out: health, sign-in by link or token, sign-out, the few static files."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import BaseRouteHandler

from sampan.base.errors import Conflict, NotFound, Refused, SampanError
from sampan.hub import plotly
from sampan.hub.render import Answer, Frame, problem, wants_json
from sampan.hub.urls import STAMP
from sampan.team.gate import Gate
from sampan.team.sessions import LONGEST

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
Ask = Request[Any, Any, Any]


class Health(msgspec.Struct):
    """``ready`` or ``not ready``, and why. ``instance`` tells one start of a hub from another."""

    status: str
    instance: str
    reason: str = ""


def response(answer: Answer, headers: dict[str, str] | None = None) -> Response[bytes]:
    """An answer as Litestar wants it. What a signed-in person saw is not kept by the browser."""
    return Response(
        answer.body,
        status_code=answer.status,
        media_type=answer.type,
        headers={"cache-control": "no-store", "vary": "accept, cookie", **(headers or {})},
    )


def refuse(request: Ask, status: int, error: SampanError, frame: Frame, several: Sequence[str] = ()) -> Response[bytes]:
    """An error as a page or as JSON, as the asker prefers. The page of a question that was wrong keeps what was asked;
    ``several``: what of it may be given more than once, and is chosen, not typed."""
    if wants_json(request.headers.get("accept", ""), request.query_params) or "html" not in request.headers.get(
        "accept", ""
    ):
        return response(Answer(status, "application/json", msgspec.json.encode(error.body())))
    asked = list(request.query_params.multi_items()) if status == 400 and request.method == "GET" else []
    back = _page_above(request.url.path) if request.method == "POST" else ""
    return response(problem(status, error, frame, asked, several, back))


def _page_above(path: str) -> str:
    """The page that a form's address lies below; empty if there is none."""
    from sampan.hub.sitemap import find

    while path.count("/") > 1:
        path = path.rpartition("/")[0]
        try:
            find(path)
        except KeyError:
            continue
        return path
    return ""


def doors(
    gate: Gate, cookie: str, instance: str, trouble: Callable[[], str], frame: Callable[[], Frame]
) -> list[BaseRouteHandler]:
    """The routes. ``trouble`` says why the hub is not ready, or nothing."""
    static = {
        file.name: (file.read_bytes(), _TYPES[file.suffix]) for file in (Path(__file__).parent / "static").iterdir()
    }

    @get("/health")
    async def health() -> Response[bytes]:
        reason = trouble()
        body = msgspec.json.encode(Health("not ready" if reason else "ready", instance, reason))
        return response(Answer(503 if reason else 200, "application/json", body))

    @get("/static/{name:str}")
    async def file(request: Ask, name: str) -> Response[bytes]:
        if name not in static:
            return refuse(request, 404, NotFound("Open a file", f"no file {name[:100]!r}"), frame())
        body, kind = static[name]
        fresh = STAMP in request.url.query
        keep = "public, max-age=31536000, immutable" if fresh else "no-cache"
        return Response(body, media_type=kind, headers={"cache-control": keep})

    @get("/charts/{name:str}", operation_id="plotly")
    async def charts(request: Ask, name: str) -> Response[bytes]:
        """Plotly's script, compressed; under no other name than the one with its digest."""
        path = await asyncio.to_thread(plotly.script)
        if path is None or name != await asyncio.to_thread(plotly.name):
            return refuse(request, 404, NotFound("Open a script", f"no script {name[:100]!r}"), frame())
        headers = {"cache-control": "private, max-age=31536000, immutable", "vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"] = "gzip"
            body = await asyncio.to_thread(plotly.compressed)
        else:
            body = await asyncio.to_thread(path.read_bytes)
        return Response(body, media_type="text/javascript", headers=headers)

    def enter(request: Ask, value: str) -> Response[bytes]:
        target = Answer(303, "text/plain", b"")
        secure = "; Secure" if request.headers.get("x-forwarded-proto") == "https" else ""
        crumb = f"{cookie}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={LONGEST // 1_000_000}{secure}"
        return response(target, {"location": "/", "set-cookie": crumb, "referrer-policy": "no-referrer"})

    @get("/sign-in")
    async def sign_in(request: Ask) -> Response[bytes]:
        code = request.query_params.get("code", "")
        if not code:
            advice = "Open the link that `sampan up` printed, or make one with `sampan token link`."
            return refuse(request, 401, Refused("Sign in", "this address has no code", advice), frame())
        if principal := gate.links.use(code):
            return enter(request, await asyncio.to_thread(gate.sessions.open, principal))
        advice = "Make another with `sampan token link`."
        if gate.links.was_used(code):
            return refuse(request, 409, Conflict("Sign in", "this link was used before", advice), frame())
        return refuse(request, 401, Refused("Sign in", "this link is unknown or too old", advice), frame())

    @post("/sign-in")
    async def sign_in_by_token(request: Ask, body: bytes) -> Response[bytes]:
        from urllib.parse import parse_qs

        if gate.too_many_tries():
            error = Refused("Sign in", "too many wrong tokens within a minute", "Wait a minute and try again.")
            return refuse(request, 429, error, frame())
        secret = parse_qs(body[:2000].decode("latin-1")).get("token", [""])[0].strip()
        found = await asyncio.to_thread(gate.secret, secret)
        if found is None:
            gate.note_failure()
            why = await asyncio.to_thread(gate.why_not, secret.encode("latin-1"))
            return refuse(request, 401, Refused("Sign in", why.obstacle, why.advice), frame())
        return enter(request, await asyncio.to_thread(gate.sessions.open, *found))

    @post("/sign-out")
    async def sign_out(request: Ask) -> Response[bytes]:
        if value := request.cookies.get(cookie):
            await asyncio.to_thread(gate.sessions.close, value)
            gate.forget()
        gone = f"{cookie}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
        return response(Answer(303, "text/plain", b""), {"location": "/sign-in", "set-cookie": gone})

    return [health, file, charts, sign_in, sign_in_by_token, sign_out]
