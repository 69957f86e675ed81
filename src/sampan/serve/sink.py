"""Where the events of a serving process go."""

from collections.abc import Sequence
from typing import Any, Protocol

from sampan.serve.noted import Blobs


class Sink(Protocol):
    """The part of a stream's writer that serving needs."""

    async def keep(
        self, events: Sequence[bytes], ids: Sequence[str] = (), blobs: Blobs | None = None, *, drawn: bool = False
    ) -> None:
        """Return when the events are durable; raise a SampanError if they will not be. ``ids``: theirs, where they
        surely fit their contract; ``drawn``: all at random just now, so that no event before has one; ``blobs``:
        content that they name by digest, which is durable before them."""

    def stored(self, identity: str) -> dict[str, Any] | None:
        """The data of a prediction that the stream already holds."""

    @property
    def broken(self) -> bool:
        """Whether nothing can be kept any more until the process starts anew."""

    def close(self) -> None: ...
