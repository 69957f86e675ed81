"""The routes of MLflow's REST API that the hub answers: what each takes and gives."""

from collections.abc import Mapping
from typing import Any, Final

from sampan.api import mlflow_registry_wire as registry
from sampan.api import mlflow_wire as wire

API: Final = "/api/2.0/mlflow"
INFO: Final = "/api/3.0/mlflow/server-info"
MODEL: Final = f"{API}/logged-models/{{model_id}}"
MODELS: Final = f"{API}/registered-models"
VERSIONS: Final = f"{API}/model-versions"
ARTIFACTS: Final = "/api/2.0/mlflow-artifacts/artifacts"
UPLOADS: Final = "/api/2.0/mlflow-artifacts/mpu"
Route = tuple[str, str]

#: What each route takes and gives, and its summary.
MESSAGES: Final[Mapping[Route, tuple[Any, Any, str]]] = {
    ("POST", f"{API}/experiments/create"): (wire.CreateExperiment, wire.ExperimentId, "Make an experiment"),
    ("GET", f"{API}/experiments/get"): (wire.ExperimentId, wire.OneExperiment, "Read an experiment"),
    ("GET", f"{API}/experiments/get-by-name"): (wire.ExperimentName, wire.OneExperiment, "Find an experiment"),
    ("POST", f"{API}/experiments/search"): (wire.SearchExperiments, wire.Experiments, "Search experiments"),
    ("GET", f"{API}/experiments/search"): (wire.SearchExperiments, wire.Experiments, "Search experiments"),
    ("POST", f"{API}/experiments/update"): (wire.UpdateExperiment, wire.Nothing, "Rename an experiment"),
    ("POST", f"{API}/experiments/delete"): (wire.ExperimentId, wire.Nothing, "Put an experiment out of sight"),
    ("POST", f"{API}/experiments/restore"): (wire.ExperimentId, wire.Nothing, "Bring an experiment back"),
    ("POST", f"{API}/experiments/set-experiment-tag"): (wire.SetExperimentTag, wire.Nothing, "Tag an experiment"),
    ("POST", f"{API}/experiments/delete-experiment-tag"): (wire.DeleteExperimentTag, wire.Nothing, "Take its tag away"),
    ("POST", f"{API}/experiments/search-datasets"): (
        wire.SearchDatasets,
        wire.FoundDatasets,
        "Datasets of runs",
    ),
    ("POST", f"{API}/runs/create"): (wire.CreateRun, wire.OneRun, "Begin a run"),
    ("GET", f"{API}/runs/get"): (wire.RunId, wire.OneRun, "Read a run"),
    ("POST", f"{API}/runs/update"): (wire.UpdateRun, wire.OneRunInfo, "Say how a run stands"),
    ("POST", f"{API}/runs/delete"): (wire.RunId, wire.Nothing, "Put a run out of sight"),
    ("POST", f"{API}/runs/restore"): (wire.RunId, wire.Nothing, "Bring a run back"),
    ("POST", f"{API}/runs/search"): (wire.SearchRuns, wire.FoundRuns, "Search runs"),
    ("POST", f"{API}/runs/log-metric"): (wire.LogMetric, wire.Nothing, "Log a metric's value"),
    ("POST", f"{API}/runs/log-batch"): (wire.LogBatch, wire.Nothing, "Log metrics, parameters and tags"),
    ("POST", f"{API}/runs/log-parameter"): (wire.LogParam, wire.Nothing, "Log a parameter"),
    ("POST", f"{API}/runs/set-tag"): (wire.SetTag, wire.Nothing, "Tag a run"),
    ("POST", f"{API}/runs/delete-tag"): (wire.DeleteTag, wire.Nothing, "Take a run's tag away"),
    ("POST", f"{API}/runs/log-inputs"): (wire.LogInputs, wire.Nothing, "Log what a run read"),
    ("POST", f"{API}/runs/outputs"): (wire.LogOutputs, wire.Nothing, "Log which models a run made"),
    ("POST", f"{API}/runs/log-model"): (wire.LogModel, wire.Nothing, "Leave a model's record with a run"),
    ("GET", f"{API}/metrics/get-history"): (wire.MetricHistory, wire.MetricValues, "All points of a metric"),
    ("GET", f"{API}/metrics/get-history-bulk-interval"): (
        wire.MetricInterval,
        wire.MetricValues,
        "Points of a metric of several runs, thinned out",
    ),
    ("GET", f"{API}/artifacts/list"): (wire.ListArtifacts, wire.Files, "Artifacts of a run"),
    ("POST", f"{API}/logged-models"): (wire.CreateLoggedModel, wire.OneLoggedModel, "Begin a logged model"),
    ("POST", f"{API}/logged-models/search"): (
        wire.SearchLoggedModels,
        wire.FoundLoggedModels,
        "Search logged models",
    ),
    ("GET", MODEL): (wire.GetLoggedModel, wire.OneLoggedModel, "Read a logged model"),
    ("PATCH", MODEL): (wire.FinalizeLoggedModel, wire.OneLoggedModel, "Say how a logged model stands"),
    ("DELETE", MODEL): (wire.Nothing, wire.Nothing, "Put a logged model out of sight"),
    ("POST", f"{MODEL}/params"): (wire.LogLoggedModelParams, wire.Nothing, "Log parameters of a logged model"),
    ("PATCH", f"{MODEL}/tags"): (wire.SetLoggedModelTags, wire.OneLoggedModel, "Tag a logged model"),
    ("DELETE", f"{MODEL}/tags/{{key}}"): (wire.Nothing, wire.Nothing, "Take a logged model's tag away"),
    ("GET", f"{MODEL}/artifacts/directories"): (wire.ListModelArtifacts, wire.Files, "Artifacts of a logged model"),
    ("POST", f"{MODELS}/create"): (registry.CreateRegisteredModel, registry.OneModel, "Give a model a name"),
    ("GET", f"{MODELS}/get"): (registry.ModelName, registry.OneModel, "Read a registered model"),
    ("GET", f"{MODELS}/search"): (registry.Search, registry.FoundModels, "Search registered models"),
    ("PATCH", f"{MODELS}/update"): (registry.UpdateRegisteredModel, registry.OneModel, "Describe a registered model"),
    ("DELETE", f"{MODELS}/delete"): (registry.ModelName, wire.Nothing, "Put a registered model out of sight"),
    ("POST", f"{MODELS}/get-latest-versions"): (registry.LatestVersions, registry.FoundVersions, "Its newest version"),
    ("GET", f"{MODELS}/get-latest-versions"): (registry.LatestVersions, registry.FoundVersions, "Its newest version"),
    ("POST", f"{MODELS}/set-tag"): (registry.ModelTag, wire.Nothing, "Tag a registered model"),
    ("DELETE", f"{MODELS}/delete-tag"): (registry.ModelTagKey, wire.Nothing, "Take a registered model's tag away"),
    ("POST", f"{MODELS}/alias"): (registry.SetAlias, wire.Nothing, "Have an alias name a version"),
    ("GET", f"{MODELS}/alias"): (registry.AliasName, registry.OneVersion, "The version that an alias names"),
    ("DELETE", f"{MODELS}/alias"): (registry.AliasName, wire.Nothing, "Have an alias name nothing"),
    ("POST", f"{VERSIONS}/create"): (registry.CreateModelVersion, registry.OneVersion, "Register a version"),
    ("GET", f"{VERSIONS}/get"): (registry.VersionName, registry.OneVersion, "Read a version"),
    ("GET", f"{VERSIONS}/search"): (registry.Search, registry.FoundVersions, "Search versions"),
    ("PATCH", f"{VERSIONS}/update"): (registry.UpdateModelVersion, registry.OneVersion, "Describe a version"),
    ("DELETE", f"{VERSIONS}/delete"): (registry.VersionName, wire.Nothing, "Put a version out of sight"),
    ("GET", f"{VERSIONS}/get-download-uri"): (
        registry.VersionName,
        registry.DownloadUri,
        "Where a version's files are",
    ),
    ("POST", f"{VERSIONS}/set-tag"): (registry.VersionTag, wire.Nothing, "Tag a version"),
    ("DELETE", f"{VERSIONS}/delete-tag"): (registry.VersionTagKey, wire.Nothing, "Take a version's tag away"),
    ("POST", f"{VERSIONS}/transition-stage"): (wire.Nothing, wire.Nothing, "Refused: models have no stages"),
    ("POST", f"{MODELS}/rename"): (wire.Nothing, wire.Nothing, "Refused: a name is part of an address"),
    ("GET", INFO): (wire.Nothing, wire.ServerInfo, "What a client of MLflow's may use"),
}

#: What training loops call again and again; by POST.
LOGGED: Final = tuple(
    f"{API}/runs/{act}" for act in ("log-metric", "log-batch", "log-parameter", "set-tag", "create", "update")
)
#: Artifacts, which are streams.
STREAMS: Final[Mapping[Route, str]] = {
    ("GET", ARTIFACTS): "Artifacts below a path",
    ("GET", f"{ARTIFACTS}/{{path}}"): "Take an artifact away",
    ("PUT", f"{ARTIFACTS}/{{path}}"): "Log an artifact",
    ("DELETE", f"{ARTIFACTS}/{{path}}"): "Remove artifacts",
    ("POST", f"{UPLOADS}/create/{{path}}"): "Begin an artifact that comes in parts",
    ("POST", f"{UPLOADS}/complete/{{path}}"): "Put its parts together",
    ("POST", f"{UPLOADS}/abort/{{path}}"): "Give it up",
    ("PUT", f"{UPLOADS}/parts/{{upload}}/{{part}}"): "Send one part of it",
}
#: All routes of the protocol.
ROUTES: Final[tuple[Route, ...]] = (*MESSAGES, *STREAMS)
