"""What commands and the hub ask about rollouts over the past."""

from collections.abc import Callable
from typing import Any

from sampan.app.workplace import Workplace
from sampan.base.errors import Usage


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
            return Played(self, asked, actor, report).play()
