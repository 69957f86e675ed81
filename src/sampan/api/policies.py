"""Every route of the hub and what one must be allowed to do to use it. What is not here is denied.

``PUBLIC`` is the whole list of routes that answer without a sign-in. Adding to it is a decision about security.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from sampan.api.predict_paths import ROUTES as PREDICTIONS
from sampan.base.errors import SampanError
from sampan.team.roles import ADMINISTER, APPROVE, DEPLOY, LOG, PREDICT, PROPOSE, READ, REVIEW, RUN, SEND

#: An act that anybody may do.
ANYBODY: Final = "anybody"
#: At the end of a template: the rest of a path, however many segments it has.
REST: Final = "{path}"
_API: Final = "/api/2.0/mlflow"
_REGISTERED: Final = ("registered-models", "model-versions")

PUBLIC: Final = frozenset(
    {
        ("GET", "/health"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/sign-in"),
        ("POST", "/sign-in"),
        ("GET", "/static/{name}"),
    }
)

#: Paths whose clients know only basic authentication. There alone it is taken.
BASIC: Final = frozenset(
    {
        "/v1/track",
        "/v1/page",
        "/v1/screen",
        "/v1/identify",
        "/v1/group",
        "/v1/alias",
        "/v1/batch",
        "/v1/import",
    }
)

#: Paths whose clients put their secret into the query, as ``api_secret``. There alone it is taken, and taken out.
QUERY_SECRET: Final = frozenset({"/mp/collect", "/debug/mp/collect"})

POLICIES: Final[Mapping[tuple[str, str], str]] = {
    **dict.fromkeys(PUBLIC, ANYBODY),
    # machines
    ("POST", "/v1/events"): SEND,
    **{("POST", path): SEND for path in BASIC | QUERY_SECRET},
    ("POST", "/v1/blobs"): SEND,
    ("PUT", "/v1/blobs"): SEND,
    **dict.fromkeys(PREDICTIONS, PREDICT),
    # pages and their JSON twins
    ("GET", "/"): READ,
    ("GET", "/log"): READ,
    ("GET", "/log/{event}"): READ,
    ("GET", "/quarantine"): READ,
    ("GET", "/quarantine/{item}"): READ,
    ("GET", "/quarantine/repairs/{repair}"): READ,
    ("POST", "/quarantine/try"): RUN,  # runs code of the workspace's
    ("POST", "/quarantine/apply"): RUN,
    ("GET", "/search"): READ,
    ("GET", "/alerts"): READ,
    ("GET", "/alerts/{alert}"): READ,
    ("GET", "/settings"): READ,
    ("GET", "/storage"): READ,
    ("GET", "/metrics"): READ,
    ("GET", "/contracts"): READ,
    ("GET", "/contracts/{type}"): READ,
    ("GET", "/tables"): READ,
    ("GET", "/tables/{name}"): READ,
    ("GET", "/replays"): READ,
    ("GET", "/replays/{replay}"): READ,
    ("POST", "/replays/{replay}/approve"): RUN,
    ("POST", "/replays/{replay}/discard"): RUN,
    ("GET", "/impact"): READ,
    ("GET", "/impact/{impact}"): READ,
    ("GET", "/branches"): READ,
    ("GET", "/branches/{branch}"): READ,
    ("POST", "/branches/{branch}/merge"): RUN,
    ("GET", "/plan"): READ,
    ("GET", "/runs"): READ,
    ("POST", "/plan/go"): RUN,
    ("POST", "/runs/{run}/go-on"): RUN,
    ("POST", "/alerts/silences/{silence}/end"): RUN,
    ("GET", "/runs/{run}"): READ,
    ("GET", "/runs/{run}/logs/{log}"): READ,
    ("GET", "/models"): READ,
    ("GET", "/models/{model}"): READ,
    ("GET", "/models/{model}/{number}/promote"): READ,
    ("GET", "/models/{model}/{number}/card"): READ,
    ("GET", "/card"): READ,
    ("POST", "/models/{model}/{number}/decide"): APPROVE,
    ("POST", "/models/{model}/{number}/alias"): DEPLOY,
    ("GET", "/models/{model}/{number}"): READ,
    ("GET", "/diff"): READ,
    ("GET", "/experiments"): READ,
    ("GET", "/experiments/{experiment}"): READ,
    ("GET", "/experiments/{experiment}/compare"): READ,
    ("POST", "/experiments/{experiment}/views"): LOG,
    ("POST", "/experiments/{experiment}/views/remove"): LOG,
    ("POST", "/comments/{kind}/{name}/add"): LOG,
    ("POST", "/comments/{comment}/withdraw"): LOG,  # one's own
    ("GET", "/experiments/{experiment}/runs/{run}"): READ,
    ("GET", "/endpoints"): READ,
    ("GET", "/endpoints/{name}"): READ,
    ("POST", "/endpoints/{name}/back"): DEPLOY,
    ("GET", "/rollouts"): READ,
    ("GET", "/rollouts/{rollout}"): READ,
    ("GET", "/rollouts/{rollout}/shadow"): READ,
    ("POST", "/rollouts/{rollout}/{verb}"): DEPLOY,
    ("GET", "/shadows"): READ,
    ("POST", "/shadows"): DEPLOY,
    ("GET", "/shadows/{shadow}"): READ,
    ("POST", "/shadows/{shadow}/end"): DEPLOY,
    ("GET", "/incidents"): READ,
    ("GET", "/incidents/{incident}"): READ,
    ("POST", "/incidents/{incident}/end"): DEPLOY,
    ("GET", "/endpoints/{name}/value"): READ,
    ("GET", "/endpoints/{name}/thresholds"): READ,
    ("POST", "/endpoints/{name}/thresholds/try"): PROPOSE,  # runs the rules of a bundle
    ("GET", "/proposals"): READ,
    ("GET", "/proposals/{proposal}"): READ,
    ("POST", "/proposals/{proposal}/ask"): PROPOSE,
    ("POST", "/proposals/{proposal}/withdraw"): PROPOSE,
    ("POST", "/proposals/{proposal}/decide"): APPROVE,
    ("POST", "/proposals/{proposal}/ship"): DEPLOY,
    ("GET", "/reviews"): READ,
    ("POST", "/reviews/{prediction}/answer"): REVIEW,
    ("POST", "/reviews/{prediction}/claim"): REVIEW,
    ("POST", "/reviews/{prediction}/release"): REVIEW,
    ("GET", "/predictions"): READ,
    ("GET", "/predictions/{prediction}"): READ,
    ("GET", "/lineage/{object}"): READ,
    ("GET", "/patterns"): READ,
    ("GET", "/charts/{name}"): READ,  # the script that draws charts
    ("GET", "/live"): READ,
    ("POST", "/sign-out"): READ,
    # commands
    ("GET", "/v1/log/stats"): READ,
    ("GET", "/v1/blobs/{digest}"): READ,
    ("POST", "/v1/contracts/{type}/conform"): RUN,
    ("POST", "/v1/quarantine/repairs"): RUN,  # what lets events in that were refused; keys that only send are in apps
    ("POST", "/v1/plan"): READ,
    ("POST", "/v1/why"): READ,
    ("GET", "/v1/late"): READ,
    ("POST", "/v1/proofs"): RUN,
    ("POST", "/v1/runs"): RUN,
    ("POST", "/v1/runs/{run}/resume"): RUN,
    ("POST", "/v1/branches"): RUN,
    ("DELETE", "/v1/branches/{name}"): RUN,
    ("POST", "/v1/branches/{name}/merge"): RUN,
    ("POST", "/v1/commits/{commit}/revert"): RUN,
    ("POST", "/v1/predictions/{prediction}/recompute"): RUN,  # runs the rules of a bundle
    ("POST", "/v1/replays/plan"): RUN,
    ("POST", "/v1/replays"): RUN,
    ("POST", "/v1/replays/{id}/resume"): RUN,
    ("POST", "/v1/replays/{id}/approve"): RUN,
    ("POST", "/v1/replays/{id}/discard"): RUN,
    ("POST", "/v1/impact"): RUN,
    ("POST", "/v1/logged/{run}"): LOG,
    ("POST", "/v1/explanations/plan"): RUN,
    ("POST", "/v1/explanations"): RUN,
    ("POST", "/v1/gc"): ADMINISTER,
    ("GET", "/v1/pins"): READ,
    ("POST", "/v1/pins"): RUN,
    ("POST", "/v1/rebuilds"): RUN,
    ("POST", "/v1/golden-checks"): RUN,
    ("POST", "/v1/signatures"): APPROVE,  # a claim until a key of sampan.toml bears it out
    ("POST", "/v1/damages"): RUN,
    ("POST", "/v1/tests"): RUN,  # loads a model, in a process of its own
    ("DELETE", "/v1/pins/{ref}"): ADMINISTER,  # what nobody pins may go
    ("POST", "/v1/sql"): RUN,
    ("POST", "/v1/endpoints"): DEPLOY,
    ("POST", "/v1/endpoints/{name}/adopt"): ADMINISTER,  # a file from outside, or an address that is called out
    ("POST", "/v1/endpoints/{name}/rollback"): DEPLOY,
    ("POST", "/v1/rollouts"): DEPLOY,
    ("POST", "/v1/rollouts/{name}/{verb}"): DEPLOY,
    ("GET", "/v1/rollouts/plans"): READ,
    ("POST", "/v1/shadows"): DEPLOY,
    ("POST", "/v1/shadows/{shadow}/end"): DEPLOY,
    ("POST", "/v1/rehearsals"): RUN,
    ("POST", "/v1/scores"): RUN,
    ("POST", "/v1/incidents/{incident}/close"): DEPLOY,
    ("POST", "/v1/reviews/{prediction}"): REVIEW,
    ("POST", "/v1/reviews/{prediction}/claim"): REVIEW,
    ("POST", "/v1/reviews/{prediction}/release"): REVIEW,
    ("POST", "/v1/endpoints/{name}/thresholds"): PROPOSE,
    ("POST", "/v1/proposals/{proposal}/ask"): PROPOSE,
    ("POST", "/v1/proposals/{proposal}/withdraw"): PROPOSE,
    ("POST", "/v1/proposals/{proposal}/decide"): APPROVE,
    ("POST", "/v1/proposals/{proposal}/ship"): DEPLOY,
    ("GET", "/v1/proposals/{proposal}/patch"): READ,
    ("POST", "/v1/models"): LOG,
    ("DELETE", "/v1/models/{model}"): RUN,
    ("POST", "/v1/models/{model}/versions"): LOG,
    ("DELETE", "/v1/models/{model}/versions/{number}"): RUN,
    ("PUT", "/v1/models/{model}/aliases/{alias}"): DEPLOY,  # what others load by that name
    ("DELETE", "/v1/models/{model}/aliases/{alias}"): DEPLOY,
    ("POST", "/v1/models/{model}/versions/{number}/approvals"): APPROVE,
    ("PUT", "/v1/labels/{kind}/{name}"): LOG,
    ("POST", "/v1/comments/{kind}/{name}"): LOG,
    ("DELETE", "/v1/comments/{comment}"): LOG,  # one's own
    ("POST", "/v1/alerts/test"): RUN,
    ("POST", "/v1/alerts/silences"): RUN,
    ("DELETE", "/v1/alerts/silences/{silence}"): RUN,
    ("GET", "/v1/tokens"): ADMINISTER,
    ("POST", "/v1/tokens"): ADMINISTER,
    ("DELETE", "/v1/tokens/{name}"): ADMINISTER,
    ("POST", "/v1/links"): ADMINISTER,
    ("GET", "/v1/openapi"): READ,
    # clients of MLflow's: reading, logging, and taking away what others may have logged
    ("GET", f"{_API}/experiments/get"): READ,
    ("GET", f"{_API}/experiments/get-by-name"): READ,
    ("GET", f"{_API}/experiments/search"): READ,
    ("POST", f"{_API}/experiments/search"): READ,
    ("POST", f"{_API}/experiments/search-datasets"): READ,
    ("POST", f"{_API}/experiments/create"): LOG,
    ("POST", f"{_API}/experiments/set-experiment-tag"): LOG,
    ("POST", f"{_API}/experiments/delete-experiment-tag"): LOG,
    ("POST", f"{_API}/experiments/update"): RUN,
    ("POST", f"{_API}/experiments/delete"): RUN,
    ("POST", f"{_API}/experiments/restore"): RUN,
    ("GET", f"{_API}/runs/get"): READ,
    ("POST", f"{_API}/runs/search"): READ,
    ("POST", f"{_API}/runs/create"): LOG,
    ("POST", f"{_API}/runs/update"): LOG,
    ("POST", f"{_API}/runs/log-metric"): LOG,
    ("POST", f"{_API}/runs/log-batch"): LOG,
    ("POST", f"{_API}/runs/log-parameter"): LOG,
    ("POST", f"{_API}/runs/set-tag"): LOG,
    ("POST", f"{_API}/runs/delete-tag"): LOG,
    ("POST", f"{_API}/runs/log-inputs"): LOG,
    ("POST", f"{_API}/runs/outputs"): LOG,
    ("POST", f"{_API}/runs/log-model"): LOG,
    ("POST", f"{_API}/runs/delete"): RUN,
    ("POST", f"{_API}/runs/restore"): RUN,
    ("GET", f"{_API}/metrics/get-history"): READ,
    ("GET", f"{_API}/metrics/get-history-bulk-interval"): READ,
    ("GET", f"{_API}/artifacts/list"): READ,
    ("POST", f"{_API}/logged-models"): LOG,
    ("POST", f"{_API}/logged-models/search"): READ,
    ("GET", f"{_API}/logged-models/{{model_id}}"): READ,
    ("PATCH", f"{_API}/logged-models/{{model_id}}"): LOG,
    ("DELETE", f"{_API}/logged-models/{{model_id}}"): RUN,
    ("POST", f"{_API}/logged-models/{{model_id}}/params"): LOG,
    ("PATCH", f"{_API}/logged-models/{{model_id}}/tags"): LOG,
    ("DELETE", f"{_API}/logged-models/{{model_id}}/tags/{{key}}"): LOG,
    ("GET", f"{_API}/logged-models/{{model_id}}/artifacts/directories"): READ,
    ("GET", "/api/3.0/mlflow/server-info"): READ,
    **dict.fromkeys(
        (("POST", f"{_API}/{path}") for path in ("registered-models/create", "model-versions/create")), LOG
    ),
    **dict.fromkeys((("PATCH", f"{_API}/{kind}/update") for kind in _REGISTERED), LOG),
    **dict.fromkeys((("POST", f"{_API}/{kind}/set-tag") for kind in _REGISTERED), LOG),
    **dict.fromkeys((("DELETE", f"{_API}/{kind}/delete-tag") for kind in _REGISTERED), LOG),
    **dict.fromkeys((("DELETE", f"{_API}/{kind}/delete") for kind in _REGISTERED), RUN),
    **dict.fromkeys((("GET", f"{_API}/{kind}/{act}") for kind in _REGISTERED for act in ("get", "search")), READ),
    ("GET", f"{_API}/model-versions/get-download-uri"): READ,
    ("POST", f"{_API}/model-versions/transition-stage"): LOG,  # refused, with what to do instead
    ("POST", f"{_API}/registered-models/rename"): LOG,
    ("GET", f"{_API}/registered-models/get-latest-versions"): READ,
    ("POST", f"{_API}/registered-models/get-latest-versions"): READ,
    ("GET", f"{_API}/registered-models/alias"): READ,
    ("POST", f"{_API}/registered-models/alias"): DEPLOY,
    ("DELETE", f"{_API}/registered-models/alias"): DEPLOY,
    ("GET", f"{_API}-artifacts/artifacts"): READ,
    ("GET", f"{_API}-artifacts/artifacts/{REST}"): READ,
    ("PUT", f"{_API}-artifacts/artifacts/{REST}"): LOG,
    ("DELETE", f"{_API}-artifacts/artifacts/{REST}"): RUN,
    ("POST", f"{_API}-artifacts/mpu/create/{REST}"): LOG,
    ("POST", f"{_API}-artifacts/mpu/complete/{REST}"): LOG,
    ("POST", f"{_API}-artifacts/mpu/abort/{REST}"): LOG,
    ("PUT", f"{_API}-artifacts/mpu/parts/{{upload}}/{{part}}"): LOG,
}


class Policies:
    """The table, ready to be asked. A path matches a template segment by segment, exactly, or not at all; only one that
    ends in ``REST`` takes whatever follows."""

    def __init__(self, table: Mapping[tuple[str, str], str] = POLICIES) -> None:
        self.table = table
        self._exact: dict[str, dict[str, str]] = {}
        self._templates: dict[tuple[int, str], list[tuple[list[str], dict[str, str]]]] = {}
        self._rest: dict[str, dict[str, str]] = {}
        for template in dict.fromkeys(template for _, template in table):
            acts = {method: act for (method, other), act in table.items() if other == template}
            parts = template.split("/")
            if parts[-1] == REST:
                self._rest[template.removesuffix(REST)] = acts
            elif any(part.startswith("{") for part in parts):
                self._templates.setdefault((len(parts), parts[1]), []).append((parts, acts))
            else:
                self._exact[template] = acts

    def acts(self, path: str) -> Mapping[str, str] | None:
        """The act that each method of a path needs, or None if no route has this path."""
        if acts := self._exact.get(path):
            return acts
        parts = path.split("/")
        for template, acts in self._templates.get((len(parts), parts[1] if len(parts) > 1 else ""), ()):
            if all(own == part or (own[0:1] == "{" and part) for own, part in zip(template, parts, strict=True)):
                return acts
        for before, acts in self._rest.items():
            if path.startswith(before) and len(path) > len(before):
                return acts
        return None

    def route(self, path: str) -> str:
        """The template of a path; ``other`` for one that no route has."""
        if path in self._exact:
            return path
        parts = path.split("/")
        for template, _ in self._templates.get((len(parts), parts[1] if len(parts) > 1 else ""), ()):
            if all(own == part or (own[0:1] == "{" and part) for own, part in zip(template, parts, strict=True)):
                return "/".join(template)
        for before in self._rest:
            if path.startswith(before):
                return before + REST
        return "other"

    def check(self, routes: Iterable[tuple[str, str]]) -> None:
        """Compare with the live routes. Raises SampanError for a route without a policy or a policy without a route."""
        live = set(routes)
        for method, path in sorted(live - set(self.table)):
            raise SampanError(
                "Start the hub",
                f"the route {method} {path} has no policy",
                "Give it one in sampan/api/policies.py: what must somebody be allowed to do to use it?",
            )
        for method, path in sorted(set(self.table) - live):
            raise SampanError(
                "Start the hub",
                f"the policy for {method} {path} has no route",
                "Remove it from sampan/api/policies.py, or add the route.",
            )
