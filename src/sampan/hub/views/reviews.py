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

_WAITING = 100
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
    """Context of ``reviews.html``. ``more``: how many wait beside those that are shown."""

    waiting: list[CaseLine]
    settled: list[CaseLine]
    endpoint: str
    endpoints: list[str]
    more: int = 0
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
    waiting = cases(parts.log, by=then, waiting=True, endpoint=endpoint)
    settled = cases(parts.log, by=then, waiting=False, endpoint=endpoint, limit=most or _SETTLED)
    now = parts.clock.micros() if then is None else then
    lines = Lines(parts, now, who(query))
    return ReviewPage(
        waiting=[lines.line(one) for one in waiting[: most or _WAITING]],
        settled=[lines.line(one) for one in settled],
        endpoint=endpoint,
        endpoints=names,
        more=max(0, len(waiting) - (most or _WAITING)),
        can_answer=then is None and may(query, REVIEW),
        asking=bool(waiting or settled),
        as_of=then,
    )


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
