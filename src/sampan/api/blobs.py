"""``/v1/blobs``: bytes that events will name, and bytes that they name, to be taken away.

What is handed out never becomes a page of the hub: it is a download, of no type that a browser runs. ``?show=image``
gives a picture its type if its own first bytes say that it is a PNG, JPEG, GIF or WebP, whatever its sender said.
"""

import asyncio
from typing import Any

from litestar import Request, Response, get, post, put
from litestar.handlers import BaseRouteHandler

from sampan.api.routes import answer
from sampan.base.errors import Usage
from sampan.log.attachments import ANYTHING, Attachments, image_type, media_type_of

Ask = Request[Any, Any, Any]
_ENDINGS = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}


def blobs(attachments: Attachments) -> list[BaseRouteHandler]:
    """The routes."""

    async def keep(request: Ask, body: bytes) -> Response[bytes]:
        said = request.headers.get("content-type", ANYTHING)
        media_type = media_type_of(said)
        if media_type is None:
            raise Usage("Upload a blob", f"{said[:100]!r} is no media type", "Say what it is: Content-Type: image/png")
        return answer(await asyncio.to_thread(attachments.upload, body, media_type), 201)

    @post("/v1/blobs")
    async def send(request: Ask, body: bytes) -> Response[bytes]:
        return await keep(request, body)

    @put("/v1/blobs", status_code=201)
    async def replace(request: Ask, body: bytes) -> Response[bytes]:
        return await keep(request, body)

    @get("/v1/blobs/{digest:str}")
    async def fetch(request: Ask, digest: str) -> Response[bytes]:
        data = await asyncio.to_thread(attachments.get, digest)
        picture = image_type(data)
        shown = picture is not None and request.query_params.get("show") == "image"
        name = f"{digest[:16]}.{_ENDINGS.get(picture or '', 'bin')}"
        headers = {
            "cache-control": "private, max-age=31536000, immutable",
            "content-disposition": "inline" if shown else f'attachment; filename="{name}"',
            "content-security-policy": "sandbox; default-src 'none'",
        }
        return Response(data, media_type=picture if shown and picture else ANYTHING, headers=headers)

    return [send, replace, fetch]
