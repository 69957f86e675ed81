"""A version is served in the environment that its run recorded, beside one that is served with what is installed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_explain import installed
from tests.hub.conftest import Hub, sampan

pytestmark = pytest.mark.slow

STEPS = """
import lightgbm as lgb
import numpy as np
import pandas as pd
import weights
from sampan import Fitted, model

@model
def stay() -> Fitted:
    rows = np.random.default_rng(0).normal(size=(200, 2))
    made = lgb.train({"objective": "binary", "verbose": -1}, lgb.Dataset(rows, rows[:, 0] > 0), int(weights.WEIGHT) + 2)
    return Fitted(made, features=["a", "b"], sample=pd.DataFrame(rows, columns=["a", "b"]))
"""
RULES = """
import weights
from sampan import Action, decision

@decision(model="stay")
def weigh(prediction, context):
    return Action("go", rule=f"by weights {weights.WEIGHT}")
"""


class Yard:
    """A workspace with a version of each of two environments; commands run in the newer one."""

    def __init__(self, root: Path) -> None:
        self.folder, self.wheels = root / "yard", root / "wheels"
        for one in (self.folder, self.wheels):
            one.mkdir()
        (self.folder / "steps.py").write_text(STEPS)
        (self.folder / "decisions.py").write_text(RULES)
        self.settings("recorded")
        old, new = (installed(root / "packages", self.wheels, version) for version in ("1.0", "3.0"))
        self.extra = {"PYTHONPATH": str(old), "UV_FIND_LINKS": str(self.wheels)}
        self("run")
        self.extra["PYTHONPATH"] = str(new)
        self("run")

    def settings(self, serve_in: str) -> None:
        (self.folder / "sampan.toml").write_text(f'[settings]\nserve_in = "{serve_in}"\n')

    def __call__(self, *words: str, code: int = 0) -> str:
        done = sampan(self.folder, *words, **self.extra)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    yield Yard(tmp_path_factory.mktemp("environments"))


def rule_of(hub: Hub, name: str) -> str:
    status, body = hub.predict(name, b'{"records": [{"a": 1.0, "b": 0.0}]}')
    assert status == 200, body
    return str(json.loads(body)["predictions"][0]["rule"])


def page(hub: Hub, name: str) -> Any:
    return hub.json(f"/endpoints/{name}")["environment"]


def test_last_years_version_is_served_beside_todays_in_its_own_environment(yard: Yard) -> None:
    yard("endpoint", "deploy", "old", "--model", "stay@1")
    yard("endpoint", "deploy", "new", "--model", "stay@2")
    hub = Hub(yard.folder, **yard.extra)
    try:
        assert (rule_of(hub, "old"), rule_of(hub, "new")) == ("by weights 1.0", "by weights 3.0")
        assert "one of its own" in page(hub, "old") and "weights 1.0 → 3.0" in page(hub, "old")
        assert "what is installed, which answers to its lock" in page(hub, "new")
    finally:
        hub.stop()
    environments = yard.folder / ".sampan" / "cache" / "environments"
    for path in (*environments.glob("*/*"), *environments.glob("*")):
        os.utime(path, (0, 0), follow_symlinks=False)
    yard("gc", "--apply")
    assert list(environments.glob("*/environment/bin/python")), "what is in force runs in it"


def test_one_that_cannot_be_made_is_not_deployed_and_what_is_in_force_goes_on(yard: Yard, tmp_path: Path) -> None:
    (yard.folder / "decisions.py").write_text(RULES.replace("by weights", "rules of later, by weights"))
    yard("endpoint", "deploy", "old", "--model", "stay@2")
    for made in (yard.folder / ".sampan" / "cache" / "environments").glob("*"):
        made.rename(tmp_path / made.name)
    (yard.wheels / "weights-1.0-py3-none-any.whl").rename(tmp_path / "weights.whl")
    hub = Hub(yard.folder, **yard.extra)
    try:
        assert rule_of(hub, "old") == "rules of later, by weights 3.0"
        said = yard("endpoint", "deploy", "old", "--model", "stay@1", code=3)
        assert "weights 1.0 → 3.0" in said and "weights==1.0" in said and 'serve_in = "hub"' in said
        assert rule_of(hub, "old") == "rules of later, by weights 3.0"
        yard.settings("hub")
        yard("endpoint", "deploy", "old", "--model", "stay@1")
        assert rule_of(hub, "old") == "rules of later, by weights 3.0"
        yard.settings("recorded")
    finally:
        hub.stop()
    hub = Hub(yard.folder, **yard.extra)  # in force already: it answers, and the hub says in what
    try:
        assert rule_of(hub, "old") == "rules of later, by weights 3.0"
    finally:
        hub.stop()
    yard.settings("somewhere")
    assert "'somewhere' is none of hub, model, recorded" in yard(
        "endpoint", "deploy", "old", "--model", "stay@1", code=2
    )
