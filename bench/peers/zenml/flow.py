"""ZenML, local stack; caching is on by default."""

import os
import sys
from pathlib import Path

import marks
import pandas as pd
import rules
from zenml import pipeline, step


@step
def a(path: str) -> int:
    marks.mark("a")
    return int(Path(path).read_text())


@step
def b(value: int) -> int:
    marks.mark("b")
    return value + 1


@step
def c(value: int) -> int:
    marks.mark("c")
    return rules.adjust(value) + 1  # STEP


@step
def d(value: int) -> int:
    marks.mark("d")
    return value + 1


@step
def e(value: int) -> int:
    marks.mark("e")
    print("RESULT", value)
    return value


@pipeline(enable_cache=not os.environ.get("NO_CACHE"))
def linear():
    e(d(c(b(a("input.txt")))))


@step
def link(value: int, place: int) -> int:
    marks.mark(f"s{place:02d}")
    return value + 1


@pipeline
def long():
    value = 0
    for place in range(20):
        value = link(value, place)


@step(enable_cache=False)
def made(rows: int) -> pd.DataFrame:
    import numpy as np

    return pd.DataFrame(np.random.default_rng(0).random((rows, 10)), columns=list("abcdefghij"))


@step(enable_cache=False)
def used(frame: pd.DataFrame) -> float:
    value = float(frame.a.sum())
    print("RESULT", value)
    return value


@pipeline
def frame(rows: int):
    used(made(rows))


if __name__ == "__main__":
    job, *numbers = sys.argv[1:]
    {"linear": linear, "long": long, "frame": frame}[job](*map(int, numbers))
