"""The OpenAPI description of the hub: one operation for every route of the policies, so that none is left out.

What a route takes and gives stands in a table of ``Operation``; schemas come from the same structs that the routes
decode and encode. A route that nobody described is there all the same, with what is true of every route.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.api.mlflow_errors import MlflowFailure
from sampan.api.policies import ANYBODY
from sampan.team.roles import ROLES

FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"
HTML: Final = "text/html"
NDJSON: Final = "application/x-ndjson"
#: Media type → type.
Answers = Mapping[str, Any]


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """What one route takes and gives. A type is given as Python knows it; ``Any`` is any JSON."""

    summary: str
    answers: Answers = {}
    """Media type → type of the answer. Empty: an answer without a body."""
    status: int = 200
    body: Answers = {}
    """Media type → type of what is sent. Empty: nothing is."""
    query: Mapping[str, str] = {}
    """Query parameters, each with what it is for."""
    also: Mapping[int, str] = {}
    """Further statuses, each with when it is answered."""
    tag: str = ""
    failure: str = "Failure"
    """The response of ``components`` that every answer of 400 and above is."""


class Problem(msgspec.Struct, frozen=True):
    """What went wrong: what was attempted, what stood in the way, what to do next."""

    kind: str
    attempted: str
    obstacle: str
    advice: str


class Failure(msgspec.Struct, frozen=True):
    """The body of every answer of 400 and above."""

    error: Problem


class InferenceFailure(msgspec.Struct, frozen=True):
    """The body of an answer of 400 and above to a client of the Open Inference Protocol."""

    error: str


#: What names a part of a path, for examples that say how it looks.
_PARTS: Final = {
    "event": ("A position in the log", "intake:1"),
    "item": ("A position in the log", "intake:1"),
    "object": ("Anything that has a history: a prediction, an event's position, MODEL@N, a table, a step", "reorder@1"),
    "name": ("A name", "reorder"),
    "run": ("A run's id, or `last`", "last"),
    "log": ("The name of a step's output", "reorder.log"),
    "number": ("A version's number", "1"),
    "version": ("A version's number", "1"),
    "repair": ("A repair's id", "01hz0000"),
    "path": ("Where an artifact lies, as its client was told; it may hold slashes", "0/RUN/artifacts/model.pkl"),
}
_VERBS: Final = {"GET": "Read", "POST": "Send to", "DELETE": "Remove", "PUT": "Replace", "PATCH": "Change"}
_TITLES: Final = {
    "v1": "Commands",
    "predict": "Predictions",
    "invocations": "Predictions",
    "v2": "Predictions",
    "api": "MLflow",
}


def describe(
    policies: Mapping[tuple[str, str], str],
    operations: Mapping[tuple[str, str], Operation],
    *,
    version: str,
    cookie: str,
) -> dict[str, Any]:
    """The document. ``operations`` may be partial; what names no route of ``policies`` is left out."""
    known = {route: operations.get(route) or _plain(*route) for route in policies}
    types = {kind for one in known.values() for kinds in (one.body, one.answers) for kind in kinds.values()} - {Any}
    ordered = sorted(types, key=repr)
    schemas, components = msgspec.json.schema_components(
        [*ordered, Failure, MlflowFailure, InferenceFailure],
        schema_hook=lambda _: {},
        ref_template="#/components/schemas/{name}",
    )
    schema: dict[Any, Any] = dict(zip(ordered, schemas, strict=False)) | {Any: {}}
    paths: dict[str, Any] = {}
    for (method, path), one in sorted(known.items(), key=lambda pair: (pair[0][1], pair[0][0])):
        made = _operation(method, path, policies[method, path], one, schema)
        if (method, f"/v1{path}") in known:  # a page's form beside the command of the same name
            made["operationId"] += "_page"
        paths.setdefault(path, {})[method.lower()] = made
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sampan",
            "version": version,
            "description": "Every page has a JSON twin at its own address: ask with `Accept: application/json`, "
            "or with `?format=json`. What must be allowed to use a route stands in its `x-act`.",
        },
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "A token: `sampan token create`."},
                "basic": {"type": "http", "scheme": "basic", "description": "A token as the user's name."},
                "session": {"type": "apiKey", "in": "cookie", "name": cookie, "description": "A browser's."},
            },
            "responses": {
                "Failure": {
                    "description": "Not done. The body says what was attempted, what stood in the way, what to do.",
                    "content": {
                        JSON: {"schema": {"$ref": "#/components/schemas/Failure"}},
                        HTML: {"schema": {"type": "string"}},
                    },
                },
                "InferenceFailure": {
                    "description": "Not done, said as the Open Inference Protocol says it.",
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/InferenceFailure"}}},
                },
                "MlflowFailure": {
                    "description": "Not done, said as MLflow says it.",
                    "content": {JSON: {"schema": {"$ref": "#/components/schemas/MlflowFailure"}}},
                },
            },
        },
    }


def _plain(method: str, path: str) -> Operation:
    """What can be said of any route."""
    return Operation(
        summary=f"{_VERBS.get(method, method)} {path}",
        answers={JSON: Any} if method != "HEAD" else {},
        body={JSON: Any} if method in ("POST", "PUT", "PATCH") else {},
        also={} if method == "GET" else {202: "Taken.", 204: "Done."},
    )


def _operation(method: str, path: str, act: str, one: Operation, schema: dict[Any, Any]) -> dict[str, Any]:
    first = path.split("/")[1]
    done: dict[str, Any] = {"description": one.summary}
    if one.answers:
        done["content"] = {media: {"schema": schema[kind]} for media, kind in one.answers.items()}
    failure = {"$ref": f"#/components/responses/{one.failure}"}
    answers: dict[str, Any] = {str(one.status): done}
    for status, when in one.also.items():
        answers[str(status)] = failure if status >= 400 else {**done, "description": when}
    found: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{method.lower()} {path.replace('/v1/', '/')}").strip("_"),
        "summary": one.summary,
        "tags": [one.tag or _TITLES.get(first, first.capitalize() or "Overview")],
        "x-act": act,
        "responses": {**answers, "4XX": failure},
    }
    if act == ANYBODY:
        found["security"] = []
    else:
        roles = [role for role, acts in ROLES.items() if act in acts]
        found["description"] = f"For the roles {', '.join(roles)}."
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PARTS.get(name, ("Its name", ""))[0],
            "schema": {"type": "string", "minLength": 1},
            "example": _PARTS.get(name, ("", name))[1],
        }
        for name in re.findall(r"{(\w+)}", path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": purpose, "schema": {"type": "string"}}
        for name, purpose in one.query.items()
    ]
    if parameters:
        found["parameters"] = parameters
    if one.body:
        content = {media: {"schema": schema[kind]} for media, kind in one.body.items()}
        found["requestBody"] = {"required": True, "content": content}
    return found
