"""Repairing what is in quarantine from the page: try a rule of the workspace on real cases, then apply it.

A rule runs in a process of its own, with a limit on time; it is applied only as it was tried, known by its digest.
The guard has seen to it that the form comes from our own page.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
from litestar import Request, Response, post
from litestar.handlers import BaseRouteHandler

from sampan.base.errors import Conflict, SampanError, Usage
from sampan.hub import rules
from sampan.hub.doors import Ask, refuse, response
from sampan.hub.parts import Parts
from sampan.hub.render import Answer, Frame, page, twin, wants_json
from sampan.hub.urls import Urls
from sampan.hub.views.held import tried
from sampan.log.repairs import Told
from sampan.log.trial import propose_apart
from sampan.team.roles import PRINCIPAL, Principal

_FORM = 20_000  # bytes


Repair = Callable[[list[Any], str, str, Told], dict[str, Any]]


def workbench(parts: Parts, repair: Repair, frame: Callable[[], Frame]) -> list[BaseRouteHandler]:
    """The two routes. ``repair`` re-enters what a rule has repaired."""

    def guarded(request: Ask, do: Callable[[Frame], Response[bytes]]) -> Response[bytes]:
        around = frame()
        around.section, around.who = "quarantine", _who(request).name
        try:
            return do(around)
        except SampanError as error:
            return refuse(request, error.status, error, around)

    def trial(request: Ask, form: dict[str, str]) -> Response[bytes]:
        def do(around: Frame) -> Response[bytes]:
            path, rule = rules.find(parts.folder.root, form.get("rule", ""))
            reason = form.get("reason", "")
            proposals = propose_apart(parts.log, path, rule.digest, reason=reason or None)
            context = tried(rule, reason, proposals)
            if wants_json(request.headers.get("accept", ""), request.query_params):
                return response(twin(context))
            return response(page("trial.html", context, around))

        return guarded(request, do)

    def application(request: Ask, form: dict[str, str]) -> Response[bytes]:
        def do(around: Frame) -> Response[bytes]:
            path, rule = rules.find(parts.folder.root, form.get("rule", ""))
            why = form.get("why", "").strip()
            if not why:
                raise Usage(
                    "Apply a repair rule", "no reason was given", "Say in a few words why this is what was meant."
                )
            if form.get("digest") != rule.digest:
                raise Conflict("Apply a repair rule", f"{rule.name} has changed since it was tried", "Try it again.")
            reason = form.get("reason", "")
            proposals = propose_apart(parts.log, path, rule.digest, reason=reason or None)
            told = Told(rule.text, rule.name, why[:1_000])
            done = repair(msgspec.to_builtins(proposals), rule.digest, _who(request).name, told)
            if not done["repair"]:
                raise Conflict(
                    "Apply a repair rule", "nothing that it repairs is waiting any more", "See /quarantine for what is."
                )
            return response(Answer(303, "text/plain", b""), {"location": Urls.repair(done["repair"])})

        return guarded(request, do)

    @post("/quarantine/try", operation_id="try_repair", status_code=200)
    async def try_rule(request: Ask, body: bytes) -> Response[bytes]:
        return await asyncio.to_thread(trial, request, _form(body))

    @post("/quarantine/apply", operation_id="apply_repair", status_code=303)
    async def apply_rule(request: Ask, body: bytes) -> Response[bytes]:
        return await asyncio.to_thread(application, request, _form(body))

    return [try_rule, apply_rule]


def _form(body: bytes) -> dict[str, str]:
    given = parse_qs(body[:_FORM].decode("latin-1"), keep_blank_values=True, encoding="utf-8", errors="replace")
    return {name: values[-1] for name, values in given.items()}


def _who(request: Request[Any, Any, Any]) -> Principal:
    principal: Principal = dict(request.scope)[PRINCIPAL]  # type: ignore[assignment]
    return principal
