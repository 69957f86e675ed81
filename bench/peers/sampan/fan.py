import marks

from sampan import step


@step
def item(n: int = 200) -> list[int]:
    return list(range(n))


@step(each="item")
def work(item: int) -> int:
    return item * item


@step
def total(work: list[int]) -> int:
    marks.mark(str(sum(work)))
    return sum(work)
