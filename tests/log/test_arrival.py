"""C11: ten arrival orders with resent events, one meaning."""

import json
import random
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
import pytest

from sampan.log.project import open_source
from tests.log.conftest import Shop, line


@pytest.mark.slow
def test_ten_shuffled_arrival_orders_with_resent_events_give_one_state(make_shop: Callable[..., Shop]) -> None:
    chance = random.Random(11)
    events = [line(f"e{number}", quantity=number, customer=str(number % 7)) for number in range(400)]
    states, tables, roots = set(), set(), set()
    for order in range(10):
        shop = make_shop(f"order{order}", segment_events=260 if order % 2 else 500_000)
        sent = events + chance.sample(events, 20)
        chance.shuffle(sent)
        writer = shop.writer()
        for start in range(0, len(sent), 30):
            writer.append(writer.checker.read(json.dumps(sent[start : start + 30]).encode()), "test")
        if order % 2:
            writer.seal()
        log = shop.log()
        assert log.stats()["accepted"] == 400
        assert log.stats()["duplicate"] == 20
        states.add(log.state("order_line", log.position()))
        roots.add(log.root())
        tables.add(json.dumps(_rows(log), default=str))
        writer.close()
        assert shop.log().state("order_line", log.position()) in states
    assert len(states) == 1
    assert len(tables) == 1
    assert len(roots) == 10  # the log itself remembers how things came


def _rows(log: Any) -> list[dict[str, Any]]:
    paths, rest = open_source(log.source("order_line", log.position()))
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    rows += rest.to_pylist() if rest is not None else []
    by_arrival = ("_position", "_received", "_known_at")
    return sorted(({k: v for k, v in row.items() if k not in by_arrival} for row in rows), key=lambda row: row["_id"])


def test_a_state_at_an_earlier_position_does_not_see_what_came_later(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop(segment_events=3)
    seen = []
    for number in range(8):
        shop.send(line(f"e{number}"), line(f"bad{number}", quantity="x"))
        log = shop.log()
        seen.append((log.position(), log.state("order_line", log.position())))
    writer = shop.writer()
    writer.seal()
    writer.close()
    log = shop.log()
    assert [log.state("order_line", position) for position, _ in seen] == [state for _, state in seen]
    assert [state.count for _, state in seen] == list(range(1, 9))
    for position, state in seen:
        assert len(_rows_at(log, position)) == state.count


def _rows_at(log: Any, position: Any) -> list[Any]:
    paths, rest = open_source(log.source("order_line", position))
    return [row for path in paths for row in pq.read_table(path).to_pylist()] + (rest.to_pylist() if rest else [])
