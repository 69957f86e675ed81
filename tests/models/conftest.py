from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sampan.flow.declare import Fitted
from sampan.models.formats import freeze, load
from sampan.store.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = pd.DataFrame(rng.normal(size=(400, 4)).round(2), columns=["recency", "orders", "spend", "hour"])
    made["country"] = pd.Categorical(rng.choice(["UK", "DE", "FR"], 400))
    made["again"] = made["recency"] + (made["country"] == "UK") + rng.normal(size=400) > 0.5
    return made


@pytest.fixture
def frozen(blobs: Blobs) -> Callable[..., Any]:
    """Freeze an estimator and give its draft and the predictor loaded from it."""

    def make(estimator: Any, kind: str, sample: Any, features: Any = None) -> tuple[Any, Any]:
        draft = freeze(Fitted(estimator, features or [], sample=sample), kind, blobs)  # type: ignore[arg-type]
        return draft, load(draft, blobs)

    return make
