"""What commands and the hub ask about a model's suite: running it against a version, and where a version stands."""

from typing import TYPE_CHECKING

from sampan.app.workplace import Workplace

if TYPE_CHECKING:
    from sampan.models.tests import SuiteState


class Testing(Workplace):
    """Runs suites, and keeps what came of them."""

    def test_state(self, ref: str, by: int | None = None) -> "SuiteState":
        """Where a version stands with the suite of its model, now or ``by`` an instant. Raises NotFound for a version
        that there is not."""
        from sampan.lake.history import MAIN
        from sampan.models.tests import SuiteResults, suite_state

        version, lake = self.models.get(ref), self.lake
        results, root = SuiteResults(self.db), self.folder.root
        return suite_state(results, root, version.ref, lambda: lake.names(lake.ref_at(MAIN, by)), by)
