"""Many runs side by side: read whole, and drawn over each other, in few questions however many they are."""

import json
from collections.abc import Sequence
from typing import Final

from sampan.base.errors import NotFound, Usage
from sampan.store.database import Database
from sampan.track.keys import Keys
from sampan.track.limits import shown
from sampan.track.records import Curve, Run
from sampan.track.runs import Runs

FEWEST: Final = 2
MOST: Final = 500
#: Curves that are drawn over each other; of more nobody can tell one from another.
CURVES: Final = 50
_DRAWN: Final = 6000  # points of all curves together
_WITHIN: Final = "run IN (SELECT value FROM json_each(?)) AND key = ? AND value > -9e999 AND value < 9e999"


class Comparing:
    """Reads many runs at once."""

    def __init__(self, db: Database, keys: Keys, runs: Runs) -> None:
        self._db, self._keys, self._runs = db, keys, runs

    def runs(self, uuids: Sequence[str]) -> list[Run]:
        """Runs in the order in which they are named, each once. Raises Usage for too few or too many, NotFound."""
        wanted = list(dict.fromkeys(uuids))
        attempted = f"Compare {len(wanted)} runs" if len(wanted) != 1 else "Compare runs"
        if len(wanted) < FEWEST:
            raise Usage(attempted, f"{len(wanted) or 'none'} was chosen", f"Choose {FEWEST} to {MOST}.")
        if len(wanted) > MOST:
            raise Usage(attempted, f"at most {MOST} can be compared", "Leave some out, or narrow them with a filter.")
        query = "SELECT uuid, id FROM runs WHERE uuid IN (SELECT value FROM json_each(?))"
        ids = dict(map(tuple, self._db.rows(query, (json.dumps(wanted),))))
        for uuid in wanted:
            if uuid not in ids:
                raise NotFound(attempted, f"Run with id={shown(uuid)} not found")
        return self._runs.many([ids[uuid] for uuid in wanted])

    def beginning(self, text: str) -> list[str]:
        """The ids of up to two runs that begin so."""
        query = "SELECT uuid FROM runs WHERE uuid >= ? AND uuid < ? ORDER BY uuid LIMIT 2"
        return [row[0] for row in self._db.rows(query, (text, f"{text}g"))]  # ids are hexadecimal

    def curves(self, uuids: Sequence[str], key: str) -> dict[str, Curve]:
        """A metric of each of the first runs that have it, to be drawn in one picture: long ones by their extremes."""
        id, named = self._keys.find(key), list(uuids)
        if id is None:
            return {}
        query = (
            "SELECT uuid, id FROM runs WHERE uuid IN (SELECT value FROM json_each(?))"
            " AND EXISTS (SELECT 1 FROM latest WHERE run = runs.id AND key = ?)"
        )
        having = dict(map(tuple, self._db.rows(query, (json.dumps(named), id))))
        numbers = {having[uuid]: uuid for uuid in named if uuid in having}
        numbers = dict(list(numbers.items())[:CURVES])
        places = max(_DRAWN // max(2 * len(numbers), 1), 20)
        sizes = self._db.rows(
            "SELECT run, count(*), min(step), max(step), min(time), max(time)"
            f" FROM points WHERE {_WITHIN} GROUP BY run",
            (json.dumps(list(numbers)), id),
        )
        found: dict[str, Curve] = {}
        short: dict[int, tuple[bool, int]] = {}
        for run, count, low, high, first, last in sizes:
            timed = low == high and first < last
            if count <= 2 * places:
                short[run] = (timed, first if timed else 0)
                found[numbers[run]] = Curve([], timed, count, 0)
            else:
                found[numbers[run]] = self._runs.curve(numbers[run], key, places)
        rows = self._db.rows(
            f"SELECT run, step, time, value FROM points WHERE {_WITHIN} ORDER BY run, step, time, value",
            (json.dumps(list(short)), id),
        )
        for run, step, time, value in rows:
            timed, first = short[run]
            found[numbers[run]].drawn.append((time - first if timed else step, value))
        return {uuid: found[uuid] for uuid in numbers.values() if uuid in found}
