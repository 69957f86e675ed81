"""The messages of MLflow's REST API about registered models and their versions. Names are the protocol's."""

import msgspec

from sampan.api.mlflow_wire import Pair


class CreateRegisteredModel(msgspec.Struct):
    name: str
    tags: list[Pair] = []
    description: str = ""


class ModelName(msgspec.Struct):
    name: str


class UpdateRegisteredModel(msgspec.Struct):
    name: str
    description: str = ""


class Search(msgspec.Struct):
    """A filter and an order of MLflow's, and a page of what they find."""

    filter: str = ""
    max_results: int = 0
    order_by: list[str] = []
    page_token: str = ""


class LatestVersions(msgspec.Struct):
    name: str
    stages: list[str] = []


class ModelTag(msgspec.Struct):
    name: str
    key: str
    value: str


class ModelTagKey(msgspec.Struct):
    name: str
    key: str


class CreateModelVersion(msgspec.Struct):
    """``source`` is an address of the hub's own: ``models:/m-…``, ``models:/NAME/NUMBER``, ``runs:/RUN/PATH`` or
    ``mlflow-artifacts:/…``. ``run_link`` must be left out."""

    name: str
    source: str
    run_id: str = ""
    tags: list[Pair] = []
    run_link: str = ""
    description: str = ""
    model_id: str = ""


class VersionName(msgspec.Struct):
    name: str
    version: str


class UpdateModelVersion(msgspec.Struct):
    name: str
    version: str
    description: str = ""


class VersionTag(msgspec.Struct):
    name: str
    version: str
    key: str
    value: str


class VersionTagKey(msgspec.Struct):
    name: str
    version: str
    key: str


class SetAlias(msgspec.Struct):
    name: str
    alias: str
    version: str


class AliasName(msgspec.Struct):
    name: str
    alias: str


class AliasOf(msgspec.Struct):
    alias: str
    version: str


class ModelMetric(msgspec.Struct):
    key: str
    value: float
    run_id: str = ""


class ModelVersion(msgspec.Struct):
    """A registered version. It is whole when it is told of: its status is always READY."""

    name: str
    version: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str
    description: str
    source: str
    run_id: str
    model_id: str
    tags: list[Pair]
    aliases: list[str]
    model_metrics: list[ModelMetric]
    current_stage: str = "None"
    status: str = "READY"


class RegisteredModel(msgspec.Struct):
    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    user_id: str
    description: str
    latest_versions: list[ModelVersion]
    tags: list[Pair]
    aliases: list[AliasOf]


class OneModel(msgspec.Struct):
    registered_model: RegisteredModel


class OneVersion(msgspec.Struct):
    model_version: ModelVersion


class FoundModels(msgspec.Struct):
    registered_models: list[RegisteredModel]
    next_page_token: str = ""


class FoundVersions(msgspec.Struct):
    model_versions: list[ModelVersion]
    next_page_token: str = ""


class DownloadUri(msgspec.Struct):
    artifact_uri: str
