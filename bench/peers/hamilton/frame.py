import numpy as np
import pandas as pd


def made(rows: int) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).random((rows, 10)), columns=list("abcdefghij"))


def used(made: pd.DataFrame) -> float:
    return float(made.a.sum())
