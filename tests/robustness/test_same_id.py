"""R9: one event, sent often."""

from pathlib import Path

import pytest

from tests.robustness.oracles import same_id_at_once, torn_tail


def test_an_event_sent_five_times_at_once_and_after_a_kill_is_stored_once(tmp_path: Path) -> None:
    assert same_id_at_once(tmp_path) == []


@pytest.mark.slow
def test_a_torn_last_frame_is_cut_off_and_nothing_else_is(tmp_path: Path) -> None:
    assert torn_tail(tmp_path) == []
