"""A run's lineage on its way out. Nothing that goes wrong here reaches the run: it is said once, as a warning."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace

_PATIENCE: Final = 5.0  # seconds that a command waits for the last of its events; the hub does not wait


@contextmanager
def telling(app: "Workplace", report: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Around a run: gives what is to hear all that happens in it. It sends OpenLineage events if they are asked for."""
    emitter = app.lineage_events
    if emitter is None:
        yield lambda event: None
        return
    from sampan.flow.openlineage import Story

    namespace = os.environ.get("OPENLINEAGE_NAMESPACE", "").strip() or app.folder.root.name
    story = Story(emitter, namespace, app.runs, app.lake, app.clock, app.columns)
    wrong: list[str] = []
    run = ""

    def hear(event: Any) -> None:
        nonlocal run
        run = event.run
        _try(lambda: story.hear(event), wrong)

    try:
        yield hear
    finally:
        _try(lambda: story.end(app.folder), wrong)
        lost = emitter.settle(0 if app.is_hub else _PATIENCE)
        for message in (*wrong[:1], *([lost] if lost else ())):
            report({"run": run, "step": "", "state": "warning", "message": f"warning: {message}"})


def _try(what: Callable[[], None], wrong: list[str]) -> None:
    try:
        what()
    except Exception as error:  # noqa: BLE001 - whatever it is, the run goes on
        wrong.append(f"lineage was not sent: {type(error).__name__}: {error}")
