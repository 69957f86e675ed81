"""Storage: what lies in the workspace, what stays and why, what the next clean-up removes, and those there were."""

import shutil
from collections.abc import Sequence

import msgspec

from sampan.base.errors import SampanError
from sampan.hub.parts import Parts, Query, may
from sampan.keep.cleanups import Cleanup, Cleanups
from sampan.keep.pins import Pin, pinned
from sampan.keep.retention import MEANINGS, NEVER, Retention, read_retention, span
from sampan.keep.storage import Storage
from sampan.keep.storage import storage as look
from sampan.team.roles import ADMINISTER


class RetentionLine(msgspec.Struct):
    """A setting of ``[retention]`` in force, and where it came from."""

    name: str
    value: str
    origin: str
    help: str


class PinLine(msgspec.Struct):
    """A pin, and the address of what it keeps."""

    pin: Pin
    address: str


class StoragePage(msgspec.Struct, kw_only=True):
    """Context of ``storage.html``. ``storage`` is None where something stands in the way of knowing it (``trouble``).
    ``disk``: bytes of the disk, ``free`` of them. ``next``: when the hub cleans up by itself; None if it does not."""

    storage: Storage | None
    trouble: str
    bytes: int
    disk: int
    free: int
    pins: list[PinLine]
    retention: list[RetentionLine]
    every: str
    next: int | None
    cleanups: Sequence[Cleanup]
    can_clean: bool


def storage(parts: Parts, query: Query) -> StoragePage:
    """What is stored, what the next clean-up removes, and why everything else stays."""
    found, trouble, kept = None, "", Retention()
    try:
        kept = read_retention(parts.folder.config())
        found = look(parts.db, parts.folder.data, parts.clock, kept)
    except SampanError as error:
        trouble = f"{error.attempted}: {error.obstacle}. {error.advice}"
    disk = shutil.disk_usage(parts.folder.data)
    cleanups = Cleanups(parts.db, parts.clock).list()
    return StoragePage(
        storage=found,
        trouble=trouble,
        bytes=sum(one.bytes for one in found.stores) if found else 0,
        disk=disk.total,
        free=disk.free,
        pins=[PinLine(one, _address(one.ref)) for one in pinned(parts.db)],
        retention=_retention(parts, kept),
        every=span("every", kept.every),
        next=_next(parts, kept, cleanups),
        cleanups=cleanups,
        can_clean=may(query, ADMINISTER),
    )


def _retention(parts: Parts, kept: Retention) -> list[RetentionLine]:
    said = parts.folder.config().get("retention", {})
    return [
        RetentionLine(name, span(name, getattr(kept, name)), "sampan.toml" if name in said else "default", help)
        for name, help in MEANINGS.items()
    ]


def _next(parts: Parts, kept: Retention, cleanups: Sequence[Cleanup]) -> int | None:
    if kept.every == NEVER:
        return None
    now = parts.clock.micros()
    return max(now, cleanups[0].started + kept.every * 1_000_000) if cleanups else now


def _address(ref: str) -> str:
    """A commit's tables, a version, or a run."""
    from sampan.hub.urls import Urls

    model, at, _ = ref.partition("@")
    if at:
        return Urls.version(ref) if model else f"/tables?ref={ref}"
    return Urls.run(ref)
