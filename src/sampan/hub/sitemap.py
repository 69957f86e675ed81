"""Every page of the hub: its address, its template, and the view that makes its context.

The same table answers commands: ``sampan runs list --json`` prints what the JSON twin of ``/runs`` says.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, get_type_hints
from urllib.parse import unquote

import msgspec

from sampan.base.errors import Usage
from sampan.hub.parts import THEN, Parts, Query
from sampan.hub.views import (
    alerts,
    branches,
    card,
    compare,
    contracts,
    diff,
    endpoint,
    events,
    experiments,
    held,
    impact,
    lineage,
    models,
    overview,
    plan,
    promotion,
    proposals,
    registered,
    replays,
    reviews,
    rollouts,
    runs,
    search,
    serving,
    settings,
    shadowed,
    shadows,
    storage,
    tables,
    valued,
)

AS_OF: Final = "as-of"


class Page(NamedTuple):
    """One page. ``section`` is the entry of the rail that it belongs to."""

    path: str
    template: str
    section: str
    view: Callable[[Parts, Query], msgspec.Struct]

    @property
    def now(self) -> str:
        """Why it shows the present only; empty where it can be seen as of a time."""
        return NOW.get(self.path, "")


PAGES: Final = (
    Page("/", "overview.html", "overview", overview.overview),
    Page("/log", "log.html", "log", events.log),
    Page("/log/{event}", "event.html", "log", events.event),
    Page("/quarantine", "quarantine.html", "quarantine", held.quarantine),
    Page("/quarantine/{item}", "item.html", "quarantine", held.item),
    Page("/quarantine/repairs/{repair}", "repair.html", "quarantine", held.repair),
    Page("/search", "search.html", "", search.search),
    Page("/lineage/{object}", "lineage.html", "predictions", lineage.lineage),
    Page("/patterns", "patterns.html", "", overview.patterns),
    Page("/alerts", "alerts.html", "alerts", alerts.alerts),
    Page("/alerts/{alert}", "alert.html", "alerts", alerts.alert),
    Page("/settings", "settings.html", "settings", settings.settings),
    Page("/storage", "storage.html", "storage", storage.storage),
    Page("/contracts", "contracts.html", "contracts", contracts.contracts),
    Page("/contracts/{type}", "contract.html", "contracts", contracts.contract),
    Page("/tables", "tables.html", "tables", tables.tables),
    Page("/tables/{name}", "table.html", "tables", tables.table),
    Page("/replays", "replays.html", "replays", replays.replays),
    Page("/replays/{replay}", "replay.html", "replays", replays.replay),
    Page("/branches", "branches.html", "branches", branches.branches),
    Page("/branches/{branch}", "branch.html", "branches", branches.branch),
    Page("/impact", "impact.html", "impact", impact.impact),
    Page("/impact/{impact}", "measured.html", "impact", impact.measured),
    Page("/plan", "plan.html", "runs", plan.plan),
    Page("/runs", "runs.html", "runs", runs.runs),
    Page("/runs/{run}", "run.html", "runs", runs.run),
    Page("/runs/{run}/logs/{log}", "run_log.html", "runs", runs.log),
    Page("/diff", "diff.html", "runs", diff.diff),
    Page("/experiments", "experiments.html", "experiments", experiments.experiments),
    Page("/experiments/{experiment}", "experiment.html", "experiments", experiments.experiment),
    Page("/experiments/{experiment}/compare", "compare.html", "experiments", compare.compare),
    Page("/experiments/{experiment}/runs/{run}", "logged_run.html", "experiments", experiments.logged_run),
    Page("/endpoints", "endpoints.html", "endpoints", serving.endpoints),
    Page("/endpoints/{name}", "endpoint.html", "endpoints", endpoint.endpoint),
    Page("/reviews", "reviews.html", "reviews", reviews.reviews),
    Page("/endpoints/{name}/value", "value.html", "endpoints", valued.value),
    Page("/endpoints/{name}/thresholds", "thresholds.html", "endpoints", proposals.thresholds),
    Page("/proposals", "proposals.html", "rollouts", proposals.proposals),
    Page("/proposals/{proposal}", "proposal.html", "rollouts", proposals.proposal),
    Page("/rollouts", "rollouts.html", "rollouts", rollouts.rollouts),
    Page("/rollouts/{rollout}", "rollout.html", "rollouts", rollouts.rollout),
    Page("/rollouts/{rollout}/shadow", "shadowed.html", "rollouts", shadowed.shadowed),
    Page("/shadows", "shadows.html", "rollouts", shadows.shadows),
    Page("/shadows/{shadow}", "shadowed.html", "rollouts", shadows.shadow),
    Page("/incidents", "incidents.html", "rollouts", rollouts.incidents),
    Page("/incidents/{incident}", "incident.html", "rollouts", rollouts.incident),
    Page("/predictions", "predictions.html", "predictions", serving.predictions),
    Page("/predictions/{prediction}", "prediction.html", "predictions", serving.prediction),
    Page("/models", "models.html", "models", models.models),
    Page("/models/{model}", "model.html", "models", registered.model),
    Page("/models/{model}/{number}", "version.html", "models", models.version),
    Page("/models/{model}/{number}/card", "card.html", "models", card.card),
    Page("/card", "flow_card.html", "runs", card.flow),
    Page("/models/{model}/{number}/promote", "promotion.html", "models", promotion.promotion),
)

#: The pages for which a past time has no meaning, each with the reason. All others can be seen as of a time.
NOW: Final[Mapping[str, str]] = {
    "/": "It says what needs somebody now.",
    "/search": "A search finds what there is now.",
    "/patterns": "It shows what pages are made of.",
    "/storage": "It measures what lies on the disk now.",
    "/plan": "It says what a run would do now.",
    "/branches/{branch}": "It compares a branch with main and with the files of the workspace as they stand.",
    "/runs/{run}/logs/{log}": "What a step printed carries no times.",
    **dict.fromkeys(
        ("/models/{model}/{number}/promote", "/models/{model}/{number}/card", "/card"),
        "It holds what is said against what there is now.",
    ),
    "/diff": "It compares what two runs were made from, which time does not change.",
    **dict.fromkeys(
        (
            "/experiments",
            "/experiments/{experiment}",
            "/experiments/{experiment}/compare",
            "/experiments/{experiment}/runs/{run}",
        ),
        "Logged runs are changed by those who log them, and shown as they stand.",
    ),
}

#: What the query of a page may hold, beside ``as-of`` and ``format``, and what each is for.
QUERIES: Final[Mapping[str, tuple[str, ...]]] = {
    "/log": ("type", "source", "subject", "id", "text", "since", "until", "verdict", "after"),
    "/quarantine": ("reason", "path", "producer", "type", "after"),
    "/search": ("q",),
    "/tables": ("ref",),
    "/tables/{name}": ("ref", "snapshot"),
    "/branches/{branch}": ("table", "limit"),
    "/impact": ("model",),
    "/plan": ("target",),
    "/runs": ("target", "limit"),
    "/models": ("model",),
    "/models/{model}/{number}/promote": ("to",),
    "/diff": ("before", "after"),
    "/experiments/{experiment}": ("filter", "order", "columns", "after"),
    "/experiments/{experiment}/compare": ("run", "filter", "order", "columns", "all", "metric", "x", "by"),
    "/experiments/{experiment}/runs/{run}": ("path",),
    "/predictions": ("entity", "endpoint", "after"),
    "/endpoints": ("figures",),
    "/shadows": ("endpoint",),
    "/reviews": ("endpoint", "limit", "after"),
    "/endpoints/{name}/value": ("by",),
    "/contracts/{type}": ("version",),
    "/lineage/{object}": ("column",),
}
#: What a query may hold several times; a view is given the list.
SEVERAL: Final[Mapping[str, tuple[str, ...]]] = {"/experiments/{experiment}/compare": ("run",)}
PURPOSES: Final[Mapping[str, str]] = {
    AS_OF: "As it was known then: 2026-01-31 (all of that day), 2026-01-31T12:30, or @COMMIT",
    "after": "Where the page before ended: its `next`; of a comparison, the other run",
    "before": "A run's id, or its beginning",
    "columns": "What is shown of each run: metrics.rmse, params.depth",
    "all": "`1`: also what is the same everywhere",
    "by": "Of runs, the parameter whose values group them; of decisions, what they are sliced by",
    "column": "Only this column of a table, or field of a type of event",
    "endpoint": "Only those of this endpoint",
    "entity": "Only those about this entity",
    "figures": "`no`: without what was decided, which is counted over all predictions",
    "filter": "As MLflow's search has it: metrics.rmse < 0.5 AND params.depth = '4'",
    "format": "`json` for the JSON twin, `file` for the page as a file that stands alone",
    "id": "Only the event with this id",
    "limit": "How many at most",
    "metric": "The metric that is drawn",
    "model": "Only this model",
    "order": "As MLflow's search has it: metrics.rmse DESC",
    "path": "Only what is wrong at this place; of a logged run, only artifacts below it",
    "producer": "Only what this producer sent",
    "q": "What to look for",
    "reason": "Only what waits for this reason",
    "ref": "A branch or commit",
    "run": "Ids of runs, with commas between, or given several times",
    "since": "Only events received from then on: 2026-01-31, or 2026-01-31T12:30",
    "snapshot": "The beginning of a snapshot's id",
    "source": "Only events from this source",
    "subject": "Only events about this subject",
    "table": "Only this table",
    "text": "Only events in which this stands",
    "target": "Only runs that were asked for this",
    "to": "The alias that the version shall get",
    "type": "Only events of this type",
    "until": "Only events received until then",
    "verdict": "accepted, quarantined or any",
    "version": "A version's number",
    "x": "What it is drawn against: params.depth, metrics.rmse",
}


def context(page: Page) -> Any:
    """The type of a page's context, which is that of its JSON twin."""
    return get_type_hints(page.view)["return"]


