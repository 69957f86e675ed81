"""The least a durable collector can do: bare ASGI, msgspec, a set of ids, one fdatasync for all waiting requests."""

import asyncio
import gc
import os
from datetime import datetime
from typing import Annotated, Literal

import msgspec


class Click(msgspec.Struct, gc=False):
    customer: Annotated[int, msgspec.Meta(ge=0)]
    kind: Literal["view", "search", "add", "buy"]
    session: str
    url: str
    price: Annotated[float, msgspec.Meta(ge=0)]


class Event(msgspec.Struct, gc=False):
    id: str
    source: str
    type: Literal["click"]
    time: datetime
    data: Click


ONE = msgspec.json.Decoder(Event)
MANY = msgspec.json.Decoder(list[msgspec.Raw])
HEAD = [(b"content-type", b"application/json")]
MODE = os.O_WRONLY | os.O_CREAT | os.O_APPEND
stored, spoiled = os.open("stored.ndjson", MODE), os.open("spoiled.ndjson", MODE)
seen = {}
good, bad, waiting, flushing = [], [], [], False
gc.disable()


def write(kept, refused):
    if kept:
        os.write(stored, b"\n".join(kept) + b"\n")
    if refused:
        os.write(spoiled, b"\n".join(refused) + b"\n")
        os.fdatasync(spoiled)
    if kept:
        os.fdatasync(stored)


async def flush():
    global good, bad, waiting, flushing
    loop = asyncio.get_running_loop()
    while waiting:
        kept, refused, futures = good, bad, waiting
        good, bad, waiting = [], [], []
        await loop.run_in_executor(None, write, kept, refused)
        for future in futures:
            future.set_result(None)
    flushing = False


def take(raw):
    try:
        event = ONE.decode(raw)
    except msgspec.MsgspecError:
        bad.append(bytes(raw))
        return
    ids = seen.get(event.source)
    if ids is None:
        ids = seen[event.source] = set()
    if event.id not in ids:
        ids.add(event.id)
        good.append(bytes(raw))


async def app(scope, receive, send):
    global flushing
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    events = MANY.decode(body) if body.startswith(b"[") else [body]
    for raw in events:
        take(raw)
    future = asyncio.get_running_loop().create_future()
    waiting.append(future)
    if not flushing:
        flushing = True
        asyncio.ensure_future(flush())
    await future
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": b'{"taken":%d}' % len(events)})
