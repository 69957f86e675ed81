"""The events of records that are numbers alone, put together from JSON that is there already: what all of them say, and
the features as their client has sent them. That is a fifth of the work of encoding each as a whole."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec

from sampan.serve.verdict import Author, Data, Written

_HERE: Final = "\0"  # in place of what differs; no name of an endpoint or a version holds it
_encode = msgspec.json.Encoder().encode


class Plain:
    """Writes what an endpoint without rules says, where all of it comes from one ``author``: ``form`` is that in which
    the model answers; ``told``: what events say of a rollout besides. ``said``: what each answer says."""

    def __init__(self, endpoint: str, source: str, author: Author, form: str, told: Mapping[str, object]) -> None:
        here: Any = _HERE
        data: Any = Data(endpoint, author.version, author.bundle, "", here, {}, here, "", "", None, here, "")
        more = {**told, "form": form} if form else told
        if more:
            data = {**msgspec.structs.asdict(data), **more}
        whole = _encode(Written(_HERE, "prediction", source, _HERE, data))
        self._id, self._time, self._features, self._output, self._latency, self._end = whole.split(_encode(_HERE))
        self.said = {"action": "", "rule": "", "version": author.version, "bundle": author.bundle}
        self.said |= {name: str(value) for name, value in (("variant", told.get("variant")), ("form", form)) if value}

    def events(
        self, ids: Iterable[str], when: str, features: Iterable[msgspec.Raw], outputs: Iterable[Any], latency: int
    ) -> list[bytes]:
        """One for each record, as encoding a ``Written`` would give it, but for blanks between its features."""
        begin, middle, after = self._id, self._time + _encode(when) + self._features, self._output
        end = self._latency + _encode(latency) + self._end
        parts = zip(map(_encode, ids), features, map(_encode, outputs), strict=True)
        return [b"".join((begin, id, middle, raw, after, output, end)) for id, raw, output in parts]


@lru_cache(maxsize=64)
def plain_of(endpoint: str, source: str, author: Author, form: str, told: tuple[tuple[str, object], ...]) -> Plain:
    """One that is made once; ``told``: names and plain values."""
    return Plain(endpoint, source, author, form, dict(told))
