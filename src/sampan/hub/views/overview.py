"""The first page: what needs somebody, then how everything is doing."""

from typing import Any

import msgspec

from sampan.hub.charts import Chart, Mark, Series
from sampan.hub.parts import Parts, Query
from sampan.hub.urls import Urls
from sampan.hub.views import models, runs, serving
from sampan.watch.alerts import open_alerts


class Concern(msgspec.Struct):
    """Something that needs a person, and where to look."""

    text: str
    address: str


class Overview(msgspec.Struct):
    """Context of ``overview.html``."""

    concerns: list[Concern]
    stats: dict[str, Any]
    run: runs.RunPage | None
    tables: int
    rows: int
    versions: int
    endpoints: list[serving.EndpointLine]
    predictions: list[serving.PredictionLine]


def overview(parts: Parts, query: Query) -> Overview:
    """How the workspace is doing."""
    stats = parts.log.stats()
    newest = runs.runs(parts, {"limit": "1"}).runs
    run = runs.run(parts, {"run": newest[0].run}) if newest else None
    tables = parts.lake.tables()
    endpoints = serving.endpoints(parts, {}).endpoints
    lines = serving.predictions(parts, {}).predictions[:8] if endpoints else []
    versions = sum(model.count for model in models.models(parts, {}).models)
    return Overview(
        concerns=_concerns(parts, run, endpoints),
        stats=stats,
        run=run,
        tables=len(tables),
        rows=sum(table.rows for table in tables.values()),
        versions=versions,
        endpoints=endpoints,
        predictions=lines,
    )


def _concerns(parts: Parts, run: runs.RunPage | None, endpoints: list[serving.EndpointLine]) -> list[Concern]:
    open = open_alerts(parts.db)
    found = [Concern(f"{alert.title}.", Urls.alert(alert.id)) for alert in open]
    told = {alert.example for alert in open if alert.kind in ("run_failed", "endpoint_down")}
    if run is not None and run.run not in told and run.state in ("failed", "interrupted"):
        broken = [step for step in run.steps if step.state == "failed"]
        names = ", ".join(step.name for step in broken) or "it"
        what = f"The last run {'failed' if run.state == 'failed' else 'was interrupted'}"
        text = f"{what} at {names}; the tables are as they were before." if broken else f"{what}."
        found.append(Concern(text, f"/runs/{run.run}"))
    for one in endpoints:
        if one.state == "down" and one.name not in told:
            found.append(Concern(f"The endpoint {one.name} does not answer.", "/endpoints"))
    return found


class Patterns(msgspec.Struct):
    """Context of ``patterns.html``: steps and a chart to draw."""

    steps: list[runs.StepLine]
    chart: Chart


def patterns(parts: Parts, query: Query) -> Patterns:
    """Every component in every state, to look at when the look changes."""
    needs = {
        "orders": ("order_line",),
        "customers": ("orders", "country"),
        "labels": ("orders",),
        "features": ("orders", "customers"),
        "reorder": ("features", "labels"),
        "no_leak": ("features", "labels"),
    }
    states = ("ran", "cached", "cached", "ran", "failed", "blocked")
    kinds = ("table", "table", "table", "table", "model", "check")
    lines = [
        runs.StepLine(name, "", kind, state, "an example", "", 1.2, 0, 0.0, "", needs[name], "", "")
        for name, state, kind in zip(needs, states, kinds, strict=True)
    ]
    chart = Chart(
        title="A chart",
        says="Two made-up measures over four versions: the first rises from .70 to .81, the second falls.",
        x=["v1", "v2", "v3", "v4"],
        x_name="Version",
        series=[
            Series(name="auc", y=[0.7, 0.74, None, 0.81]),
            Series(name="<brier>", y=[0.2, 0.19, 0.17, 0.16], colour="violet"),
        ],
        marks=[Mark("v3", "champion")],
    )
    return Patterns(lines, chart)
