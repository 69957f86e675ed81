from metaflow import FlowSpec, Parameter, step


class Frame(FlowSpec):
    rows = Parameter("rows", type=int)

    @step
    def start(self):
        import numpy as np
        import pandas as pd

        self.made = pd.DataFrame(np.random.default_rng(0).random((self.rows, 10)), columns=list("abcdefghij"))
        self.next(self.end)

    @step
    def end(self):
        print("RESULT", float(self.made.a.sum()))


if __name__ == "__main__":
    Frame()
