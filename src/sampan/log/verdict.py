"""What became of each item of a request, and the answer that says so."""

from typing import Final

import msgspec

from sampan.log.position import place

_ENCODE: Final = msgspec.json.Encoder().encode


class Verdict(msgspec.Struct, frozen=True):
    """One item's outcome: accepted, duplicate or quarantined, and where it is in the log."""

    id: str | None
    verdict: str
    position: str
    reason: str | None = None


class Answer:
    """The outcomes of one request, in the order sent."""

    __slots__ = ("_bads", "_first", "_ids", "_places", "_plain", "_stream", "accepted", "duplicate", "quarantined")

    def __init__(
        self,
        stream: str,
        ids: list[str],
        first: int,
        places: list[tuple[int, bool]] | None,
        bads: list[tuple[int, int, str | None, str]],
        *,
        plain: bool = False,
    ) -> None:
        """``places``: number of each good item and whether it is a duplicate; None: all new, from ``first`` on.

        ``bads``: index in the request, number, id and reason of each quarantined item, by index.
        ``plain``: no id needs escaping in JSON.
        """
        self._stream, self._ids, self._first, self._places, self._bads = stream, ids, first, places, bads
        self._plain = plain
        self.duplicate = 0 if places is None else sum(1 for _, again in places if again)
        self.accepted = len(ids) - self.duplicate
        self.quarantined = len(bads)

    def __len__(self) -> int:
        return len(self._ids) + len(self._bads)

    def verdicts(self) -> list[Verdict]:
        """The outcomes as records."""
        stream = self._stream
        places = self._places
        if places is None:
            places = [(number, False) for number in range(self._first, self._first + len(self._ids))]
        found = [
            Verdict(id, "duplicate" if again else "accepted", place(stream, number))
            for id, (number, again) in zip(self._ids, places, strict=True)
        ]
        for index, number, id, reason in self._bads:
            found.insert(index, Verdict(id, "quarantined", place(stream, number), reason))
        return found

    def json(self) -> bytes:
        """The body of the answer: ``{"results": [{"id", "verdict", "position", "reason"}]}``."""
        ids = self._ids
        if not self._plain:
            return _ENCODE({"results": self.verdicts()})
        middle = f'","verdict":"accepted","position":"{self._stream}:'
        if self._places is None:
            parts = [
                f'{{"id":"{id}{middle}{number}","reason":null}}' for number, id in enumerate(ids, start=self._first)
            ]
        else:
            again = middle.replace("accepted", "duplicate")
            parts = [
                f'{{"id":"{id}{again if known else middle}{number}","reason":null}}'
                for id, (number, known) in zip(ids, self._places, strict=True)
            ]
        for index, number, id, reason in self._bads:
            bad = Verdict(id, "quarantined", place(self._stream, number), reason)
            parts.insert(index, _ENCODE(bad).decode())
        return ('{"results":[' + ",".join(parts) + "]}").encode()
