from pathlib import Path

import marks
import rules


def a(path: str) -> int:
    marks.mark("a")
    return int(Path(path).read_text())


def b(a: int) -> int:
    marks.mark("b")
    return a + 1


def c(b: int) -> int:
    marks.mark("c")
    return rules.adjust(b) + 1  # STEP


def d(c: int) -> int:
    marks.mark("d")
    return c + 1


def e(d: int) -> int:
    marks.mark("e")
    return d
