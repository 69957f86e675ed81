"""Prefect; with CACHE=1 in the environment: inputs and task source as cache policy, results persisted."""

import os
import sys
from pathlib import Path

import marks
import rules
from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.task_runners import ThreadPoolTaskRunner

KEPT = {"cache_policy": INPUTS + TASK_SOURCE, "persist_result": True} if os.environ.get("CACHE") else {}


@task(**KEPT)
def a(path):
    marks.mark("a")
    return int(Path(path).read_text())


@task(**KEPT)
def b(value):
    marks.mark("b")
    return value + 1


@task(**KEPT)
def c(value):
    marks.mark("c")
    return rules.adjust(value) + 1  # STEP


@task(**KEPT)
def d(value):
    marks.mark("d")
    return value + 1


@task(**KEPT)
def e(value):
    marks.mark("e")
    return value


@flow
def linear():
    print("RESULT", e(d(c(b(a("input.txt"))))))


@task(**KEPT)
def link(value, place):
    marks.mark(f"s{place:02d}")
    return value + 1


@flow
def long():
    value = 0
    for place in range(20):
        value = link(value, place)
    print("RESULT", value)


@task
def work(item):
    return item * item


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def fan(n):
    print("RESULT", sum(future.result() for future in work.map(list(range(n)))))


@task(**KEPT)
def made(rows):
    import numpy as np
    import pandas as pd

    return pd.DataFrame(np.random.default_rng(0).random((rows, 10)), columns=list("abcdefghij"))


@task(**KEPT)
def used(frame):
    return float(frame.a.sum())


@flow
def frame(rows):
    print("RESULT", used(made(rows)))


if __name__ == "__main__":
    job, *numbers = sys.argv[1:]
    {"linear": linear, "long": long, "fan": fan, "frame": frame}[job](*map(int, numbers))
