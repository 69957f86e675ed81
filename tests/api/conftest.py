"""A hub that takes events of every protocol, with contracts and mappings as a workspace declares them."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.hub.conftest import Hub, make_workspace

CONTRACTS = """
from typing import Annotated
from sampan import Event, Field, adapt

class OrderLine(Event, version=1):
    invoice: str
    sku: str
    quantity: Annotated[int, Field(unit="pieces", ge=1)]
    price: Annotated[float, Field(unit="USD", ge=0)]

class ItemPurchased(Event, version=1):
    item: str
    price: float

class Page(Event, version=1):
    name: str
    url: str = ""

class Screen(Event, version=1):
    name: str

class Identify(Event, version=1):
    email: Annotated[str | None, Field(personal=True)] = None
    plan: str = "free"

class Group(Event, version=1):
    group_id: str
    name: str = ""

class Alias(Event, version=1):
    previous_id: str

class Login(Event, version=1):
    method: str

class Note(Event, version=1):
    data: str
    datacontenttype: str = ""

class Picture(Event, version=1):
    data_base64: str

purchase = {"transaction_id": "invoice", "item_id": "sku"}
adapt("ga4", "purchase", OrderLine, each="items", rename=purchase, known_at="$.timestamp_micros")
adapt("cloudevents", "com.example.order", OrderLine, each="lines", rename={"$.subject": "invoice"})
adapt("cloudevents", "com.example.picture", Picture)
adapt("cloudevents", "com.example.note", Note)
adapt("segment", "Order Completed", OrderLine, each="products", rename={"order_id": "invoice"})
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Starts hubs; they are ended with the test."""
    begun: list[Hub] = []

    def start(name: str = "shop", port: int = 0, **environ: str) -> Hub:
        folder = tmp_path / name
        if not folder.exists():
            make_workspace(folder)
            (folder / "contracts.py").write_text(CONTRACTS)
            (folder / "tables" / "pages.sql").unlink()
        begun.append(Hub(folder, "--port", str(port), **environ))
        return begun[-1]

    yield start
    for hub in begun:
        hub.stop()


@pytest.fixture(scope="module")
def mlflow(hub: Hub) -> Iterator[ModuleType]:
    """The client, told where the hub is and whose token it has; as its users tell it."""
    said = {
        "MLFLOW_TRACKING_URI": hub.url,
        "MLFLOW_TRACKING_TOKEN": hub.token,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    before = {name: os.environ.get(name) for name in said}
    os.environ.update(said)
    import mlflow

    mlflow.set_tracking_uri(hub.url)
    yield mlflow
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture
def client(mlflow: ModuleType) -> Any:
    return mlflow.MlflowClient()


@pytest.fixture
def experiment(mlflow: ModuleType, request: pytest.FixtureRequest) -> str:
    return str(mlflow.set_experiment(request.node.name).experiment_id)
