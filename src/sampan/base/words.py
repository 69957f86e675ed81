"""How figures and names are put into sentences."""

from collections.abc import Sequence


def some(names: Sequence[str], most: int = 4, between: str = ", ") -> str:
    """The first few of many names, and how many more there are. Between clauses, which may hold commas: ``"; "``."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def counted(count: int, noun: str) -> str:
    """A number with its noun: ``1 day``, ``3 days``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
