import marks
import rules

from sampan import File, step

INPUT = File("input.txt")


@step
def a() -> int:
    marks.mark("a")
    return int(INPUT.read_text())


@step
def b(a: int) -> int:
    marks.mark("b")
    return a + 1


@step
def c(b: int) -> int:
    marks.mark("c")
    return rules.adjust(b) + 1  # STEP


@step
def d(c: int) -> int:
    marks.mark("d")
    return c + 1


@step
def e(d: int) -> int:
    marks.mark("e")
    return d
