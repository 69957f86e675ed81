"""The story of the demo, stage by stage.

1  a workspace from the template, and its hub
2  four months of history through intake
3  the flow: tables, checks, model, evaluation
4  a served decision per order, April to December, and what became of it
5  the flow again over the year, and an attempt to cheat, which is refused
6  another rule for customers who cancel, replayed over the year
7  a rollout over the past: the model of spring against one that is trained anew each month
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import uvloop

from sampan.base.clock import SharedClock, iso, to_micros
from sampan.base.errors import SampanError
from sampan.cli.client import HubClient
from sampan.demo.figures import Month, by_month
from sampan.demo.hub import Hub
from sampan.demo.pence import caught
from sampan.demo.screen import Screen, Stage
from sampan.demo.shop import DAY, Shop
from sampan.demo.summary import Leak, Rehearsed, Summary, WhatIf, heading, month_line, rehearsed_lines, told
from sampan.demo.timelapse import Timelapse
from sampan.demo.wire import Wire

OPENING: Final = datetime(2010, 12, 1, tzinfo=UTC)
GO_LIVE: Final = datetime(2011, 4, 1, tzinfo=UTC)
END: Final = datetime(2012, 1, 1, tzinfo=UTC)
MODEL: Final = "reorder"
CHECK: Final = "features_know_no_future"
FEATURES: Final = Path("tables/features.sql")
HIDDEN: Final = "    -- count(*) OVER (PARTITION BY orders.customer_id) AS lifetime_orders,"
LEAKING: Final = HIDDEN.replace("-- ", "")
RULES: Final = Path("decisions.py")
WAITING: Final = """    # if context["cancellations_before"] >= 5:
    #     return Action("wait", rule="cancels often")
