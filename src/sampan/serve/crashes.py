"""How often in a row the processes of a bundle ended soon after they were started."""

from typing import Final

STEADY: Final = 30.0  # seconds after which what ends a process need not be there the next time
_LOOP: Final = 5  # in a row that did not last so long: the next ones will not, either


class Crashes:
    """Counts the ends of one process after another."""

    def __init__(self) -> None:
        self._number, self._how = 0, ""

    def count(self, how: str, lasted: float = 0.0) -> None:
        """Another one has ended; ``how`` goes on from "it ended", ``lasted``: for how many seconds it served."""
        self._number = 1 if lasted > STEADY else self._number + 1
        self._how = how

    @property
    def said(self) -> str:
        """That they end over and over, and how; empty where they do not."""
        if self._number < _LOOP:
            return ""
        return f"{self._number} processes in a row ended soon after they were started, the last{self._how}"
