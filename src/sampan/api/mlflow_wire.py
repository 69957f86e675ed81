"""The messages of MLflow's REST API 2.0, as its clients write and read them. Names are the protocol's.

Whole numbers may come as texts, numbers that are none in JSON ("NaN", "Infinity") come and go as texts.
"""

from typing import Literal

import msgspec

from sampan.track.search import View


class Nothing(msgspec.Struct):
    """An answer with nothing in it."""


# -- experiments


class Pair(msgspec.Struct):
    """A parameter or a tag."""

    key: str
    value: str


class CreateExperiment(msgspec.Struct):
    """``artifact_location`` must be left out: the hub keeps artifacts where it keeps them."""

    name: str
    artifact_location: str = ""
    tags: list[Pair] = []


class ExperimentId(msgspec.Struct, omit_defaults=True):
    experiment_id: str


class ExperimentName(msgspec.Struct):
    experiment_name: str


class UpdateExperiment(msgspec.Struct):
    experiment_id: str
    new_name: str


class SetExperimentTag(msgspec.Struct):
    experiment_id: str
    key: str
    value: str


class DeleteExperimentTag(msgspec.Struct):
    experiment_id: str
    key: str


class SearchExperiments(msgspec.Struct):
    max_results: int = 1000
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    view_type: View = "ACTIVE_ONLY"


class LoggedExperiment(msgspec.Struct):
    """An experiment as clients see it."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    last_update_time: int
    creation_time: int
    tags: list[Pair]


class OneExperiment(msgspec.Struct):
    experiment: LoggedExperiment


class Experiments(msgspec.Struct, omit_defaults=True):
    experiments: list[LoggedExperiment]
    next_page_token: str = ""


# -- runs


class CreateRun(msgspec.Struct):
    experiment_id: str = "0"
    user_id: str = ""
    run_name: str = ""
    start_time: int | None = None
    tags: list[Pair] = []


class RunId(msgspec.Struct):
    """``run_uuid`` is the name of old clients."""

    run_id: str = ""
    run_uuid: str = ""

    @property
    def run(self) -> str:
        return self.run_id or self.run_uuid


class UpdateRun(RunId):
    status: str = ""
    end_time: int | None = None
    run_name: str = ""


class MetricPoint(msgspec.Struct):
    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogMetric(RunId, kw_only=True):
    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""


class LogParam(RunId, kw_only=True):
    key: str
    value: str


class SetTag(RunId, kw_only=True):
    key: str
    value: str


class DeleteTag(msgspec.Struct):
    run_id: str
    key: str


class LogBatch(msgspec.Struct):
    run_id: str
    metrics: list[MetricPoint] = []
    params: list[Pair] = []
    tags: list[Pair] = []


class SearchRuns(msgspec.Struct):
    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: View = "ACTIVE_ONLY"
    max_results: int = 1000
    order_by: list[str] = []
    page_token: str = ""


class SourceDataset(msgspec.Struct, omit_defaults=True):
    """A dataset that a run read; ``schema`` and ``profile`` are texts of their makers'."""

    name: str
    digest: str
    source_type: str = ""
    source: str = ""
    schema: str | None = None
    profile: str | None = None


class DatasetInput(msgspec.Struct):
    dataset: SourceDataset
    tags: list[Pair] = []


class ModelInput(msgspec.Struct):
    model_id: str


class ModelOutput(msgspec.Struct):
    model_id: str
    step: int = 0


class LogInputs(msgspec.Struct):
    run_id: str
    datasets: list[DatasetInput] = []
    models: list[ModelInput] = []


class LogOutputs(msgspec.Struct):
    run_id: str
    models: list[ModelOutput] = []


class LogModel(msgspec.Struct):
    """The record of a model that old clients leave with a run, as a text in JSON."""

    run_id: str
    model_json: str


class MetricHistory(RunId, kw_only=True):
    metric_key: str
    max_results: int | None = None
    page_token: str = ""


class MetricInterval(msgspec.Struct):
    run_ids: list[str]
    metric_key: str
    start_step: int | None = None
    end_step: int | None = None
    max_results: int = 2500


class MetricValue(msgspec.Struct, omit_defaults=True):
    key: str
    value: float | str
    timestamp: int
    step: int
    model_id: str = ""
    dataset_name: str = ""
    dataset_digest: str = ""
    run_id: str = ""


