"""MLflow's REST API as a bare ASGI application: logging is called so often that a router would cost more than it.

JSON comes in and goes out; artifacts are streams (``sampan.api.mlflow_artifacts``). Every failure is MLflow's own
``{"error_code", "message"}``.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec

from sampan.api.bodies import JSON, TooLarge
from sampan.api.guard import Receive, Scope, Send
from sampan.api.mlflow_artifacts import MlflowArtifacts
from sampan.api.mlflow_errors import failure
from sampan.api.mlflow_messages import ARTIFACTS, MESSAGES, MODEL, UPLOADS, Route
from sampan.api.mlflow_registry import MlflowRegistry
from sampan.api.mlflow_routes import MlflowRoutes
from sampan.api.work import Work
from sampan.base.errors import NotFound, SampanError, Usage
from sampan.base.reports import report
from sampan.models.registry import Models
from sampan.team.roles import PRINCIPAL
from sampan.track.limits import BATCH_BYTES
from sampan.track.tracking import Tracking

_NOTHING: Final = b"{}"
_MODELS: Final = MODEL.partition("{")[0]
_BATCH: Final = "/runs/log-batch"


class Gone(Exception):
    """The client went away before all of its request had come."""


class Mlflow:
    """Answers clients of MLflow's. Limits are in bytes; ``base_url`` is where they reach the hub."""

    def __init__(
        self, tracking: Tracking, models: Models, work: Work, body_limit: int, artifact_limit: int, base_url: str
    ) -> None:
        self._routes = MlflowRoutes(tracking)
        self._registry = MlflowRegistry(models, work)
        self._artifacts = MlflowArtifacts(tracking, models, artifact_limit, base_url)
        self._limit = body_limit
        self._decoders = {route: msgspec.json.Decoder(takes, strict=False) for route, (takes, _, _) in MESSAGES.items()}
        self._encoder = msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            if path.startswith((ARTIFACTS, UPLOADS)):
                await self._artifacts(scope, receive, send)
                return
            status, body = 200, await self._answer(scope, receive)
        except Gone:
            return  # nobody waits for an answer
        except SampanError as error:
            status, body = failure(error)
        except Exception as error:  # noqa: BLE001 - a client of MLflow's reads its own kind of failure only
            said = f"{type(error).__name__}; details: {await asyncio.to_thread(report, error)}"
            status, body = failure(SampanError("Answer a request", said))
        headers = [JSON, (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
        if status == 503:
            headers.append((b"retry-after", b"1"))
        if scope["method"] == "PUT":
            headers.append((b"connection", b"close"))  # else the rest of what is not taken would be waited for
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        route: Route = (scope["method"], scope["path"])
        body = await self._body(scope, receive)
        if (log := self._routes.logged.get(route)) is not None:
            await asyncio.wrap_future(log(self._read(route, body, scope)))
            return _NOTHING
        if (begun := self._routes.begun.get(route)) is not None:
            begin, write = begun
            return self._encoder.encode(write(await asyncio.wrap_future(begin(self._read(route, body, scope)))))
        if (register := self._registry.done.get(route)) is not None:
            actor = scope[PRINCIPAL].name
            return await asyncio.to_thread(
                lambda: self._encoder.encode(register(self._read(route, body, scope), actor))
            )
        named: Mapping[str, str] = {}
        if route not in self._routes.done:
            route, named = _templated(*route)
        do = self._routes.done[route]
        return await asyncio.to_thread(lambda: self._encoder.encode(do(self._read(route, body, scope), named)))

    def _read(self, route: Route, body: bytes, scope: Scope) -> Any:
        try:
            if route[0] == "GET" or (route[0] == "DELETE" and not body):
                return _from_query(scope["query_string"], MESSAGES[route][0])
            return self._decoders[route].decode(body or b"{}")
        except (msgspec.MsgspecError, RecursionError) as error:
            raise Usage("Read a request", str(error)[:300], "/v1/openapi describes every route.") from None

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = BATCH_BYTES if scope["path"].endswith(_BATCH) else self._limit
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > limit:
                advice = "Send it in smaller requests."
                raise TooLarge("Read a request", f"the body has more than {limit} bytes ({size} so far)", advice)
            parts.append(part)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)


def _templated(method: str, path: str) -> tuple[Route, Mapping[str, str]]:
    """The route of a path that names a logged model, and what it names."""
    if path.startswith(_MODELS):
        model, *rest = path[len(_MODELS) :].split("/")
        named = {"model_id": model}
        if len(rest) == 2 and rest[0] == "tags":
            named["key"], rest[1] = rest[1], "{key}"
        route = method, "/".join([MODEL, *rest])
        if route in MESSAGES:
            return route, named
    raise NotFound("Answer a request", f"there is nothing at {path[:200]!r}")


def _from_query(query: bytes, kind: Any) -> Any:
    """A message from a query string: what may come several times is a list."""
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=1000)
    many = {field.encode_name for field in msgspec.structs.fields(kind) if str(field.type).startswith("list")}
    flat = {name: values if name in many else values[-1] for name, values in given.items()}
    return msgspec.convert(flat, kind, strict=False)