"""
#: Of what a rehearsal is made, and how often it looks: the summer, and the days before Christmas.
SPANS: Final = (
    (datetime(2011, 6, 1, tzinfo=UTC), datetime(2011, 11, 1, tzinfo=UTC), "7 days"),
    (datetime(2011, 11, 1, tzinfo=UTC), datetime(2011, 12, 1, tzinfo=UTC), "1 day"),
)


class Story:
    """One telling, to one hub: history up to ``go_live``, a decision for every order from then to ``end``.

    ``play`` goes through the stages and gives the summary.
    """

    def __init__(
        self, hub: Hub, clock: SharedClock, screen: Screen, go_live: datetime = GO_LIVE, end: datetime = END
    ) -> None:
        self.hub, self.screen = hub, screen
        self._go_live, self._end = go_live, end
        self._client: HubClient = hub.client()
        self._shop = Shop(hub.workspace)
        self._played = Timelapse(clock, MODEL)
        self._values: dict[str, dict[str, float]] = {}
        self._shown: set[str] = set()

    def close(self) -> None:
        self._client.close()
        self._shop.close()

    def play(self) -> Summary:
        _run(self._send_history())
        self._must_pass(self._flow("flow", "Run the flow: orders, labels, features, model, evaluation"))
        self._say_evaluation()
        self._deploy()
        _run(self._play_year())
        self._must_pass(self._flow("flow again", "Run the flow again, over the whole year"))
        served = self._served_by_month()
        planted = self._compare()
        leak = self._cheat()
        what_if = self._replay()
        return self._summary(served, planted, leak, what_if, self._rehearse())

    # 2: history

    async def _send_history(self) -> None:
        count = self._shop.count(self._go_live)
        async with self._wired():
            with self.screen.stage("history", f"Send the history up to {self._go_live:%d %B %Y}", count) as stage:
                await self._played.history(self._shop.lines(OPENING, self._go_live), stage.advance)
                self._played.move(to_micros(self._go_live))
        stats = self._client.get("/v1/log/stats")
        self.screen.say(
            f"  {self._played.tally.sent:,} events sent: {stats['accepted']:,} accepted, "
            f"{stats['duplicate']:,} duplicate, {stats['quarantined']:,} quarantined"
        )
        for reason, number in self._reasons().items():
            self.screen.say(f"    {number:>7,}  {reason}")

    def _reasons(self) -> dict[str, int]:
        """How many events wait in quarantine for which reason, most of them first."""
        found: Counter[str] = Counter()
        for line in self._client.get("/quarantine")["reasons"]:
            found[line["reason"] if line["path"] in (None, "$") else f"{line['reason']} at {_place(line)}"] += line[
                "count"
            ]
        return dict(found.most_common())

    @asynccontextmanager
    async def _wired(self) -> AsyncIterator[None]:
        self._played.wire = Wire(self.hub.url, self.hub.token)
        try:
            yield
        finally:
            await self._played.wire.close()

    # 3: the flow

    def _flow(self, name: str, title: str) -> dict[str, Any]:
        """A run of everything, through the hub; its result."""
        with self.screen.stage(name, title) as stage:
            return self._follow(stage)

    def _follow(self, stage: Stage, path: str = "/v1/runs", body: dict[str, Any] | None = None) -> dict[str, Any]:
        done: set[str] = set()
        for line in self._client.stream(path, body or {}):
            if "result" in line:
                result: dict[str, Any] = line["result"]
                return result
            event = line.get("event", {})
            stage.total = event.get("total") or stage.total
            settled = event.get("state") in ("ran", "cached", "warned", "failed", "blocked")
            if settled and event.get("step") and event["step"] not in done:
                done.add(event["step"])
                stage.advance()
        raise SampanError("Run the flow", "the hub ended its answer without a result", f"See {self.hub.log}.")

    def _must_pass(self, result: dict[str, Any]) -> None:
        if result["state"] == "succeeded":
            return
        failed = [f"{step['name']}: {step.get('error') or step['why']}" for step in result["steps"] if _failed(step)]
        raise SampanError("Run the flow", "\n  ".join(failed) or result["state"], f"Run {result['run']} has the logs.")

    def _ask(self, query: str, run: str = "") -> list[dict[str, Any]]:
        answer = self._client.post("/v1/sql", {"query": query, "run": run})
        names = [column["name"] for column in answer["columns"]]
        return [dict(zip(names, row, strict=True)) for row in answer["rows"]]

    def _say_evaluation(self) -> None:
        found = self._ask("FROM evaluation WHERE month = 'all'")[0]
        self.screen.say(
            f"  evaluation on {found['orders']:,} later orders: AUC {found['auc']:.3f}, Brier {found['brier']:.3f}"
        )

    # 4: decisions

    def _deploy(self) -> None:
        with self.screen.stage("deploy", "Freeze the version and serve it behind the rule in decisions.py"):
            made = self._client.post("/v1/endpoints", {"name": MODEL, "reason": "first model of the demo"})
        self.screen.say(f"  POST /predict/{MODEL} answers with {made.get('version', MODEL)}")

    async def _play_year(self) -> None:
        orders = self._shop.orders(self._go_live, self._end)
        self._values = self._decision_values()
        weeks = (orders[-1].at - orders[0].at) // (7 * DAY)
        async with self._wired():
            with self.screen.stage("year", f"Play {weeks} weeks: a decision for every order", len(orders)) as stage:
                self.screen.say(heading())
                await self._played.year(
                    self._shop.lines(self._go_live, self._end), orders, stage.advance, self._say_month
                )
                await self._played.finish(min(self._shop.last, to_micros(self._end)))
        self._say_month(None)

    def _decision_values(self) -> dict[str, dict[str, float]]:
        """What each action earns, as the endpoint that was deployed says."""
        endpoints = self._client.get("/endpoints")["endpoints"]
        values: dict[str, dict[str, float]] = next(e for e in endpoints if e["name"] == MODEL)["values"]
        return values

    def _say_month(self, now: datetime | None) -> None:
        """The figures of months all of whose outcomes are known by now."""
        for month, found in by_month(self._played.decided, self._values).items():
            whole = now is None or _months_between(month, now) >= 2
            if whole and month not in self._shown:
                self._shown.add(month)
                self.screen.say(month_line(month, found, "GBP"))

    # 5: the year in the log

    def _served_by_month(self) -> dict[str, Month]:
        """The months as the workspace's SQL sees them in the log. They must be those that the demo counted itself."""
        counted = by_month(self._played.decided, self._values)
        served = {
            row["month"]: Month(row["decisions"], row["base_rate"], row["auc"], row["brier"], row["value_per_1000"])
            for row in self._ask("FROM served_by_month ORDER BY month")
        }
        for month in counted.keys() | served.keys():
            if not _near(counted.get(month), served.get(month)):
                raise SampanError(
                    "Compare the log with what was answered",
                    f"{month}: served_by_month says {served.get(month)}, the answers came to {counted.get(month)}",
                )
        return served

    def _compare(self) -> str:
        """Whether the tills and the web shop send one shape, and whether prices in pence would be noticed."""
        with self.screen.stage("conform", "Compare what the tills and the web shop send"):
            said = []
            for type in ("order_line", "order_cancelled"):
                found = self._client.post(f"/v1/contracts/{type}/conform", {"by": "source"})
                if found["verdict"] != "conforms":
                    told = "; ".join([found["verdict"], *(finding["text"] for finding in found["findings"])])
                    raise SampanError("Compare what the shop sends", f"{type}: {told}")
                sources = " and ".join(f"{one['source']} ({one['events']:,})" for one in found["sources"])
                said.append(f"  {type}: {sources} mean the same")
            planted = caught(self.hub.workspace / "contracts.py", self._shop.in_pence())
        for line in said:
            self.screen.say(line)
        self.screen.say(f"  with one of them in pence, in a copy: {planted}")
        return planted

    def _cheat(self) -> Leak:
        """Let the features count orders that are still to come: the figures look better, the check refuses."""
        file = self.hub.workspace / FEATURES
        honest = file.read_text("utf-8")
        if HIDDEN not in honest:
            raise SampanError("Edit the features", f"{file} lacks the line that the demo makes leak")
        before = self._ask("SELECT auc FROM evaluation WHERE month = 'all'")[0]["auc"]
        try:
            file.write_text(honest.replace(HIDDEN, LEAKING), "utf-8")
            result = self._flow("leak", "Try a leak: count all orders of a customer, those to come included")
        finally:
            file.write_text(honest, "utf-8")
        step = next((step for step in result["steps"] if step["name"] == CHECK), None)
        leaky = self._ask("SELECT auc FROM evaluation WHERE month = 'all'", result["run"])[0]["auc"]
        still = self._ask("SELECT auc FROM evaluation WHERE month = 'all'")[0]["auc"]
        refused = result["state"] != "succeeded" and step is not None and _failed(step) and still == before
        if not refused:
            raise SampanError("Try a leak", f"the check {CHECK} let it pass", f"Run {result['run']} has the logs.")
        reason = str(step.get("error") or step["why"]) if step else ""
        self.screen.say(f"  refused: {reason}")
        self.screen.say(f"  AUC with the leak {leaky:.3f}, without {before:.3f}; main still has the latter")
        return Leak(refused=True, auc=leaky, honest_auc=before, reason=reason)

    # 6: what would have been

    def _replay(self) -> WhatIf:
        """Give customers who cancel often no slot, see what that would have been worth, and leave the rule as it is."""
        file = self.hub.workspace / RULES
        before = file.read_text("utf-8")
        if WAITING not in before:
            raise SampanError("Edit the rules", f"{file} lacks the lines that the demo adds to them")
        try:
            file.write_text(before.replace(WAITING, WAITING.replace("# ", "")), "utf-8")
            with self.screen.stage(
                "replay", "Replay the year with another rule: who cancels often gets no slot"
            ) as stage:
                found = self._follow(stage, "/v1/replays", {"reason": "no slot for customers who cancel often"})
        finally:
            file.write_text(before, "utf-8")
        if found["state"] != "done":
            raise SampanError(
                "Replay another rule", found["error"] or found["state"], f"Replay {found['id']} has more."
            )
        one = next(one for one in found["report"]["decisions"] if one["endpoint"] == MODEL)
        if one["obstacle"]:
            raise SampanError("Replay another rule", one["obstacle"])
        made = WhatIf(
            found["id"], one["answered"], one["differ"], one["difference"], one["low"], one["high"], one["currency"]
        )
        self.screen.say(f"  {told(made)}")
        self.screen.say("  nothing was changed by it; `sampan replay show` has the months and the cases")
        return made

    # 7: would a new model each month have taken over?

    def _rehearse(self) -> list[Rehearsed]:
        """Play the rollout of rollouts.toml over summer and over November; of a shorter telling, over what it has."""
        spans = [(max(since, self._go_live), min(until, self._end), every) for since, until, every in SPANS]
        spans = [one for one in spans if one[0] < one[1]] or [(self._go_live, self._end, "7 days")]
        made = []
        for since, until, every in spans:
            name = f"{since:%d %B} to {until - timedelta(days=1):%d %B}"
            with self.screen.stage(f"rehearse {since:%B}", f"Rehearse a new model each month, {name}") as stage:
                asked = {"endpoint": MODEL, "since": to_micros(since), "until": to_micros(until), "every": every}
                reason = "would a new model each month have paid?"
                found = self._follow(stage, "/v1/rehearsals", asked | {"retrain": "month", "reason": reason})
            figures = {name: Rehearsed.figure(look) for name, look in found["figures"].items()}
            one = Rehearsed(
                id=found["id"],
                span=name,
                decisions=found["decisions"],
                phase=found["phase"],
                why=found["why"],
                at=iso(found["at"])[:10],
                figures=figures,
            )
            made.append(one)
            for line in rehearsed_lines(one):
                self.screen.say(line)
        self.screen.say("  nothing was served by it; `sampan rollout show ID`, or its page, has the looks")
        return made

    def _summary(
        self, served: dict[str, Month], planted: str, leak: Leak, what_if: WhatIf, rehearsals: list[Rehearsed]
    ) -> Summary:
        tally, stats = self._played.tally, self._client.get("/v1/log/stats")
        verdicts = tally.verdicts
        latencies = sorted(self._played.latencies)
        known = {name: stats[name] for name in ("accepted", "duplicate", "quarantined", "refused")}
        known["accepted"] -= len(latencies)  # every decision is an accepted event too
        told = sum(known.values()) - sum(verdicts.values())  # of what went by GA4's protocol, only the log tells
        if (
            tally.sent != sum(known.values())
            or told != tally.untold
            or any(known[name] < verdicts[name] for name in known)
        ):
            raise SampanError(
                "Add up the events", f"{tally.sent:,} sent; the answers say {dict(verdicts)}, the log {known}"
            )
        tables = self._client.get("/tables")["tables"]
        models = self._client.get("/models")["models"]
        return Summary(
            sent=tally.sent,
            **known,
            auc_by_month={month: found.auc for month, found in served.items()},
            brier_by_month={month: found.brier for month, found in served.items()},
            value_by_month={month: found.value for month, found in served.items()},
            versions=[version["ref"] for model in models for version in reversed(model["versions"])],
            root=stats["root"],
            seconds=0.0,
            workspace=str(self.hub.workspace),
            decisions=len(latencies),
            rows={table["name"]: table["rows"] for table in tables},
            quarantine=self._reasons(),
            rules=dict(self._played.rules.most_common()),
            planted=planted,
            leak=leak,
            what_if=what_if,
            rehearsals=rehearsals,
            prediction=self._played.last_prediction,
            stages=self.screen.seconds,
            latency_ms={
                "p50": latencies[len(latencies) // 2] * 1000,
                "p99": latencies[len(latencies) * 99 // 100] * 1000,
            },
            url=self.hub.url,
        )


def _run(story: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story)


def _place(line: dict[str, Any]) -> str:
    """Where something is wrong, without the number of the item in its message."""
    return re.sub(r"\[\d+\]", "[]", str(line["path"]))


def _failed(step: dict[str, Any]) -> bool:
    return str(step["state"]) == "failed"


def _near(a: Month | None, b: Month | None) -> bool:
    """Whether two sets of figures are the same but for the last digits of floating point."""
    if a is None or b is None:
        return False
    pairs = zip(a, b, strict=True)
    return all(x == y or (x is not None and y is not None and bool(abs(x - y) < 1e-6)) for x, y in pairs)


def _months_between(month: str, now: datetime) -> int:
    year, number = map(int, month.split("-"))
    return (now.year - year) * 12 + now.month - number
