"""Artifacts through the hub, as MLflow's proxied artifact store has it: streams, whole or in parts.

``EXPERIMENT/RUN/artifacts/PATH`` and ``EXPERIMENT/models/MODEL/artifacts/PATH`` are what clients make of the root that
they were told. What is handed out never becomes a page of the hub: it is a download, of no type that a browser runs.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, quote

import msgspec

from sampan.api import mlflow_wire as wire
from sampan.api.allowance import Allowance, declared
from sampan.api.bodies import JSON
from sampan.api.guard import Receive, Scope, Send
from sampan.api.mlflow_messages import ARTIFACTS, UPLOADS
from sampan.base.digests import digest_file
from sampan.base.errors import Damaged, Frozen, NotFound, Usage
from sampan.base.ids import whole
from sampan.models.registry import Models
from sampan.models.version import Version
from sampan.store.blobs import Blobs
from sampan.track.artifacts import Incoming, check_path
from sampan.track.limits import shown
from sampan.track.records import File
from sampan.track.tracking import Tracking

T = TypeVar("T")
_PIECE: Final = 1 << 20
_OWNED: Final = re.compile(r"\d{1,18}/(?:models/)?(?P<owner>[\w-]{1,64})/artifacts(?:/(?P<path>.*))?\Z", re.DOTALL)
_VERSION: Final = re.compile(r"versions/(?P<model>[^/]+)/(?P<number>\d{1,18})(?:/(?P<path>.*))?\Z", re.DOTALL)
_ROOT: Final = re.compile(r"\d{1,18}(?:/models)?\Z")
_NOTHING: Final = b"{}"
_SMALL: Final = 16_777_216  # bytes of a message about an upload: 10,000 parts are two megabytes
_DOWNLOAD: Final = [
    (b"content-type", b"application/octet-stream"),
    (b"content-security-policy", b"sandbox; default-src 'none'"),
    (b"cache-control", b"private, no-cache"),
]


class MlflowArtifacts:
    """A bare ASGI application, for the paths below ``ARTIFACTS`` and ``UPLOADS``."""

    def __init__(self, tracking: Tracking, models: Models, limit: int, base_url: str) -> None:
        self._tracking, self._models, self._base_url = tracking, models, base_url
        self._allowance = Allowance(limit, tracking.artifacts.temporary)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        if path.startswith(UPLOADS):
            act, _, below = path[len(UPLOADS) + 1 :].partition("/")
            if act == "parts":
                await self._part(below, scope, receive, send)
            else:
                await _say(send, await self._in_parts(scope, receive, act, below))
            return
        below = path[len(ARTIFACTS) + 1 :]
        if not below and method == "GET":
            wanted = parse_qs(scope["query_string"].decode("latin-1")).get("path", [""])[-1]
            await _say(send, msgspec.json.encode(await asyncio.to_thread(self._list, wanted)))
        elif method == "PUT":
            await self._put(below, scope, receive)
            await _say(send, _NOTHING)
        elif method == "GET":
            await self._get(below, scope, send)
        elif method == "DELETE":
            await asyncio.to_thread(self._delete, below)
            await _say(send, _NOTHING)
        else:
            raise NotFound("Answer a request", f"{method} is not possible at {path[:200]!r}")

    def _list(self, below: str) -> wire.Files:
        below = below.strip("/")
        if not below or _ROOT.match(below):
            return wire.Files([])  # whose they are, clients learn by asking for runs
        if named := _VERSION.match(below):
            version = self._models.get(f"{named['model']}@{named['number']}")
            return wire.Files(_files_of(version, self._models.blobs, named["path"] or ""))
        owner, path = _owner(below)
        found = self._tracking.artifacts.list(owner, path)
        names = [(file.path.rpartition("/")[2], file) for file in found]
        return wire.Files([wire.FileInfo(name, file.is_folder, file.size) for name, file in names])

    def _delete(self, below: str) -> None:
        owner, path = _owner(below.rstrip("/"))
        self._tracking.artifacts.delete(owner, path)

    async def _put(self, below: str, scope: Scope, receive: Receive) -> None:
        owner, path = _owner(below)
        artifacts, attempted = self._tracking.artifacts, f"Log the artifact {shown(path)}"
        await asyncio.to_thread(artifacts.check, attempted, owner, path)
        await self._take(attempted, scope, receive, lambda incoming: artifacts.put(owner, path, incoming))

    async def _take(
        self, attempted: str, scope: Scope, receive: Receive, keep: Callable[[Incoming], T], before: int = 0
    ) -> T:
        """Write what arrives to a temporary file, a megabyte at a time, and keep it when all of it is there.

        ``before``: bytes of it that have come earlier. Nothing is read of what is declared to be too large."""
        await asyncio.to_thread(self._allowance.expect, attempted, declared(scope), before)
        incoming = await asyncio.to_thread(Incoming, self._tracking.artifacts.temporary)
        try:
            async for piece in _pieces(receive):
                self._allowance.check(attempted, before + incoming.size + len(piece))
                await asyncio.to_thread(incoming.write, piece)
            return await asyncio.to_thread(keep, incoming)
        finally:
            await asyncio.to_thread(incoming.drop)

    async def _get(self, below: str, scope: Scope, send: Send) -> None:
        file, place = await asyncio.to_thread(self._find, below)
        path = file.path
        name = quote(path.rpartition("/")[2])
        headers = [
            *_DOWNLOAD,
            (b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode()),
            (b"content-length", str(file.size).encode()),
            (b"etag", f'"{file.sha256}"'.encode()),
        ]
        if not place.exists():
            raise NotFound("Read an artifact", f"the bytes of {shown(path)} are gone", "Restore them from a backup.")
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        async for piece in _read(place):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _find(self, below: str) -> tuple[File, Path]:
        """A file of a run, a logged model or a registered version, and where its bytes lie."""
        if named := _VERSION.match(check_path("Find an artifact", below)):
            version, path = self._models.get(f"{named['model']}@{named['number']}"), named["path"] or ""
            digest = version.files.get(path)
            if digest is None:
                raise NotFound(f"Read the artifact {shown(path)}", f"{version.ref} has none at this path")
            place = self._models.blobs.path(digest)
            _check_bytes(place, digest, f"Read a file of {version.ref}", path, "registered")
            return File(path, place.stat().st_size if place.exists() else None, digest), place
        owner, path = _owner(below)
        file = self._tracking.artifacts.find(owner, path)
        place = self._tracking.artifacts.location(file)
        _check_bytes(place, file.sha256, "Read an artifact", path, "logged")
        return file, place

    # -- in parts

    async def _part(self, below: str, scope: Scope, receive: Receive, send: Send) -> None:
        id, _, part = below.partition("/")
        uploads = self._tracking.uploads
        upload = await asyncio.to_thread(uploads.get, id)
        if (place := whole(part)) is None:
            raise Usage("Upload in parts", f"{shown(part)} is no part's number", "Parts are numbered from 1.")
        attempted, before = f"Upload {shown(upload.path)} in parts", await asyncio.to_thread(uploads.size, upload)
        tag = await self._take(
            attempted, scope, receive, lambda incoming: uploads.keep(upload, place, incoming), before
        )
        await _say(send, _NOTHING, (b"etag", f'"{tag}"'.encode()))

    async def _in_parts(self, scope: Scope, receive: Receive, act: str, below: str) -> bytes:
        uploads = self._tracking.uploads
        body = b"".join([piece async for piece in _pieces(receive, _SMALL)])
        owner, folder = _owner(below)
        if act == "create":
            asked = _decode(body, wire.CreateUpload)
            path = _joined(folder, asked.path)
            upload = await asyncio.to_thread(uploads.begin, owner, path, asked.num_parts)
            sent = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            headers = {"Authorization": sent} if sent else {}
            root = f"{self._base_url}{UPLOADS}/parts/{upload.id}"
            parts = [wire.UploadCredential(f"{root}/{part}", part, headers) for part in range(1, upload.parts + 1)]
            return msgspec.json.encode(wire.CreatedUpload(upload.id, parts))
        if act == "complete":
            done = _decode(body, wire.CompleteUpload)
            tags = {part.part_number: part.etag for part in done.parts}
            path = _joined(folder, done.path)
            size = await asyncio.to_thread(lambda: uploads.size(uploads.get(done.upload_id)))
            await asyncio.to_thread(self._allowance.expect, f"Complete the upload of {shown(path)}", size)
            await asyncio.to_thread(uploads.complete, done.upload_id, owner, path, tags)
            return _NOTHING
        given_up = _decode(body, wire.AbortUpload)
        await asyncio.to_thread(uploads.abort, given_up.upload_id, owner, _joined(folder, given_up.path))
        return _NOTHING


def _owner(below: str) -> tuple[str, str]:
    """Whose artifacts a path means, and the path among them. Raises Usage for what leads somewhere else, NotFound."""
    check_path("Find an artifact", below)
    if named := _VERSION.match(below):
        version = f"{named['model']}@{named['number']}"
        raise Frozen(f"Change {shown(version)}", "a registered version never changes", "Register another one.")
    found = _OWNED.match(below)
    if found is None:
        raise NotFound(
            "Find an artifact", f"{shown(below)} is no path of a run's or a logged model's", "Ask for its artifact_uri."
        )
    return found["owner"], found["path"] or ""


def _files_of(version: Version, blobs: Blobs, path: str) -> list[wire.FileInfo]:
    """Files and folders of a version right below a path, by name. Of a file itself, nothing."""
    first = f"{path.strip('/')}/" if path.strip("/") else ""
    found: dict[str, wire.FileInfo] = {}
    for whole_, digest in version.files.items():
        if whole_.startswith(first):
            name, _, more = whole_[len(first) :].partition("/")
            place = blobs.path(digest)
            size = None if more or not place.exists() else place.stat().st_size
            found[name] = wire.FileInfo(name, bool(more), size)
    return [found[name] for name in sorted(found)]


def _check_bytes(place: Path, digest: str, attempted: str, path: str, how: str) -> None:
    """Raises Damaged for bytes that somebody changed on the disk."""
    if place.exists() and digest_file(place) != digest:
        raise Damaged(attempted, f"the bytes of {shown(path)} are not those that were {how}", "Restore a backup.")


def _joined(folder: str, file: str) -> str:
    """Clients name the file that they read, which may be a path of their own machine: its last part counts."""
    name = file.replace("\\", "/").rpartition("/")[2]
    return f"{folder}/{name}" if folder else name


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Usage("Read a request", str(error)[:300], "/v1/openapi describes every route.") from None


async def _pieces(receive: Receive, limit: int | None = None) -> AsyncIterator[bytes]:
    """A body in pieces of about a megabyte."""
    parts: list[bytes] = []
    size = came = 0
    more = True
    while more:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise Usage("Take an artifact", "the client went away before all of it had come", "Send it again.")
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        came += len(part)
        if limit is not None and came > limit:
            raise Usage("Read a request", f"the body has more than {limit} bytes")
        more = message.get("more_body", False)
        if size >= _PIECE or not more:
            yield b"".join(parts)
            parts, size = [], 0


async def _read(place: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(place.open, "rb")
    try:
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece
    finally:
        file.close()


async def _say(send: Send, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [JSON, length, *headers]})
    await send({"type": "http.response.body", "body": body})
