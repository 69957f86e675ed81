"""Dagster, each op in a process of its own (its default for jobs that are executed from a file)."""

from pathlib import Path

import marks
import rules
from dagster import job, multiprocess_executor, op

HERE = Path(__file__).parent


@op
def a():
    marks.mark("a")
    return int((HERE / "input.txt").read_text())


@op
def b(value):
    marks.mark("b")
    return value + 1


@op
def c(value):
    marks.mark("c")
    return rules.adjust(value) + 1  # STEP


@op
def d(value):
    marks.mark("d")
    return value + 1


@op
def e(value):
    marks.mark("e")
    return value


@job(executor_def=multiprocess_executor.configured({"max_concurrent": 2}))
def linear():
    e(d(c(b(a()))))
