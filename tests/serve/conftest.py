import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from rollout_shop import candidate
from serving_shop import FEATURES, Shop
from tests.once import once

from sampan.flow.declare import Fitted


@pytest.fixture(scope="session")
def fitted() -> Callable[[int], Fitted]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=FEATURES)
    again = frame["orders"] + rng.normal(size=300) > 0

    def make(trees: int = 5) -> Fitted:
        model = lgb.LGBMClassifier(n_estimators=trees, verbose=-1, n_jobs=1, random_state=0)
        return Fitted(model.fit(frame, again), FEATURES, sample=frame)

    return make


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory, fitted: Callable[[int], Fitted]) -> Path:
    """A workspace to copy."""

    def make(folder: Path) -> None:
        Shop.found(folder / "shop", fitted(5)).close()

    return once(tmp_path_factory, "serving-shop", make) / "shop"


@pytest.fixture
def make_shop(tmp_path: Path, pattern: Path) -> Iterator[Callable[..., Shop]]:
    """Copies of a shop with reorder@1 deployed, under settings of one's own."""
    shops: list[Shop] = []

    def make(**settings: Any) -> Shop:
        root = tmp_path / f"shop{len(shops)}"
        shutil.copytree(pattern, root)
        shops.append(Shop(root, settings))
        return shops[-1]

    yield make
    for one in shops:
        one.close()


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()


@pytest.fixture
def bundle(shop: Shop, fitted: Callable[[int], Fitted]) -> str:
    """The shop's candidate, of which nothing is assigned yet."""
    return candidate(shop, fitted)
