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
from sampan.track.order import Order, parse_orders
from sampan.track.records import Experiment, Run
from sampan.track.runs import Runs
from sampan.track.sql import Shape, Sql, order_by, walk, where

View = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]
RUNS_PER_PAGE: Final = 50_000
EXPERIMENTS_PER_PAGE: Final = 50_000
#: Objects of experiments, whose numbers are given as a JSON list.
WITHIN: Final = "o.experiment IN (SELECT value FROM json_each(?))"
_NEWEST_RUN: Final = ("o.started DESC", "o.uuid")
#: Runs from which on a page of them is read along an index.
MANY: Final = 10_000
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
        self.many = MANY
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
        asked = page.question("runs", sorted(experiments), filter, view, list(orders))
        condition = Sql(f"{WITHIN} AND {_VIEWS[view]} AND {found.text}", [json.dumps(list(experiments)), *found.given])
        sorted_by = parse_orders(orders, RUNS)
        place = self._place("runs", token, asked)
        ids = self._along(sorted_by, experiments, condition, limit, place)
        if len(ids) <= limit:
            ids = self._sorted("runs", self._of_runs, sorted_by, _NEWEST_RUN, condition, limit, place)
        following = _following(ids, limit, place)
        ids = ids[:limit]
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
        asked = page.question("experiments", filter, view, list(orders))
        condition = Sql(f"{_VIEWS[view]} AND {found.text}", found.given)
        place = self._place("experiments", token, asked)
        sorted_by = parse_orders(orders, EXPERIMENTS)
        ids = self._sorted("experiments", shape, sorted_by, ("o.created DESC", "o.id"), condition, limit, place)
        made: list[Experiment] = self._experiments.many(ids[:limit])
        return Page(made, _following(ids, limit, place))

    def datasets(self, experiments: Sequence[int]) -> list[tuple[int, str, str, str]]:
        """Experiment, name, digest and use of the datasets that runs read; at most 1,000."""
        rows = self._db.rows(
            f"""SELECT DISTINCT o.experiment, name, digest, coalesce(context, '')
                FROM datasets AS o JOIN inputs ON dataset = o.id WHERE {WITHIN}
                ORDER BY name, digest, context LIMIT 1000""",
            (json.dumps(list(experiments)),),
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def _place(self, table: str, token: str, asked: str) -> page.Place:
        """Where a page begins. Raises Usage."""
        place = page.place_of(token, asked)
        if place is None:
            newest = self._db.rows(f"SELECT coalesce(max(id), 0) FROM {table}")
            place = page.Place(asked, [0], newest[0][0] if newest else 0)
        return place

    def _sorted(
        self,
        table: str,
        shape: Shape,
        orders: Sequence[Order],
        last: Sequence[str],
        condition: Sql,
        limit: int,
        place: page.Place,
    ) -> list[int]:
        """The row numbers of one page, and of one row more if there is one."""
        joins, order = order_by(orders, shape, last)
        return self._ids(f"{table} AS o {joins.text}", joins.given, condition, order, limit, place)

    def _along(
        self, orders: Sequence[Order], experiments: Sequence[int], condition: Sql, limit: int, place: page.Place
    ) -> list[int]:
        """The same, read along the index of what runs are sorted by; fewer where that index does not fill the page.

        Nothing where few runs are searched: the index holds those of all experiments.
        """
        path = walk(orders, self._of_runs, _NEWEST_RUN)
        if path is None:
            return []
        many = f"SELECT count(*) FROM (SELECT 1 FROM runs AS o WHERE {WITHIN} LIMIT ?)"
        if self._db.rows(many, (json.dumps(list(experiments)), self.many))[0][0] < self.many:
            return []
        values, joins, owned, order = path
        both = Sql(f"{owned.text} AND {condition.text}", [*owned.given, *condition.given])
        return self._ids(f"{values} CROSS JOIN runs AS o {joins.text}", joins.given, both, order, limit, place)

    def _ids(
        self, source: str, given: Sequence[Any], condition: Sql, order: str, limit: int, place: page.Place
    ) -> list[int]:
        start = page.number(place.after[0] if place.after else None)
        rows = self._db.rows(
            f"SELECT o.id FROM {source} WHERE {condition.text} AND o.id <= ? ORDER BY {order} LIMIT ? OFFSET ?",
            [*given, *condition.given, page.number(place.newest), limit + 1, start],
        )
        return [row[0] for row in rows]


def _following(ids: Sequence[int], limit: int, place: page.Place) -> str:
    """The token of the page after one; empty where there is none."""
    start = page.number(place.after[0] if place.after else None)
    return page.token(page.Place(place.question, [start + limit], place.newest)) if len(ids) > limit else ""


def check_limit(limit: int, most: int) -> None:
    """Raises Usage for a page of no size that there is."""
    if not 1 <= limit <= most:
        raise Usage("Search", f"invalid value {limit} for max_results", f"It lies between 1 and {most}.")
