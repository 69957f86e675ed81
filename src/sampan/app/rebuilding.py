"""What commands and the hub ask about rebuilding versions: an attempt, and the record of it."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sampan.app.workplace import Workplace
from sampan.base.errors import Usage


class Rebuilding(Workplace):
    """Makes versions anew, and keeps what came of it."""

    def reproduce(
        self,
        ref: str,
        into: Path | None,
        here: bool,
        tolerance: float,
        tell: Callable[[str], Any],
        ended: Callable[[], bool] = lambda: False,
    ) -> dict[str, Any]:
        """Make a version anew in an empty folder: ``into``, which stays, or one that goes again. Writes no records.

        Raises NotFound for a version that there is not, Usage for a folder that holds something.
        """
        import msgspec

        from sampan.app.reproducing import Reproduction, discard

        attempted = f"Reproduce {ref}"
        version = self.models.get(ref)
        if not 0 <= tolerance < 1:
            raise Usage(attempted, f"the tolerance is {tolerance}", "A share from 0 up to 1: 0.001 is a thousandth.")
        if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
            raise Usage(attempted, f"{into} is there and not empty", "Name a folder that is empty, or none yet.")
        home = into if into is not None else Path(tempfile.mkdtemp(prefix="sampan-rebuild-"))
        home.mkdir(parents=True, exist_ok=True)
        try:
            wanted: dict[str, Any] = {"here": here, "tolerance": tolerance, "tell": tell, "ended": ended}
            made = Reproduction(self, version, home.resolve(), **wanted).attempt()
        finally:
            if into is None:
                discard(home)
        found: dict[str, Any] = msgspec.to_builtins(made)
        return found

    def keep_rebuild(self, report: dict[str, Any], actor: str) -> Any:
        """Write down what came of an attempt. Raises NotFound for a version that there is not."""
        import msgspec

        from sampan.models.rebuilds import Rebuilds, Rebuilt

        asked = msgspec.convert(report, Rebuilt)
        with self._as_writer(f"Keep what came of rebuilding {asked.ref}"):
            self.models.get(asked.ref)
            return msgspec.to_builtins(Rebuilds(self.db).add(asked, actor=actor, clock=self.clock))