def view(parts: Parts, path: str, query: Query | None = None) -> msgspec.Struct:
    """The context of the page at a path. Raises KeyError where there is none."""
    page, named = find(path)
    return seen(parts, page, {**(query or {}), **named})


def seen(parts: Parts, page: Page, query: Query) -> msgspec.Struct:
    """The context of a page, as of the time that its query names. Raises Usage for a time that is none, or that this
    page knows nothing of."""
    text = str(query.get(AS_OF) or "").strip()
    if text and page.now:
        raise Usage(f"See {page.path} as of {text[:60]!r}", f"it shows the present only. {page.now}", "Leave it out.")
    return page.view(parts, {**query, THEN: parts.instant(text) if text else None})


def takes(page: Page) -> tuple[str, ...]:
    """What the query of a page may hold."""
    return (*QUERIES.get(page.path, ()), *(() if page.now else (AS_OF,)), "format")


def find(path: str) -> tuple[Page, dict[str, str]]:
    """The page at a path, and what the path names. Raises KeyError where there is none."""
    segments = path.split("/")
    for page in PAGES:
        own = page.path.split("/")
        if len(own) != len(segments):
            continue
        pairs = list(zip(own, segments, strict=True))
        if all(a == b or (a[:1] == "{" and b) for a, b in pairs):
            return page, {a[1:-1]: unquote(b) for a, b in pairs if a[:1] == "{"}
    raise KeyError(path)
