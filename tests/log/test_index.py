"""The index of sealed keys gives what a dictionary would, however its runs were made and merged."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.log.index import Entries, Index, add_run, tidy
from sampan.testing.planting import plant_sealed_ids

KEYS = st.binary(min_size=16, max_size=16) | st.binary(min_size=8, max_size=8).map(lambda low: b"\0" * 8 + low)


def entries(keys: list[bytes], start: int) -> Entries:
    words = np.frombuffer(b"".join(keys), ">u8").astype(np.uint64).reshape(-1, 2)
    numbers = np.arange(start, start + len(keys), dtype=np.uint64)
    return words[:, 0].copy(), words[:, 1].copy(), numbers * np.uint64(7), numbers


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(runs=st.lists(st.sets(KEYS, max_size=40), max_size=6), absent=st.sets(KEYS, max_size=20))
def test_an_index_knows_what_a_dictionary_knows(tmp_path_factory, runs, absent) -> None:  # type: ignore[no-untyped-def]
    folder: Path = tmp_path_factory.mktemp("index")
    known: dict[bytes, tuple[int, int]] = {}
    for segment, keys in enumerate(runs, start=1):
        fresh = sorted(keys - known.keys())
        add_run(folder, segment, entries(fresh, len(known) + 1))
        known |= {key: (number, number * 7) for number, key in enumerate(fresh, start=len(known) + 1)}
    tidy(folder)
    index = Index(folder)
    assert index.count == len(known)
    assert all(index.covers(segment) for segment in range(1, len(runs) + 1))
    asked = sorted(absent | known.keys())
    assert index.find(asked) == known
    assert index.find(asked * 5) == known  # together rather than one by one
    sizes = [run.header.count for run in index.runs]
    assert all(older > 4 * newer for older, newer in pairwise(sizes))
    index.close()


def test_a_planted_history_is_searched_like_any_other(tmp_path: Path) -> None:
    plant_sealed_ids(tmp_path, 100_000)
    index = Index(tmp_path / "index")
    high, low, content, number = (column[12_345] for column in index.runs[0].columns)
    key = int(high).to_bytes(8, "big") + int(low).to_bytes(8, "big")
    assert index.find([b"\1" * 16, key]) == {key: (int(number), int(content))}
    index.close()
