"""Walking backwards from what was adopted: a model that Sampan has trained against it, and it as the way back."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hub.conftest import Hub, sampan
from tests.hub.test_adopt import FEATURES, PLAN, RECORD, Service, adopt, ask, files, folder, hub, service

__all__ = ["files", "folder", "hub", "service"]

STEPS = """
import lightgbm as lgb
import numpy as np
import pandas as pd
from sampan import Fitted, model, step


@step
def customers(rows: int = 400) -> pd.DataFrame:
    chance = np.random.default_rng(7)
    frame = pd.DataFrame(chance.normal(size=(rows, 3)), columns=["orders", "recency", "spend"])
    frame["again"] = frame.orders - frame.recency + chance.normal(size=rows) > 0
    return frame


@model(kind="binary", target="again")
def NAME(customers: pd.DataFrame) -> Fitted:
    inputs = ["orders", "recency", "spend"]
    fitted = lgb.LGBMClassifier(n_estimators=9, verbose=-1, n_jobs=1).fit(customers[inputs], customers.again)
    return Fitted(fitted, inputs, target="again", sample=customers[inputs])
"""
RULES = """
from sampan import PREVIOUS, Action, decision


@decision(model="live"DECLARED)
def act(prediction, record, likely: float = 0.5):
    return Action("go" if prediction >= likely else "stay", rule=WORD)
"""
WORDS = ("--form", "predict", "--kind", "binary", "--read", "score", "--features", ",".join(FEATURES))


def command(folder: Path, *words: str) -> Any:
    done = sampan(folder, *words)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done


def made_elsewhere() -> bytes:
    """A logistic regression in ONNX's operators."""
    from onnx import TensorProto, helper

    weights = helper.make_tensor("weights", TensorProto.FLOAT, [3, 1], [1.0, -0.5, 0.0])
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["sum"]), helper.make_node("Sigmoid", ["sum"], ["p"])]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3])
    given = helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph(nodes, "old", [taken], [given], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    return bytes(model.SerializeToString())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["live", "churn"])
@pytest.mark.parametrize("champion", ["service", "onnx"])
def test_a_model_trained_here_takes_over_from_what_was_adopted(
    hub: Hub, files: Path, service: Service, champion: str, name: str, tmp_path: Path
) -> None:
    if champion == "service":
        adopt(hub.folder, "live", service.url, *WORDS)
    else:
        (tmp_path / "old.onnx").write_bytes(made_elsewhere())
        adopt(hub.folder, "live", str(tmp_path / "old.onnx"), "--kind", "binary", "--features", ",".join(FEATURES))
    assert ask(hub, RECORD)[0] == 200
    (hub.folder / "steps.py").write_text(STEPS.replace("NAME", name))
    command(hub.folder, "run")
    new = "live@2" if name == "live" else "churn@1"
    assert hub.json(f"/models/{name}/{new[-1]}")["run"], "a run made it"
    assert hub.json("/endpoints/live")["endpoint"]["version"] == "live@1", "training serves nothing"
    (hub.folder / "rollouts.toml").write_text(PLAN)
    command(hub.folder, "rollout", "start", "live", "--model", new, "--reason", "trained here")
    chance, end, versions = np.random.default_rng(1), time.monotonic() + 90, set()
    while (page := hub.json("/rollouts"))["rollouts"][0]["phase"] not in ("full", "done"):
        assert page["rollouts"][0]["phase"] == "running", page["rollouts"][0]["why"]
        assert time.monotonic() < end, page["rollouts"][0]["why"]
        status, answer = ask(hub, *[dict(zip(FEATURES, chance.normal(size=3), strict=True)) for _ in range(5)])
        assert status == 200, answer
        versions |= {(one["version"], one.get("variant")) for one in answer["predictions"]}
    assert {("live@1", "champion"), (new, "candidate")} <= versions
    end = time.monotonic() + 30
    while hub.json("/endpoints/live")["endpoint"]["version"] != new:
        assert time.monotonic() < end
        time.sleep(0.1)
    rollout = hub.json("/rollouts")["rollouts"][0]["id"]
    for path in (f"/rollouts/{rollout}", f"/rollouts/{rollout}/shadow", "/endpoints/live", "/endpoints/live/value"):
        assert hub.ask("GET", path, accept="text/html")[0].status == 200, path
    assert command(hub.folder, "lineage", new).stdout
    command(hub.folder, "rollback", "live", "--reason", "back to what there was")
    status, answer = ask(hub, RECORD)
    assert status == 200 and answer["predictions"][0]["version"] == "live@1"


def rules(hub: Hub, word: str, declared: str = "") -> None:
    (hub.folder / "decisions.py").write_text(RULES.replace("DECLARED", declared).replace("WORD", repr(word)))


@pytest.mark.slow
def test_a_service_that_was_in_force_before_answers_where_the_model_does_not(
    hub: Hub, files: Path, service: Service
) -> None:
    adopt(hub.folder, "live", service.url, *WORDS, "--timeout", "300")
    rules(hub, "in the words of old")
    command(hub.folder, "endpoint", "deploy", "live", "--model", "live@1")
    new = adopt(hub.folder, "live", str(files / "new.txt"), "--register-only")["adopted"]["ref"]
    rules(hub, "in new words", ", fallback=PREVIOUS")
    command(hub.folder, "endpoint", "deploy", "live", "--model", new)
    status, answer = ask(hub, RECORD)
    assert (status, answer["predictions"][0]["version"]) == (200, new) and "fallback" not in answer["predictions"][0]
    asked = len(service.asked)

    digest = next(iter(hub.json(f"/models/live/{new[-1]}")["files"].values()))
    blob = hub.folder / ".sampan" / "blobs" / digest[:2] / digest[2:]
    blob.chmod(0o600)
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    for one in _serving(hub):
        os.kill(one, signal.SIGKILL)
    end = time.monotonic() + 20
    while (found := ask(hub, RECORD, {**RECORD, "orders": -1.0}))[0] != 200 or "fallback" not in json.dumps(found[1]):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    first, other = found[1]["predictions"]
    assert (first["version"], first["rule"], first["prediction"]) == ("live@1", "in the words of old", 1.0)
    assert (first["action"], other["action"]) == ("go", "stay") and first["fallback"]
    assert len(service.asked) > asked and service.asked[-1] == {"records": [RECORD, {**RECORD, "orders": -1.0}]}

    service.sleep = 1.0
    began = time.monotonic()
    status, answer = ask(hub, RECORD)
    assert status == 500 and "digest" in json.dumps(answer), answer
    assert time.monotonic() - began < 0.9, "its own time-out is 300 ms"
    service.sleep = 0.0
    status, answer = ask(hub, {**RECORD, "orders": "many"})
    assert status == 400, "what does not fit is refused"
    assert ask(hub, RECORD)[0] == 200


def _serving(hub: Hub) -> list[int]:
    """The hub's serving processes."""
    children = Path(f"/proc/{hub.process.pid}/task/{hub.process.pid}/children").read_text().split()
    said = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, line in said.items() if b"sampan.serve.process" in line or b"sampan.api.entrance" in line]
