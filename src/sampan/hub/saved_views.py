"""Views of an experiment that somebody gave a name: a tag of the experiment's that holds the query of a page.

Tags are anybody's who may log, so a query is read when it is followed as it was when it was saved: what no page of
ours takes is not led to.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Response, post
from litestar.handlers import BaseRouteHandler

from sampan.base.errors import NotFound, SampanError, Usage
from sampan.base.ids import whole
from sampan.hub.doors import Ask, refuse, response
from sampan.hub.parts import Parts
from sampan.hub.render import Answer, Frame
from sampan.hub.urls import Urls
from sampan.team.roles import PRINCIPAL, Principal
from sampan.track.limits import check_key, shown

PREFIX: Final = "sampan.view."
#: What the query of a page that can be saved may hold. The name before the question mark tells which page it is.
PAGES: Final[Mapping[str, tuple[str, ...]]] = {
    "": ("filter", "order", "columns"),
    "compare": ("run", "filter", "order", "columns", "all", "metric", "x", "by"),
}
_NAME: Final = 80
_BODY: Final = 100_000
_FIELDS: Final = 20


class SavedView(msgspec.Struct):
    """``view`` is what follows the experiment's address: ``?filter=…`` or ``/compare?…``."""

    name: str
    view: str


def query(page: str, given: Mapping[str, str | Sequence[str]]) -> str:
    """A page's query with what was given, nothing that is empty; runs are named one behind the other."""
    kept = {name: one if isinstance(one, str) else ",".join(one) for name in PAGES[page] if (one := given.get(name))}
    return f"{page}?{urlencode(kept, safe=',')}"


def checked(text: str) -> str:
    """A query as it can be followed. Raises Usage for one that no page takes."""
    attempted = "Save a view"
    page, _, given = text.partition("?")
    if page not in PAGES:
        raise Usage(attempted, f"there is no page {shown(page)} of an experiment", "Save the run list or a comparison.")
    try:
        pairs = parse_qsl(given, max_num_fields=_FIELDS)
    except ValueError:
        raise Usage(attempted, f"its query has more than {_FIELDS} parts", "Name runs with commas between.") from None
    for name, _ in pairs:
        if name not in PAGES[page]:
            raise Usage(attempted, f"the page takes no {shown(name)}", f"It takes {', '.join(PAGES[page])}.")
    return query(page, dict(pairs))


def saved(tags: Mapping[str, str]) -> list[SavedView]:
    """The views among an experiment's tags, by name; what is none is left out."""
    found = []
    for key, value in sorted(tags.items()):
        if key.startswith(PREFIX):
            try:
                view = checked(value)
            except Usage:
                continue
            found.append(SavedView(key.removeprefix(PREFIX), view if view.startswith("?") else f"/{view}"))
    return found


def saving(parts: Parts, frame: Callable[[], Frame]) -> list[BaseRouteHandler]:
    """The routes that save a view and remove it."""

    def save(experiment: str, name: str, text: str) -> str:
        attempted = f"Save the view {shown(name)}"
        if not name or len(name) > _NAME:
            raise Usage(attempted, f"its name has {len(name)} characters", f"It may have 1 to {_NAME}.")
        check_key(attempted, name)
        view = checked(text)
        number = _number(experiment)
        parts.tracking.experiments.set_tag(number, PREFIX + name, view)
        return Urls.experiment(number) + (view if view.startswith("?") else f"/{view}")

    def remove(experiment: str, name: str) -> str:
        number = _number(experiment)
        parts.tracking.experiments.delete_tag(number, PREFIX + name)
        return Urls.experiment(number)

    async def answer(request: Ask, work: Callable[[], str]) -> Response[bytes]:
        try:
            where = await asyncio.to_thread(work)
        except SampanError as error:
            around, who = frame(), dict(request.scope)[PRINCIPAL]
            around.section, around.who = "experiments", who.name if isinstance(who, Principal) else ""
            return refuse(request, error.status, error, around)
        return response(Answer(303, "text/plain", b""), {"location": where})

    @post("/experiments/{experiment:str}/views", status_code=303)
    async def save_view(request: Ask, experiment: str, body: bytes) -> Response[bytes]:
        given = _fields(body)
        return await answer(request, lambda: save(experiment, given.get("name", "").strip(), given.get("view", "")))

    @post("/experiments/{experiment:str}/views/remove", status_code=303)
    async def remove_view(request: Ask, experiment: str, body: bytes) -> Response[bytes]:
        given = _fields(body)
        return await answer(request, lambda: remove(experiment, given.get("name", "").strip()))

    return [save_view, remove_view]


def _fields(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body[:_BODY].decode("utf-8", "replace"), max_num_fields=_FIELDS))
    except ValueError:
        return {}


def _number(text: str) -> int:
    found = whole(text)
    if found is None:
        raise NotFound("Save a view", f"{shown(text)} is no experiment's number", "/experiments lists them.")
    return found