class RunInfo(msgspec.Struct, omit_defaults=True):
    run_id: str
    run_uuid: str
    run_name: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    artifact_uri: str
    lifecycle_stage: str
    end_time: int | None = None


class RunData(msgspec.Struct):
    metrics: list[MetricValue]
    params: list[Pair]
    tags: list[Pair]


class RunInputs(msgspec.Struct):
    dataset_inputs: list[DatasetInput]
    model_inputs: list[ModelInput]


class RunOutputs(msgspec.Struct):
    model_outputs: list[ModelOutput]


class LoggedRun(msgspec.Struct):
    """A run as clients see it."""

    info: RunInfo
    data: RunData
    inputs: RunInputs
    outputs: RunOutputs


class OneRun(msgspec.Struct):
    run: LoggedRun


class OneRunInfo(msgspec.Struct):
    run_info: RunInfo


class FoundRuns(msgspec.Struct, omit_defaults=True):
    runs: list[LoggedRun]
    next_page_token: str = ""


class MetricValues(msgspec.Struct, omit_defaults=True):
    metrics: list[MetricValue]
    next_page_token: str = ""


class FoundDataset(msgspec.Struct, omit_defaults=True):
    experiment_id: str
    name: str
    digest: str
    context: str = ""


class FoundDatasets(msgspec.Struct):
    dataset_summaries: list[FoundDataset]


class SearchDatasets(msgspec.Struct):
    experiment_ids: list[str]


# -- artifacts


class ListArtifacts(RunId):
    path: str = ""
    page_token: str = ""


class FileInfo(msgspec.Struct, omit_defaults=True):
    path: str
    is_dir: bool
    file_size: int | None = None


class Files(msgspec.Struct, omit_defaults=True):
    files: list[FileInfo]
    root_uri: str = ""


class CreateUpload(msgspec.Struct):
    path: str
    num_parts: int = 1


class UploadPart(msgspec.Struct):
    part_number: int
    etag: str
    url: str | None = None


class CompleteUpload(msgspec.Struct):
    path: str
    upload_id: str
    parts: list[UploadPart]


class AbortUpload(msgspec.Struct):
    path: str
    upload_id: str


class UploadCredential(msgspec.Struct):
    url: str
    part_number: int
    headers: dict[str, str]


class CreatedUpload(msgspec.Struct):
    upload_id: str
    credentials: list[UploadCredential]


class ServerInfo(msgspec.Struct):
    """What clients ask to know how they may send."""

    store_type: str = "SqlStore"
    workspaces_enabled: bool = False
    trace_archival_enabled: bool = False
    multipart_uploads_enabled: bool = True
    multipart_downloads_enabled: bool = False


# -- logged models


class CreateLoggedModel(msgspec.Struct):
    experiment_id: str
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Pair] = []
    tags: list[Pair] = []


class FinalizeLoggedModel(msgspec.Struct):
    status: str
    model_id: str = ""


class SetLoggedModelTags(msgspec.Struct):
    tags: list[Pair] = []
    model_id: str = ""


class LogLoggedModelParams(msgspec.Struct):
    params: list[Pair] = []
    model_id: str = ""


class GetLoggedModel(msgspec.Struct):
    allow_deleted: Literal["true", "false"] = "false"


class OrderBy(msgspec.Struct):
    field_name: str
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class SearchLoggedModels(msgspec.Struct):
    experiment_ids: list[str] = []
    filter: str = ""
    max_results: int = 50
    order_by: list[OrderBy] = []
    page_token: str = ""


class LoggedModelInfo(msgspec.Struct):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: str
    model_type: str
    source_run_id: str
    tags: list[Pair]


class LoggedModelData(msgspec.Struct):
    params: list[Pair]
    metrics: list[MetricValue]


class LoggedModel(msgspec.Struct):
    info: LoggedModelInfo
    data: LoggedModelData


class OneLoggedModel(msgspec.Struct):
    model: LoggedModel


class FoundLoggedModels(msgspec.Struct, omit_defaults=True):
    models: list[LoggedModel]
    next_page_token: str = ""


class ListModelArtifacts(msgspec.Struct):
    artifact_directory_path: str = ""
    page_token: str = ""
