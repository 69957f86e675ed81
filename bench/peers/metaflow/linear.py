from pathlib import Path

import marks
import rules
from metaflow import FlowSpec, step


class Linear(FlowSpec):
    @step
    def start(self):
        marks.mark("a")
        self.value = int(Path("input.txt").read_text())
        self.next(self.b)

    @step
    def b(self):
        marks.mark("b")
        self.value += 1
        self.next(self.c)

    @step
    def c(self):
        marks.mark("c")
        self.value = rules.adjust(self.value) + 1  # STEP
        self.next(self.d)

    @step
    def d(self):
        marks.mark("d")
        self.value += 1
        self.next(self.end)

    @step
    def end(self):
        marks.mark("e")
        print("RESULT", self.value)


if __name__ == "__main__":
    Linear()
