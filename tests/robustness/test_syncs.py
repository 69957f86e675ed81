"""R3, R6: nothing is acknowledged before it is on the disk, nor after the disk has failed."""

from pathlib import Path

import pytest

from tests.robustness.oracles import order_of_calls, sync_error
from tests.robustness.server import needs_strace


@needs_strace
def test_no_answer_leaves_before_a_sync_that_covers_it(tmp_path: Path) -> None:
    assert order_of_calls(tmp_path) == []


@pytest.mark.slow
@needs_strace
@pytest.mark.parametrize("when", [1, 2, 3, 4, 6])
def test_one_failed_sync_stops_every_acknowledgement_until_a_restart(tmp_path: Path, when: int) -> None:
    assert sync_error(tmp_path, when) == []


@needs_strace
@pytest.mark.night
@pytest.mark.parametrize("when", range(1, 21))
def test_twenty_places_of_a_failed_sync(tmp_path: Path, when: int) -> None:
    assert sync_error(tmp_path, when) == []
