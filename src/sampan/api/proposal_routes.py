"""The ``/v1`` routes of thresholds: tried on the past, proposed, approved, rolled out."""

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.handlers import BaseRouteHandler

from sampan.api.routes import Ask, ReasonRequest, answer, who
from sampan.api.work import Work


class ThresholdsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Other thresholds, by name, to be tried on the decisions of the last days."""

    thresholds: dict[str, Any]
    days: Annotated[int, msgspec.Meta(ge=1, le=3_660)] = 30


class VerdictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody says of a proposal: approved, rejected, or withdrawn to take that back."""

    verdict: str
    reason: str = ""


class Patch(msgspec.Struct):
    """A unified diff of the workspace's rules; empty where they are in line."""

    id: str
    patch: str


def proposal_routes(work: Work) -> list[BaseRouteHandler]:
    """The routes, given what does the work."""

    @post("/v1/endpoints/{name:str}/thresholds")
    async def try_thresholds(request: Ask, name: str, data: ThresholdsRequest) -> Response[bytes]:
        given = (name, data.thresholds, data.days, who(request).name)
        return answer(await asyncio.to_thread(work.try_thresholds, *given), 201)

    @post("/v1/proposals/{proposal:str}/ask", status_code=200)
    async def ask_proposal(request: Ask, proposal: str, data: ReasonRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.ask_proposal, proposal, data.reason, who(request).name))

    @post("/v1/proposals/{proposal:str}/decide", status_code=200)
    async def decide_proposal(request: Ask, proposal: str, data: VerdictRequest) -> Response[bytes]:
        given = (proposal, data.verdict, data.reason, who(request).name)
        return answer(await asyncio.to_thread(work.decide_proposal, *given))

    @post("/v1/proposals/{proposal:str}/withdraw", status_code=200)
    async def withdraw_proposal(request: Ask, proposal: str, data: ReasonRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.withdraw_proposal, proposal, data.reason, who(request).name))

    @post("/v1/proposals/{proposal:str}/ship", status_code=200)
    async def ship_proposal(request: Ask, proposal: str, data: ReasonRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.ship_proposal, proposal, data.reason, who(request).name))

    @get("/v1/proposals/{proposal:str}/patch")
    async def proposal_patch(proposal: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.proposal_patch, proposal))

    return [try_thresholds, ask_proposal, decide_proposal, withdraw_proposal, ship_proposal, proposal_patch]
