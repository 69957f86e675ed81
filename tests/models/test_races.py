"""R37: a file of a version that is exchanged between check and use is never used: the bytes used are those checked."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightgbm as lgb
import pytest

from sampan.base.errors import Damaged, NotFound
from sampan.flow.declare import Fitted
from sampan.models.formats import freeze, load

_ATTEMPTS = 1_000


@contextmanager
def exchanged(path: Path, other: bytes) -> Iterator[None]:
    """Again and again the file is another one, by a rename, then itself."""
    own, wrong = path.with_name("own"), path.with_name("wrong")
    stop = threading.Event()
    own.write_bytes(path.read_bytes())
    wrong.write_bytes(other)

    def work() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            new = path.with_name(f"new{turn}")
            os.link(wrong if turn % 2 else own, new)
            new.replace(path)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()
        own.replace(path)


@pytest.mark.slow
def test_of_a_thousand_loads_in_a_race_with_an_exchange_none_is_of_other_bytes(frame, blobs):
    def version(trees: int):
        model = lgb.LGBMClassifier(n_estimators=trees, verbose=-1, n_jobs=1, random_state=0)
        return freeze(Fitted(model.fit(frame[["spend"]], frame["again"]), ["spend"], sample=frame), "binary", blobs)

    ours, theirs = version(3), version(4)
    records = [{"spend": float(n)} for n in range(0, 50, 10)]
    expected = load(ours, blobs).predict(records)
    (file,), (other,) = ours.files.values(), theirs.files.values()
    assert expected != load(theirs, blobs).predict(records)
    loaded = refused = 0
    with exchanged(blobs.path(file), blobs.get(other)):
        for _ in range(_ATTEMPTS):
            try:
                found = load(ours, blobs).predict(records)
            except (Damaged, NotFound):
                refused += 1
            else:
                assert found == expected
                loaded += 1
    assert loaded > 50 and refused > 50, "there was no race"
