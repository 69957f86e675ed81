from hamilton.htypes import Collect, Parallelizable


def item(n: int) -> Parallelizable[int]:
    yield from range(n)


def work(item: int) -> int:
    return item * item


def total(work: Collect[int]) -> int:
    return sum(work)
