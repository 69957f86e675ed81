"""What an endpoint's model costs: the runs that made the versions it has served, and keeping its process.

A version says what it cost by its metric ``cost``, for instance where it was trained on a machine elsewhere. Else it is
the cost of its run, by the price book of that time; without one, the run's duration at today's price of this machine.
Runs whose versions were never served are not in it.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import structs

from sampan.base.errors import NotFound
from sampan.hub.parts import Parts
from sampan.hub.valued import Slice
from sampan.money.prices import Prices, read_prices
from sampan.runs.records import Runs
from sampan.serve.endpoints import Endpoint

#: The metric by which a version says what it cost, in the price book's currency.
COST: Final = "cost"
_SAID: Final = f"its metric {COST}"
_HOUR: Final = 3_600_000_000


class CostLine(msgspec.Struct, frozen=True, kw_only=True):
    """One cost. ``version`` is empty for serving; ``run`` made it; ``how`` it is known what it was."""

    version: str = ""
    run: str = ""
    how: str
    amount: float
    currency: str


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known. ``currency``: of the decisions; what is in another is shown and not subtracted. ``unknown``:
    versions of which nobody has said what they cost."""

    currency: str
    lines: list[CostLine]
    unknown: list[str]

    def of(self, *versions: str) -> float:
        """What can be subtracted for making versions; of no name (``""``), for serving."""
        return sum(one.amount for one in self.lines if one.currency == self.currency and one.version in versions)


def costs_of(parts: Parts, history: Iterable[Endpoint], currency: str, now: int) -> Costs:
    """What an endpoint has cost until an instant, by what it has served, the newest first."""
    prices = read_prices(parts.folder.config())
    history = list(history)
    found = {ref: _making(parts, ref, prices) for ref in sorted({one.spec.version for one in history})}
    lines = [one for one in found.values() if one is not None]
    runs = Counter(one.run for one in lines if one.how != _SAID)  # one may have made several of its versions
    lines = [one if one.how == _SAID else structs.replace(one, amount=one.amount / runs[one.run]) for one in lines]
    if prices.endpoint_per_hour and history:
        hours = max(0, now - min(one.created for one in history)) / _HOUR
        how = f"{hours:,.1f} hours at {prices.endpoint_per_hour:,.8g}"
        amount = hours * prices.endpoint_per_hour
        lines.append(CostLine(how=how, amount=amount, currency=prices.currency))
    return Costs(
        currency=currency or prices.currency, lines=lines, unknown=[ref for ref, one in found.items() if one is None]
    )


def subtract(costs: Costs, by: str, whole: Slice, slices: Iterable[Slice]) -> None:
    """Set what each slice cost per 1,000 decisions, and what is left. A version's making is its own; all else is shared
    among decisions. Nothing is set where no cost is known."""
    if not whole.decisions or not any(one.currency == costs.currency for one in costs.lines):
        return
    making, serving = costs.of(*(one.version for one in costs.lines if one.version)), costs.of("")
    for one in (whole, *slices):
        share = one.decisions / whole.decisions
        cost = costs.of(one.name) + serving * share
        if by != "version" or one is whole:
            cost = (making + serving) * share
        one.cost = cost / one.decisions * 1000 if one.decisions else None
        one.net = None if one.value is None or one.cost is None else one.value - one.cost


def _making(parts: Parts, ref: str, prices: Prices) -> CostLine | None:
    """What a version cost, or the whole run that made it; None where that is not known."""
    try:
        version = parts.models.get(ref)
        said = version.metrics.get(COST)
        if isinstance(said, int | float) and not isinstance(said, bool) and 0 <= said < float("inf"):
            run_id = version.run or ""
            return CostLine(version=ref, run=run_id, how=_SAID, amount=float(said), currency=prices.currency)
        if version.run is None:
            return None
        run = Runs(parts.db).get(version.run)
    except NotFound:
        return None
    told = run.manifest.get("prices", {})
    if run.cost or told.get("this_machine_per_hour"):
        currency = str(told.get("currency", "")) or prices.currency
        return CostLine(version=ref, run=run.id, how="by the price book", amount=run.cost, currency=currency)
    if run.finished is None or not prices.this_machine_per_hour:
        return None
    seconds = max(0, run.finished - run.started) / 1e6
    how, amount = f"{seconds:,.0f} s at today's price of this machine", prices.cost(seconds)
    return CostLine(version=ref, run=run.id, how=how, amount=amount, currency=prices.currency)
