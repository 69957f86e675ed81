"""Members: how they sign in, their tokens, what they note and the views they save, for the OpenAPI description."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.api.openapi import FORM, JSON, Operation
from sampan.api.registry_routes import CommentRequest, LabelRequest
from sampan.api.routes import TokenRequest
from sampan.team.comments import Comment
from sampan.team.tokens import Token


class Tokens(msgspec.Struct):
    tokens: list[Token]
    as_of: int | None = None


class NewToken(msgspec.Struct):
    """``secret`` is shown this once."""

    token: Token
    secret: str


class OneToken(msgspec.Struct):
    token: Token


class Link(msgspec.Struct):
    """Signs a browser in, once, within minutes."""

    link: str


class ViewName(msgspec.Struct):
    name: str


class NamedView(msgspec.Struct):
    """``view``: ``?filter=…`` of the run list, ``compare?…`` of a comparison."""

    name: str
    view: str


class Entered(msgspec.Struct):
    token: str


OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "/experiments/{experiment}/views"): Operation(
        summary="Save what a page of an experiment shows under a name, and go to it",
        status=303,
        body={FORM: NamedView},
        tag="Pages",
    ),
    ("POST", "/experiments/{experiment}/views/remove"): Operation(
        summary="Remove a saved view, and go to the experiment", status=303, body={FORM: ViewName}, tag="Pages"
    ),
    ("GET", "/sign-in"): Operation(
        summary="Sign a browser in by the code of a link, once",
        status=303,
        query={"code": "From `sampan token link`"},
        tag="Sign-in",
    ),
    ("POST", "/sign-in"): Operation(
        summary="Sign a browser in by a token",
        status=303,
        body={FORM: Entered},
        tag="Sign-in",
    ),
    ("POST", "/sign-out"): Operation(summary="End the session", status=303, tag="Sign-in"),
    ("PUT", "/v1/labels/{kind}/{name}"): Operation(
        summary="Tag or describe a model, table, run or what else has a page",
        body={JSON: LabelRequest},
        answers={JSON: dict[str, Any]},
    ),
    ("POST", "/v1/comments/{kind}/{name}"): Operation(
        summary="Comment on a model, table, run or what else has a page",
        status=201,
        body={JSON: CommentRequest},
        answers={JSON: Comment},
    ),
    ("DELETE", "/v1/comments/{comment}"): Operation(
        summary="Put a comment of one's own out of sight", answers={JSON: Comment}
    ),
    ("POST", "/comments/{kind}/{name}/add"): Operation(
        summary="Comment on an object, and go to its page", status=303, body={FORM: CommentRequest}, tag="Pages"
    ),
    ("POST", "/comments/{comment}/withdraw"): Operation(
        summary="Put a comment of one's own out of sight, and go to its object's page", status=303, tag="Pages"
    ),
    ("GET", "/v1/tokens"): Operation(
        summary="Tokens, without their secrets",
        answers={JSON: Tokens},
        query={"as-of": "As they were then: 2026-01-31 (all of that day), 2026-01-31T12:30, or @COMMIT"},
    ),
    ("POST", "/v1/tokens"): Operation(
        summary="Make a token", body={JSON: TokenRequest}, answers={JSON: NewToken}, status=201
    ),
    ("DELETE", "/v1/tokens/{name}"): Operation(summary="Revoke a token", answers={JSON: OneToken}),
    ("POST", "/v1/links"): Operation(summary="Make a link that signs a browser in", answers={JSON: Link}, status=201),
}
