"""What the documentation says is not answered of MLflow's protocol is all that is not answered of it."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.api.mlflow_messages import ROUTES

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "experiments.md"
SERVICES = {
    "service_pb2": "MlflowService",
    "model_registry_pb2": "ModelRegistryService",
    "mlflow_artifacts_pb2": "MlflowArtifactsService",
    "webhooks_pb2": "WebhookService",
}


def protocol() -> Iterator[tuple[str, str]]:
    """Method and path of each route in the protocol of the client that is installed."""
    options = importlib.import_module("mlflow.protos.databricks_pb2").rpc
    for module, name in SERVICES.items():
        for method in importlib.import_module(f"mlflow.protos.{module}").DESCRIPTOR.services_by_name[name].methods:
            for endpoint in method.GetOptions().Extensions[options].endpoints:
                path = endpoint.path if endpoint.path.startswith("/") else f"/{endpoint.path}"
                yield endpoint.method, f"/api/{endpoint.since.major}.0{path}"


def shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}|<[^>]*>", "*", path)


def test_what_is_not_answered_of_the_protocol_is_what_the_page_lists() -> None:
    pytest.importorskip("mlflow")
    answered = {(method, shape(path)) for method, path in ROUTES}
    missing = {path for method, path in protocol() if (method, shape(path)) not in answered}
    section = PAGE.read_text("utf-8").split("## What MLflow's clients are not answered")[1]
    listed = re.findall(r"`(/api/[^`]+)`", section.split("| --- | --- |")[1])
    assert not sorted(path for path in missing if not path.startswith(tuple(listed))), "they are not on the page"
    assert not sorted(one for one in listed if not any(path.startswith(one) for path in missing)), "they are answered"
