"""What the routes for machines and commands take and give, for the OpenAPI description: a module for each area. Pages
describe themselves."""

from collections.abc import Mapping
from typing import Final

from sampan.api.openapi import Operation
from sampan.api.operations import events, hub, lake, mlflow, models, predictions, releases, reviews, runs, team, watch

AREAS: Final = (events, predictions, hub, watch, team, runs, lake, models, releases, reviews, mlflow)

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    route: operation for area in AREAS for route, operation in area.OPERATIONS.items()
}
