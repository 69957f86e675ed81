"""The model, and how it is judged. Tables are in ``tables/``; the rules around the model in ``decisions.py``."""

from datetime import timedelta

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sampan import Fitted, model, step
from scoring import auc, brier

# Not features: who and when, and what nobody knew at the time of the order.
NOT_FEATURES = {"order_id", "customer_id", "ordered_at", "label_known_at", "returned"}


def feature_names(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in NOT_FEATURES]


def matrix(table: pa.Table, names: list[str]) -> np.ndarray:
    """The named columns as floats; what is missing becomes NaN, which LightGBM takes as such."""
    return np.column_stack([table[name].cast(pa.float64()).to_numpy() for name in names])


def fit(table: pa.Table, trees: int, learning_rate: float) -> lightgbm.Booster:
    """The same rows give the same trees: sorted rows, a fixed seed, LightGBM's deterministic mode."""
    table = table.sort_by("order_id")
    names = feature_names(table)
    data = lightgbm.Dataset(matrix(table, names), truth(table).astype(float), feature_name=names)
    options = {
        "objective": "binary",
        "learning_rate": learning_rate,
        "num_leaves": 15,
        "seed": 7,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 2,
        "verbose": -1,
    }
    return lightgbm.train(options, data, trees)


def truth(table: pa.Table) -> np.ndarray:
    return table["returned"].to_numpy().astype(bool)


@model(kind="binary", target="returned")
def reorder(training_set: pa.Table, trees: int = 100, learning_rate: float = 0.05) -> Fitted:
    """Will the customer order again within 30 days? Fitted on every order whose answer is known by now."""
    names = feature_names(training_set)
    return Fitted(
        fit(training_set, trees, learning_rate),
        features=names,
        metrics={"orders": training_set.num_rows, "base_rate": float(truth(training_set).mean())},
        sample=training_set.select(names),
    )


@step
def evaluation(training_set: pa.Table, days: int = 120, trees: int = 100, learning_rate: float = 0.05) -> pa.Table:
    """AUC and Brier score of each month under a model that was fitted once, before, and then left alone.

    It learns from the labels known in the first ``days`` days (of a shorter log: until 60 days before its end, so
    that a month is left to judge) and is judged on the orders placed after that.
    """
    placed, known = training_set["ordered_at"], training_set["label_known_at"]
    cut = min(pc.min(placed).as_py() + timedelta(days=days), pc.max(known).as_py() - timedelta(days=60))
    booster = fit(training_set.filter(pc.less_equal(known, cut)), trees, learning_rate)
    later = training_set.filter(pc.greater(placed, cut)).sort_by("order_id")
    score = np.asarray(booster.predict(matrix(later, feature_names(later)), num_threads=2))
    months = np.array(pc.strftime(later["ordered_at"], "%Y-%m").to_pylist())
    rows = [("all", slice(None)), *((str(month), months == month) for month in np.unique(months))]
    return pa.Table.from_pylist(
        [
            {
                "month": month,
                "orders": len(truth(later)[chosen]),
                "base_rate": float(truth(later)[chosen].mean()),
                "auc": auc(truth(later)[chosen], score[chosen]),
                "brier": brier(truth(later)[chosen], score[chosen]),
            }
            for month, chosen in rows
        ]
    )
