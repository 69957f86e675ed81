from metaflow import FlowSpec, Parameter, step


class Fan(FlowSpec):
    n = Parameter("n", type=int)

    @step
    def start(self):
        self.items = list(range(self.n))
        self.next(self.work, foreach="items")

    @step
    def work(self):
        self.result = self.input * self.input
        self.next(self.join)

    @step
    def join(self, inputs):
        self.total = sum(each.result for each in inputs)
        self.next(self.end)

    @step
    def end(self):
        print("RESULT", self.total)


if __name__ == "__main__":
    Fan()
