"""Search: what a filter finds, in an order, page by page."""

import json
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from sampan.base.errors import Usage
from sampan.store.database import Database
from sampan.track import page
from sampan.track.experiments import Experiments
from sampan.track.filter import EXPERIMENTS, RUNS, parse
from sampan.track.keys import Keys
from sampan.track.order import parse_orders
from sampan.track.records import Experiment, Run
from sampan.track.runs import Runs
from sampan.track.sql import Shape, Sql, order_by, where

View = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]
RUNS_PER_PAGE: Final = 50_000
EXPERIMENTS_PER_PAGE: Final = 50_000
#: Objects of experiments, whose numbers are given as a JSON list.
WITHIN: Final = "o.experiment IN (SELECT value FROM json_each(?))"
_VIEWS: Final[dict[str, str]] = {
    "ACTIVE_ONLY": "o.deleted IS NULL",
    "DELETED_ONLY": "o.deleted IS NOT NULL",
    "ALL": "1",
}


class Page(msgspec.Struct, frozen=True):
    """What was found; ``next`` is the token of the page after it, if there is one."""

    found: list[Any]
    next: str = ""


class Search:
    """Finds runs and experiments."""

    def __init__(self, db: Database, keys: Keys, runs: Runs, experiments: Experiments) -> None:
        self._db, self._runs, self._experiments = db, runs, experiments
        self._of_runs = Shape(
            columns={
                "run_id": "o.uuid",
                "run_name": "o.name",
                "status": "o.status",
                "user_id": "o.user",
                "artifact_uri": "('mlflow-artifacts:/' || o.experiment || '/' || o.uuid || '/artifacts')",
                "start_time": "o.started",
                "end_time": "o.ended",
            },
            values={"metric": "latest", "param": "params", "tag": "tags"},
            owner="run",
            key=keys.find,
        )
        self._of_experiments = Shape(
            columns={
                "name": "o.name",
                "experiment_id": "CAST(o.id AS TEXT)",
                "creation_time": "o.created",
                "last_update_time": "o.updated",
            },
            values={"tag": "experiment_tags"},
            owner="experiment",
            key=lambda name: name,
        )

    def runs(
        self,
        experiments: Sequence[int],
        filter: str = "",
        *,
        view: View = "ACTIVE_ONLY",
        orders: Sequence[str] = (),
        limit: int = 1000,
        token: str = "",
    ) -> "Page":
        """Runs of experiments (of none, if none are named), newest first unless ordered. Raises Usage."""
        check_limit(limit, RUNS_PER_PAGE)
        found = where(parse(filter, RUNS, "Search runs"), self._of_runs)
        joins, order = order_by(parse_orders(orders, RUNS), self._of_runs, ("o.started DESC", "o.uuid"))
        asked = page.question("runs", sorted(experiments), filter, view, list(orders))
        condition = Sql(f"{WITHIN} AND {_VIEWS[view]} AND {found.text}", [json.dumps(list(experiments)), *found.given])
        ids, following = self._ids("runs", joins, condition, order, limit, token, asked)
        made: list[Run] = self._runs.many(ids)
        return Page(made, following)

    def experiments(
        self,
        filter: str = "",
        *,
        view: View = "ACTIVE_ONLY",
        orders: Sequence[str] = (),
        limit: int = 1000,
        token: str = "",
    ) -> "Page":
        """Experiments, newest first unless ordered. Raises Usage."""
        check_limit(limit, EXPERIMENTS_PER_PAGE)
        shape = self._of_experiments
        found = where(parse(filter, EXPERIMENTS, "Search experiments"), shape)
        joins, order = order_by(parse_orders(orders, EXPERIMENTS), shape, ("o.created DESC", "o.id"))
        asked = page.question("experiments", filter, view, list(orders))
        condition = Sql(f"{_VIEWS[view]} AND {found.text}", found.given)
        ids, following = self._ids("experiments", joins, condition, order, limit, token, asked)
        made: list[Experiment] = self._experiments.many(ids)
        return Page(made, following)

    def datasets(self, experiments: Sequence[int]) -> list[tuple[int, str, str, str]]:
        """Experiment, name, digest and use of the datasets that runs read; at most 1,000."""
        rows = self._db.rows(
            f"""SELECT DISTINCT o.experiment, name, digest, coalesce(context, '')
                FROM datasets AS o JOIN inputs ON dataset = o.id WHERE {WITHIN}
                ORDER BY name, digest, context LIMIT 1000""",
            (json.dumps(list(experiments)),),
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def _ids(
        self, table: str, joins: Sql, condition: Sql, order: str, limit: int, token: str, asked: str
    ) -> tuple[list[int], str]:
        """The row numbers of one page, and the token of the next."""
        place = page.place_of(token, asked)
        if place is None:
            newest = self._db.rows(f"SELECT coalesce(max(id), 0) FROM {table}")
            place = page.Place(asked, [0], newest[0][0] if newest else 0)
        start = page.number(place.after[0] if place.after else None)
        rows = self._db.rows(
            f"SELECT o.id FROM {table} AS o {joins.text} WHERE {condition.text} AND o.id <= ? "
            f"ORDER BY {order} LIMIT ? OFFSET ?",
            [*joins.given, *condition.given, page.number(place.newest), limit + 1, start],
        )
        ids = [row[0] for row in rows]
        more = page.token(page.Place(asked, [start + limit], place.newest)) if len(ids) > limit else ""
        return ids[:limit], more


def check_limit(limit: int, most: int) -> None:
    """Raises Usage for a page of no size that there is."""
    if not 1 <= limit <= most:
        raise Usage("Search", f"invalid value {limit} for max_results", f"It lies between 1 and {most}.")
