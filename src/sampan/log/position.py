"""A position: how much of each stream is meant. Opaque to users, ``intake:12345,serve-reorder:88`` as text."""

from collections.abc import Iterator, Mapping

from sampan.base.errors import Usage
from sampan.base.ids import is_name, whole


class Position(Mapping[str, int]):
    """Immutable mapping of stream to number of items; a stream that is not named has none."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, int] | None = None) -> None:
        self._items = {stream: count for stream, count in sorted((items or {}).items()) if count}

    @classmethod
    def parse(cls, text: str) -> "Position":
        """The position that ``str()`` gave. Raises Usage for any other text."""
        items: dict[str, int] = {}
        for part in filter(None, text.strip().split(",")):
            stream, _, told = part.rpartition(":")
            count = whole(told)
            if not is_name(stream) or count is None or stream in items:
                shown = f"{text[:200]!r} is not one"
                raise Usage("Read a log position", shown, "Use it as `sampan log stats` prints it.")
            items[stream] = count
        return cls(items)

    def __getitem__(self, stream: str) -> int:
        return self._items.get(stream, 0)

    def __contains__(self, stream: object) -> bool:
        return stream in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __str__(self) -> str:
        return ",".join(f"{stream}:{count}" for stream, count in self._items.items())

    def __repr__(self) -> str:
        return f"Position({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Position) and self._items == other._items

    def __hash__(self) -> int:
        return hash(tuple(self._items.items()))


def place(stream: str, number: int) -> str:
    """The text of one item's place, as answers carry it: ``intake:12345``."""
    return f"{stream}:{number}"
