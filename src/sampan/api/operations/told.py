"""What is told line by line."""

from typing import Any

import msgspec

from sampan.flow.outcome import Progress, RunResult


class Lines(msgspec.Struct):
    """One of these a line: what happens while it goes on, then its result or its error."""

    event: Progress | None = None
    result: RunResult | None = None
    error: dict[str, Any] | None = None
