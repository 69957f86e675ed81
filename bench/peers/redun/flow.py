"""redun, local executor; the input file is declared as redun.File, as its documentation asks."""

import marks
import rules
from redun import File, task

redun_namespace = "bench"


@task()
def a(file: File):
    marks.mark("a")
    return int(file.read())


@task()
def b(value):
    marks.mark("b")
    return value + 1


@task()
def c(value):
    marks.mark("c")
    return rules.adjust(value) + 1  # STEP


@task()
def d(value):
    marks.mark("d")
    return value + 1


@task()
def e(value):
    marks.mark("e")
    print("RESULT", value)
    return value


@task()
def linear():
    return e(d(c(b(a(File("input.txt"))))))


@task()
def link(value, place):
    marks.mark(f"s{place:02d}")
    return value + 1


@task()
def long():
    value = 0
    for place in range(20):
        value = link(value, place)
    return value


@task()
def work(item):
    return item * item


@task()
def join(items):
    print("RESULT", sum(items))
    return sum(items)


@task()
def fan(n: int):
    return join([work(item) for item in range(n)])


@task()
def made(rows: int):
    import numpy as np
    import pandas as pd

    return pd.DataFrame(np.random.default_rng(0).random((rows, 10)), columns=list("abcdefghij"))


@task()
def used(made):
    return float(made.a.sum())


@task()
def frame(rows: int):
    return used(made(rows))
