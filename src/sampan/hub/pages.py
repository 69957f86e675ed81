"""The pages as routes: the context of a page as HTML, or as JSON for those who ask for it."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlencode

from litestar import Response, get
from litestar.handlers import BaseRouteHandler

from sampan.base.errors import SampanError
from sampan.hub.doors import Ask, refuse, response
from sampan.hub.parts import Parts, Query
from sampan.hub.render import Frame, page, twin, wants_json
from sampan.hub.sitemap import PAGES, Page
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
        around.query = urlencode([*request.query_params.multi_items(), ("", "")]).removesuffix("=")
        ref = request.query_params.get("ref", "") or str(request.path_params.get("branch", ""))
        if ref.startswith("@"):
            around.as_of = f"commit {ref[1:11]}"
        else:
            around.branch = ref[:100] or around.branch
        query: Query = {**request.query_params, **request.path_params, PRINCIPAL: principal}
        try:
            context = spec.view(parts, query)
        except SampanError as error:
            return refuse(request, error.status, error, around)
        if wants_json(request.headers.get("accept", ""), request.query_params):
            return response(twin(context))
        return response(page(spec.template, context, around))

    @get(spec.path.replace("}", ":str}"), operation_id=spec.template.removesuffix(".html"))
    async def handler(request: Ask) -> Response[bytes]:
        return await asyncio.to_thread(answer, request)  # views read files and records

    return handler
