"""What the stock client of MLflow's logs of PyTorch: by itself through Lightning, and a model on request.

What it sends as a model is kept as bytes: only the client loads it again. Runs with `just test-torch`.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.hub.conftest import Hub, make_workspace

pytest.importorskip("torch", reason="PyTorch is not installed: `just test-torch` runs these")
THEIRS = ("UserWarning", "FutureWarning", "DeprecationWarning")
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in THEIRS]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = Hub(make_workspace(tmp_path_factory.mktemp("mlflow") / "shop"))
    yield running
    assert running.stop() == 0


TRAIN = """
import lightning, mlflow, numpy, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def forward(self, rows):
        return self.layer(rows)

    def training_step(self, batch, number):
        loss = nn.functional.mse_loss(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)

torch.manual_seed(0)
rows = torch.randn(64, 2)
mlflow.set_experiment(EXPERIMENT)
mlflow.pytorch.autolog(checkpoint=False)
trainer = lightning.Trainer(max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                            enable_model_summary=False, accelerator="cpu")
with mlflow.start_run() as run:
    trainer.fit(network := Line(), DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=16))
loaded = mlflow.pytorch.load_model(f"runs:/{run.info.run_id}/model")
print(run.info.run_id, torch.equal(loaded(rows), network(rows)))
"""


def test_lightning_logs_by_itself_and_its_model_comes_back(mlflow: ModuleType, client: Any, experiment: str) -> None:
    pytest.importorskip("lightning")
    text = TRAIN.replace("EXPERIMENT", f"experiment_id={experiment!r}")
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true"}
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, timeout=400)
    assert ran.returncode == 0, ran.stderr[-2000:]
    run, same = ran.stdout.split()[-2:]
    assert same == "True"
    found = client.get_run(run)
    assert found.data.params["optimizer_name"] == "SGD" and found.data.params["epochs"] == "3"
    history = client.get_metric_history(run, "train_loss")
    assert [point.step for point in history] == [0, 1, 2]
    assert history[2].value < history[0].value


def test_a_network_that_is_logged_is_kept_and_handed_back(
    mlflow: ModuleType, client: Any, experiment: str, tmp_path: Path
) -> None:
    import numpy
    import torch
    from torch import nn

    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)).eval()
    rows = torch.randn(8, 2)
    with mlflow.start_run() as run:
        logged = mlflow.pytorch.log_model(
            network, name="net", input_example=numpy.zeros((4, 2), "float32"), registered_model_name="net"
        )
    loaded = mlflow.pytorch.load_model(logged.model_uri)
    assert torch.allclose(loaded(rows), network(rows), atol=1e-6)
    fetched = Path(mlflow.artifacts.download_artifacts("models:/net/1", dst_path=str(tmp_path)))
    kept = {path.relative_to(fetched).as_posix() for path in fetched.rglob("*") if path.is_file()}
    assert {"MLmodel", "data/model.pt2"} <= kept, kept
    assert client.get_model_version("net", "1").run_id == run.info.run_id
