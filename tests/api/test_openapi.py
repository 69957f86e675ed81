"""The OpenAPI description: every route is in it, with the schemas that it really reads and writes."""

import ast
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.hub.conftest import Hub, hub

import sampan.hub.views
from sampan.api.mlflow_errors import PREFIXES
from sampan.api.openapi import Operation, describe
from sampan.api.operations import AREAS, OPERATIONS
from sampan.api.policies import ANYBODY, POLICIES
from sampan.hub.sitemap import PAGES, PURPOSES, QUERIES

__all__ = ["hub"]  # the fixture

FAILURES = {"MlflowFailure": (*PREFIXES, "/invocations/"), "InferenceFailure": ("/v2",)}


@pytest.fixture(scope="module")
def document(hub: Hub) -> dict[str, Any]:
    found: dict[str, Any] = hub.json("/v1/openapi")
    return found


def test_no_route_is_described_by_two_areas() -> None:
    assert sum(len(area.OPERATIONS) for area in AREAS) == len(OPERATIONS)


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): one for path, methods in document["paths"].items() for method, one in methods.items()
    }


def test_every_route_is_described_with_what_it_asks_of_whom(document: dict[str, Any]) -> None:
    found = operations(document)
    assert set(found) == set(POLICIES)
    for route, one in found.items():
        assert one["x-act"] == POLICIES[route]
        assert (one.get("security") == []) == (POLICIES[route] == ANYBODY)
        assert one["summary"]
        failure = next((kind for kind, paths in FAILURES.items() if route[1].startswith(paths)), "Failure")
        assert one["responses"]["4XX"] == {"$ref": f"#/components/responses/{failure}"}


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [one["operationId"] for one in operations(document).values()]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [one for part in value.values() for one in references(part)]
        return [one for part in value for one in references(part)] if isinstance(value, list) else []

    found = set(references(document))
    assert len(found) > 30
    for reference in found:
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def test_pages_say_what_their_twins_hold(document: dict[str, Any], hub: Hub) -> None:
    found = operations(document)
    for page in PAGES:
        schema = found["GET", page.path]["responses"]["200"]["content"]["application/json"]["schema"]
        assert "$ref" in schema, page.path
        if "{" not in page.path:
            named = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            assert set(hub.json(page.path)) == set(named["properties"]), page.path


def test_what_views_look_up_in_a_query_is_described() -> None:
    looked_up = set()
    for file in Path(sampan.hub.views.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "query.get" and node.args:
                looked_up |= {one.value for one in node.args[:1] if isinstance(one, ast.Constant)}
    assert len(looked_up) > 5
    assert looked_up <= set(PURPOSES), looked_up - set(PURPOSES)
    assert {name for names in QUERIES.values() for name in names} <= set(PURPOSES)
    assert set(QUERIES) <= {page.path for page in PAGES}


def test_a_route_that_nobody_described_is_there_all_the_same() -> None:
    class Thing(msgspec.Struct):
        size: int

    made = describe(
        {("POST", "/new/{name}"): "read", ("GET", "/thing"): ANYBODY},
        {("GET", "/thing"): Operation(summary="A thing", answers={"application/json": Thing})},
        version="1",
        cookie="crumb",
    )
    assert made["paths"]["/new/{name}"]["post"]["parameters"][0]["name"] == "name"
    content = made["paths"]["/thing"]["get"]["responses"]["200"]["content"]
    assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
    assert made["components"]["securitySchemes"]["session"]["name"] == "crumb"
