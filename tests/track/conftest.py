"""Tracking on a real database, in a folder of its own."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sampan.base.clock import ManualClock
from sampan.track.tracking import Tracking


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 1, 31, 12, tzinfo=UTC))


@pytest.fixture
def tracking(tmp_path: Path, clock: ManualClock) -> Iterator[Tracking]:
    made = Tracking(tmp_path / ".sampan", clock)
    yield made
    made.close()
