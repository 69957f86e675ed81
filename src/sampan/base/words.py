"""How figures and names are put into sentences."""

from collections.abc import Sequence


def some(names: Sequence[str], most: int = 4) -> str:
    """The first few of many names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
