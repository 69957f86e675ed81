"""What commands and the hub ask about golden requests: to ask them again, and the record of what came of it."""

from typing import Any

from sampan.app.workplace import Workplace
from sampan.base.errors import NotFound, Usage


class AskingAgain(Workplace):
    """Asks versions again what they were asked when they were trained."""

    def check_golden(self, ref: str, tolerance: float | None = None) -> dict[str, Any]:
        """Load a version from its files, ask its golden requests and compare the answers. Writes no records.

        Raises NotFound for a version that there is not or that has none, Damaged for a file that is not as it was.
        """
        import msgspec

        from sampan.models.formats import load
        from sampan.models.golden import compare, read
        from sampan.models.golden_checks import TOLERANCE

        attempted = f"Check the golden requests of {ref[:100]}"
        wanted = TOLERANCE if tolerance is None else tolerance
        if not 0 <= wanted < 1:
            raise Usage(attempted, f"the tolerance is {wanted}", "A number from 0 up to 1: 0.001 is a thousandth.")
        version = self.models.get(ref)
        if version.golden is None:
            raise NotFound(
                attempted,
                f"{version.ref} was registered without any",
                "A model step keeps some of each new version with `Fitted(…, sample=TABLE)`.",
            )
        golden = read(self.blobs.get(version.golden.digest))
        predictor = load(version, self.blobs)
        found: dict[str, Any] = msgspec.to_builtins(compare(version.ref, golden, predictor.predict, wanted))
        return found

    def keep_golden_check(self, report: dict[str, Any], actor: str) -> Any:
        """Write down what came of a check. Raises NotFound for a version that there is not."""
        import msgspec

        from sampan.models.golden_checks import GoldenCheck, GoldenChecks

        asked = msgspec.convert(report, GoldenCheck)
        with self._as_writer(f"Keep what came of checking {asked.ref[:100]}"):
            asked = msgspec.structs.replace(asked, ref=self.models.get(asked.ref).ref)
            return msgspec.to_builtins(GoldenChecks(self.db).add(asked, actor=actor, clock=self.clock))
