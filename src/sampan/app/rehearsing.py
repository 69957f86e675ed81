"""What commands and the hub ask about rollouts over the past."""

import re
import shutil
from collections.abc import Callable
from typing import Any, Final

from sampan.app.workplace import Workplace
from sampan.base.errors import Usage

PREFIX: Final = "rehearsal-"
BRANCH: Final = re.compile(PREFIX + "[0-9a-z]{20}")  # with an id, which no person would write


class Rehearsing(Workplace):
    """Plays rollouts over the past."""

    def rehearse(self, request: dict[str, Any], actor: str, report: Callable[[Any], None]) -> Any:
        """Play a rollout over the past and keep it; what it came to. Raises Usage, NotFound, Refused."""
        import msgspec

        from sampan.app.played import Played
        from sampan.release.rehearsals import RehearsalRequest

        try:
            asked = msgspec.convert(request, RehearsalRequest)
        except msgspec.ValidationError as error:
            raise Usage(
                "Rehearse a rollout", str(error), "`sampan rollout rehearse --help` says what it takes."
            ) from None
        with self._running(f"Rehearse a rollout of {asked.endpoint[:100]}"):
            self.forget_rehearsals()
            return Played(self, asked, actor, report).play()

    def forget_rehearsals(self) -> None:
        """Take away what rehearsals left that were killed: the branches on which they trained, and files. Called by who
        writes, while none goes on."""
        for name in self.lake.branches():
            if BRANCH.fullmatch(name):
                self.lake.delete_branch(name)
        for left in (self.folder.data / "tmp").glob(f"{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
