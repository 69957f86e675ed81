"""Cases that wait for people: what is asked, until when, what happens if nobody answers, and what became of others."""

from typing import Any

import msgspec

from sampan.base.errors import NotFound, SampanError
from sampan.base.ids import whole
from sampan.hub.parts import Parts, Query, as_of, may, who
from sampan.serve.claims import Claim, Claims
from sampan.serve.endpoints import Endpoints
from sampan.serve.reviews import Case, cases, worth_of
from sampan.team.roles import REVIEW

_WAITING = 50
_SETTLED = 50
_MOST = 10_000


class CaseLine(msgspec.Struct):
    """A case as pages show it. ``left``: seconds until its deadline, below 0 if it is over; ``worth``: what each choice
    earns on average if the prediction holds, where that is defined; ``labels``: what can turn out to be true;
    ``claim``: who is at work on it, ``mine`` if that is who looks."""

    case: Case
    left: float
    worth: dict[str, float | None]
    labels: list[str]
    currency: str = ""
    claim: Claim | None = None
    mine: bool = False

    @property
    def overdue(self) -> bool:
        """Whether its time is over, and that has not been written down yet."""
        return self.case.settled is None and self.left <= 0


class ReviewPage(msgspec.Struct):
    """Context of ``reviews.html``. ``more``: how many wait behind those that are shown; ``next``: after which of them
    the next page goes on; ``after``: after which this one does; ``count``: how many wait in all."""

    waiting: list[CaseLine]
    settled: list[CaseLine]
    endpoint: str
    endpoints: list[str]
    more: int = 0
    count: int = 0
    next: str | None = None
    after: str = ""
    can_answer: bool = False
    asking: bool = False
    """Whether a rule has ever sent a case to people."""
    as_of: int | None = None


def reviews(parts: Parts, query: Query) -> ReviewPage:
    """What waits for people, the most urgent first, and what they have answered; or what did at a time."""
    then = as_of(query)
    endpoint = str(query.get("endpoint", ""))
    names = sorted({row["name"] for row in parts.db.rows("SELECT DISTINCT name FROM endpoints")})
    if endpoint and endpoint not in names:
        known = ", ".join(names) or "none"
        raise NotFound("Show cases", f"no endpoint {endpoint[:100]!r}", f"There are: {known}.")
    most = min(whole(str(query.get("limit", ""))) or 0, _MOST)
    found = cases(parts.log, by=then, endpoint=endpoint, limit=most or _SETTLED)
    waiting = sorted((one for one in found if one.settled is None), key=_place)
    settled = [one for one in found if one.settled is not None]
    after = str(query.get("after", ""))
    behind = [one for one in waiting if _place(one) > after] if after else waiting
    shown = behind[: most or _WAITING]
    more = len(behind) - len(shown)
    now = parts.clock.micros() if then is None else then
    lines = Lines(parts, now, who(query))
    return ReviewPage(
        waiting=[lines.line(one) for one in shown],
        settled=[lines.line(one) for one in settled] if not after else [],
        endpoint=endpoint,
        endpoints=names,
        more=more,
        count=len(waiting),
        next=_place(shown[-1]) if more else None,
        after=after,
        can_answer=then is None and may(query, REVIEW),
        asking=bool(waiting or settled),
        as_of=then,
    )


def _place(case: Case) -> str:
    """Where a case stands among those that wait, as a text that sorts as they do: by its deadline."""
    return f"{case.due:020d}.{case.asked:020d}.{case.id}"


class Lines:
    """Makes lines of cases; opens each bundle once."""

    def __init__(self, parts: Parts, now: int, me: str = "") -> None:
        self._endpoints = Endpoints(parts.db, parts.models, parts.clock)
        self._claims = Claims(parts.db, parts.clock)
        self._now, self._me = now, me
        self._bundles: dict[str, Any] = {}

    def line(self, case: Case) -> CaseLine:
        """A case with what its choices are worth."""
        if case.bundle not in self._bundles:
            try:
                self._bundles[case.bundle] = self._endpoints.once_served(case.bundle)
            except SampanError:
                self._bundles[case.bundle] = None
        bundle = self._bundles[case.bundle]
        worth: dict[str, float | None] = {}
        labels: list[str] = []
        currency = ""
        if bundle is not None and bundle.decision is not None:
            currency = bundle.decision.currency
            values = [worth_of(bundle, case.prediction, choice) for choice in case.choices]
            worth = {c: v["expected"] if v else None for c, v in zip(case.choices, values, strict=True)}
            labels = list(next(iter(bundle.decision.values.values()), {}))
        claim = None if case.settled is not None else self._claims.held(case.endpoint, case.id, self._now)
        mine = claim is not None and claim.who == self._me
        return CaseLine(case, (case.due - self._now) / 1e6, worth, labels, currency, claim, mine)
