"""The pages as routes: the context of a page as HTML, or as JSON for those who ask for it."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlencode

from litestar import Response, get
from litestar.handlers import BaseRouteHandler

from sampan.base.errors import SampanError
from sampan.hub.doors import Ask, refuse, response
from sampan.hub.parts import Parts, Query
from sampan.hub.render import Answer, Frame, page, saved, twin, wants_json
from sampan.hub.sitemap import AS_OF, PAGES, SEVERAL, Page, seen
from sampan.team.roles import PRINCIPAL, Principal


def pages(parts: Parts, frame: Callable[[], Frame]) -> list[BaseRouteHandler]:
    """The routes of all pages."""
    return [_handler(page, parts, frame) for page in PAGES]


def _handler(spec: Page, parts: Parts, frame: Callable[[], Frame]) -> BaseRouteHandler:
    def answer(request: Ask) -> Response[bytes]:
        around = frame()
        around.section = spec.section
        principal: Principal | None = dict(request.scope).get(PRINCIPAL)  # type: ignore[assignment]
        around.who = principal.name if principal else ""
        asked = request.query_params
        several = {name: asked.getall(name, []) for name in SEVERAL.get(spec.path, ())}
        query: Query = {**asked, **several, **request.path_params, PRINCIPAL: principal}
        json, file = wants_json(request.headers.get("accept", ""), query), query.get("format") == "file"
        try:
            _place(parts, request, spec, around)
            if around.now and not (json or file):
                del query[AS_OF]  # the page says so itself
            context = seen(parts, spec, query)
        except SampanError as error:
            return refuse(request, error.status, error, around, SEVERAL.get(spec.path, ()))
        if file:
            now = parts.clock.micros()
            text = saved(spec.template, context, around, now, parts.settings.get("public_url").rstrip("/"))
            attached = {"content-disposition": f'attachment; filename="{spec.template}"'}
            return response(Answer(200, "text/html", text.encode()), attached)
        if json:
            return response(twin(context))
        return response(page(spec.template, context, around))

    @get(spec.path.replace("}", ":str}"), operation_id=spec.template.removesuffix(".html"))
    async def handler(request: Ask) -> Response[bytes]:
        return await asyncio.to_thread(answer, request)  # views read files and records

    return handler


def _place(parts: Parts, request: Ask, spec: Page, frame: Frame) -> None:
    """Say in which version of the world a page is, and how to come back to now. Raises Usage, NotFound for a time that
    is none."""
    asked = request.query_params
    given = [(name, value) for name, value in asked.multi_items() if not (spec.now and name == AS_OF)]
    frame.query = urlencode([*given, ("", "")]).removesuffix("=")
    ref = asked.get("ref", "") or str(request.path_params.get("branch", ""))
    frame.dated = not spec.now
    if then := asked.get(AS_OF, "").strip():
        parts.instant(then)
        frame.then, frame.now = then, spec.now
    if ref.startswith("@"):
        frame.as_of = f"commit {ref[1:11]}"
    else:
        frame.branch = ref[:100] or frame.branch
        frame.as_of = (not spec.now and frame.then) or frame.as_of
    away = (AS_OF, "ref", "after", "format") if ref.startswith("@") else (AS_OF, "after", "format")
    frame.kept = [(name, value) for name, value in asked.multi_items() if name not in away]
    if frame.then or (frame.dated and ref.startswith("@")):
        frame.back = f"?{urlencode(frame.kept)}"
