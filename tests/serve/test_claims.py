"""Two who reach for the same case in the same moment: one has it, the other is told who."""

import threading
from pathlib import Path

from sampan.base.clock import SystemClock
from sampan.base.errors import Conflict
from sampan.serve.claims import Claims
from sampan.store.database import Database


def test_of_many_who_claim_a_case_at_once_one_has_it(tmp_path: Path) -> None:
    db, clock = Database(tmp_path / "records.db", writable=True), SystemClock()
    claims, until = Claims(db, clock), clock.micros() + 60_000_000
    for case in range(20):
        took: list[str] = []
        refused: list[str] = []
        together = threading.Barrier(8)

        def reach(who: str, case: str = str(case), took: list[str] = took, refused: list[str] = refused) -> None:
            together.wait()  # noqa: B023
            try:
                claims.take("Claim", "churn", case, who, until, over=False)
                took.append(who)
            except Conflict as error:
                refused.append(error.obstacle)

        threads = [threading.Thread(target=reach, args=(f"reader-{number}",)) for number in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert len(took) == 1 and len(refused) == 7
        assert {one.split()[0] for one in refused} == set(took)
    db.close()
