"""A durability test that has never failed on a broken build is no evidence: each oracle turns red on its sabotage."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.robustness.oracles import (
    aimed_kill,
    keys_of_the_acknowledged,
    order_of_calls,
    random_kills,
    same_id_at_once,
    sync_error,
    torn_tail,
)
from tests.robustness.sabotage import SABOTAGES
from tests.robustness.server import needs_strace
from tests.robustness.test_hostile import hostile
from tests.robustness.test_kills import sigterm


def _failure(test: Callable[[], None]) -> list[str]:
    try:
        test()
    except AssertionError as error:
        return [str(error)]
    return []


JUDGES: dict[str, Callable[[Path, str], list[str]]] = {
    "no_fsync": lambda folder, sabotage: order_of_calls(folder, requests=50, sabotage=sabotage),
    "ack_before_write": lambda folder, sabotage: order_of_calls(folder, requests=50, sabotage=sabotage),
    "write_later": lambda folder, sabotage: random_kills(folder, 3, sabotage=sabotage)[0],
    "tidy_bytes": lambda folder, sabotage: _failure(lambda: hostile(folder, 200, sabotage)),
    "deaf_to_signals": lambda folder, sabotage: _failure(lambda: sigterm(folder, 1, sabotage)),
    "no_folder_sync": lambda folder, sabotage: order_of_calls(folder, requests=50, sabotage=sabotage),
    "no_tail_check": lambda folder, sabotage: torn_tail(folder, sabotage=sabotage),
    "no_dedupe": lambda folder, sabotage: same_id_at_once(folder, sabotage=sabotage, rounds=3),
    "keys_after_events": lambda folder, sabotage: keys_of_the_acknowledged(folder, sabotage=sabotage),
    "continue_after_fsync_error": lambda folder, sabotage: sync_error(folder, 4, sabotage=sabotage),
}


@needs_strace
@pytest.mark.night
@pytest.mark.parametrize("sabotage", sorted(JUDGES))
def test_an_oracle_turns_red_on_a_sabotaged_build(tmp_path: Path, sabotage: str) -> None:
    assert JUDGES[sabotage](tmp_path, sabotage) != []


@needs_strace
@pytest.mark.night
def test_aimed_kills_see_an_answer_that_left_too_early(tmp_path: Path) -> None:
    found = [aimed_kill(tmp_path / str(when), "write", when, sabotage="ack_before_write")[0] for when in (3, 4, 5)]
    assert any(found)


def test_every_sabotage_has_a_judge() -> None:
    assert set(JUDGES) == set(SABOTAGES)
