import pandas as pd

from sampan import step


@step
def made(rows: int = 10) -> pd.DataFrame:
    import numpy as np

    return pd.DataFrame(np.random.default_rng(0).random((rows, 10)), columns=list("abcdefghij"))


@step
def used(made: pd.DataFrame) -> float:
    return float(made.a.sum())
