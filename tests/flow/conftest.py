"""A fresh workspace for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = tmp_path / "shop"
    root.mkdir()
    made = Bench(root)
    yield made
    made.db.close()
