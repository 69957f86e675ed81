"""No engine at all: what the steps themselves cost."""

import sys


def made(rows):
    import numpy as np
    import pandas as pd

    return pd.DataFrame(np.random.default_rng(0).random((rows, 10)), columns=list("abcdefghij"))


def used(made):
    return float(made.a.sum())


print("RESULT", used(made(int(sys.argv[2]))))
