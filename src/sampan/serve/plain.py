"""The events of records that are numbers alone, put together from JSON that is there already: what all of them say, and
the features as their client has sent them. That is a fifth of the work of encoding each as a whole."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from sampan.serve.verdict import Author, Data, Written

_HERE: Final = "\0"  # in place of what differs; no name of an endpoint or a version holds it
_encode = msgspec.json.Encoder().encode


class Plain:
    """Writes the events of an endpoint without rules. ``form``: in which the model answers, as its verdicts say."""

    def __init__(self, endpoint: str, source: str, author: Author, form: str) -> None:
        here: Any = _HERE
        data: Any = Data(endpoint, author.version, author.bundle, "", here, {}, here, "", "", None, here, "")
        if form:
            data = {**msgspec.structs.asdict(data), "form": form}
        whole = _encode(Written(_HERE, "prediction", source, _HERE, data))
        self._id, self._time, self._features, self._output, self._latency, self._end = whole.split(_encode(_HERE))

    def events(
        self, ids: Iterable[str], when: str, features: Iterable[msgspec.Raw], outputs: Iterable[Any], latency: int
    ) -> list[bytes]:
        """One for each record, as encoding a ``Written`` would give it, but for blanks between its features."""
        begin, middle, after = self._id, self._time + _encode(when) + self._features, self._output
        end = self._latency + _encode(latency) + self._end
        parts = zip(map(_encode, ids), features, map(_encode, outputs), strict=True)
        return [b"".join((begin, id, middle, raw, after, output, end)) for id, raw, output in parts]
