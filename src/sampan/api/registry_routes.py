"""The ``/v1`` routes of registered models: versions of logged runs, aliases; tags, notes and comments of anything."""

import asyncio
from typing import Annotated

import msgspec
from litestar import Response, delete, post, put
from litestar.handlers import BaseRouteHandler

from sampan.api.routes import Ask, answer, who
from sampan.api.work import Work
from sampan.base.errors import Usage
from sampan.base.ids import whole
from sampan.models.approvals import Verdict


class ModelRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A name for a model that has no versions yet."""

    name: str


class VersionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What a version is registered from: a logged run, or a logged model (``path`` below the artifacts of either); or
    ``version``, ``MODEL@NUMBER`` of another model."""

    run: str = ""
    logged_model: str = ""
    path: str = ""
    version: str = ""


class AliasRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which version an alias shall name. ``token``: of the state that was seen (0: of none); the alias moves only from
    that one. Left out, it moves from any."""

    number: Annotated[int, msgspec.Meta(ge=1)]
    reason: str = ""
    token: int | None = None


class ApprovalRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody says of a version under an alias. Who rejects it says why."""

    alias: str
    verdict: Verdict
    reason: str = ""


class LabelRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Tags to set, or to take away (null), and a note that takes the place of the one before."""

    tags: dict[str, str | None] = {}
    note: str | None = None


class CommentRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What somebody says of an object."""

    text: str


class SuiteRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Which version is to be tested: ``MODEL@NUMBER``, ``MODEL@ALIAS``, or ``MODEL`` for the one on
    the branch, whose tables it is tested on."""

    ref: str
    branch: str = "main"


def registry_routes(work: Work) -> list[BaseRouteHandler]:
    """The handlers, each of which calls one method of ``work``."""

    @post("/v1/models")
    async def create(request: Ask, data: ModelRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.create_model, data.name, who(request).name), 201)

    @delete("/v1/models/{model:str}", status_code=200)
    async def delete_model(request: Ask, model: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.delete_model, model, who(request).name))

    @post("/v1/models/{model:str}/versions")
    async def register(request: Ask, model: str, data: VersionRequest) -> Response[bytes]:
        given = (model, data.run, data.logged_model, data.path, data.version, who(request).name)
        return answer(await asyncio.to_thread(work.register, *given), 201)

    @delete("/v1/models/{model:str}/versions/{number:str}", status_code=200)
    async def delete_version(request: Ask, model: str, number: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.delete_version, f"{model}@{number}", who(request).name))

    @put("/v1/models/{model:str}/aliases/{alias:str}")
    async def move(request: Ask, model: str, alias: str, data: AliasRequest) -> Response[bytes]:
        given = (model, alias, str(data.number), data.reason, data.token, who(request).name)
        return answer(await asyncio.to_thread(work.move_alias, *given))

    @delete("/v1/models/{model:str}/aliases/{alias:str}", status_code=200)
    async def remove(request: Ask, model: str, alias: str) -> Response[bytes]:
        asked = request.query_params
        token = whole(text) if (text := asked.get("token", "")) else None
        if text and token is None:
            raise Usage(f"Remove the alias {alias[:100]}", f"the token {text[:40]!r} is no number", "Leave it out.")
        given = (model, alias, None, asked.get("reason", ""), token, who(request).name)
        return answer(await asyncio.to_thread(work.move_alias, *given))

    @post("/v1/models/{model:str}/versions/{number:str}/approvals")
    async def approve(request: Ask, model: str, number: str, data: ApprovalRequest) -> Response[bytes]:
        given = (f"{model}@{number}", data.alias, data.verdict, data.reason, who(request).name)
        return answer(await asyncio.to_thread(work.approve, *given), 201)

    @put("/v1/labels/{kind:str}/{name:str}")
    async def label(request: Ask, kind: str, name: str, data: LabelRequest) -> Response[bytes]:
        given = (kind, name, data.tags, data.note, who(request).name)
        return answer(await asyncio.to_thread(work.label, *given))

    @post("/v1/comments/{kind:str}/{name:str}")
    async def comment(request: Ask, kind: str, name: str, data: CommentRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.comment, kind, name, data.text, who(request).name), 201)

    @delete("/v1/comments/{comment:str}", status_code=200)
    async def withdraw(request: Ask, comment: str) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.withdraw, comment, who(request).name))

    @post("/v1/tests")
    async def test(request: Ask, data: SuiteRequest) -> Response[bytes]:
        return answer(await asyncio.to_thread(work.test_model, data.ref, who(request).name, data.branch), 201)

    return [create, delete_model, register, delete_version, move, remove, approve, label, comment, withdraw, test]
