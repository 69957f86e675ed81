"""What may be in the log: one class per kind of event. Change this one, or write your own beside it."""

from typing import Annotated

from sampan import Event, Field


class Visit(Event, version=1):
    """Somebody looked at a page."""

    page: Annotated[str, Field(description="Path of the page", min_length=1)]
    visitor: Annotated[str | None, Field(subject=True, description="Who it was, if known")] = None
    seconds: Annotated[float, Field(unit="s", ge=0)] = 0.0
