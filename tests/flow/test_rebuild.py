"""After any sequence of edits, what a workspace has is what a build from nothing gives."""

# ruff: noqa: E501 - source text

import random
from pathlib import Path

import pytest
from flow_bench import Bench

FILES = {
    "steps.py": "from sampan import step\nfrom helpers import scale\nfrom pkg import shift\nimport pyarrow as pa\n\nSIZE = 3\n\n"
    "@step\ndef numbers(start: int = 1) -> pa.Table:\n    return pa.table({'x': [scale(i + start) for i in range(SIZE)]})\n\n"
    "@step(each='x')\ndef parts(numbers: pa.Table, x: int) -> int:\n    return shift(x) % 4\n\n"
    "@step\ndef total(parts: list[int], doubled: pa.Table) -> list:\n    return [sum(parts), doubled['y'].to_pylist()]\n",
    "helpers.py": "FACTOR = 2\n\ndef scale(x):\n    return x * FACTOR\n",
    "pkg/__init__.py": "from .inner import shift\n",
    "pkg/inner.py": "def shift(x):\n    return x + 1\n",
    "tables/doubled.sql": "SELECT x * 2 AS y FROM numbers",
}
EDITS = [
    ("steps.py", "SIZE = {}", (3, 4, 5)),
    ("steps.py", "start: int = {}", (1, 2)),
    ("steps.py", "% {}", (4, 5)),
    ("helpers.py", "FACTOR = {}", (2, 3)),
    ("pkg/inner.py", "x + {}", (1, 2)),
    ("tables/doubled.sql", "x * {}", (2, 3)),
    ("helpers.py", "def scale(x):\n    return x * FACTOR\n{}", ("", "# a comment\n")),
]


@pytest.mark.night
@pytest.mark.parametrize("seed", range(3))
def test_edits_in_any_order_end_where_a_build_from_nothing_does(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    values = {number: choices[0] for number, (_, _, choices) in enumerate(EDITS)}
    lived = made(tmp_path / "lived", values)
    try:
        for turn in range(8):
            number = chance.randrange(len(EDITS))
            values[number] = chance.choice(EDITS[number][2])
            write(lived, values)
            result = lived.run()
            assert result.state == "succeeded"
            fresh = made(tmp_path / f"fresh{turn}", values)
            try:
                again = fresh.run()
            finally:
                fresh.db.close()
            assert [(s.name, s.digest) for s in result.steps] == [(s.name, s.digest) for s in again.steps]
    finally:
        lived.db.close()


def made(root: Path, values: dict[int, object]) -> Bench:
    root.mkdir()
    bench = Bench(root)
    write(bench, values)
    return bench


def write(bench: Bench, values: dict[int, object]) -> None:
    texts = dict(FILES)
    for number, (path, pattern, choices) in enumerate(EDITS):
        old = pattern.format(choices[0])
        assert old in texts[path]
        texts[path] = texts[path].replace(old, pattern.format(values[number]), 1)
    for path, text in texts.items():
        bench.file(path, text)
