"""BentoML: a service with one worker, as its tutorial has it."""

import os

import bentoml
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 60})
class Scored:
    def __init__(self):
        if os.environ["FORM"] == "onnx":
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
            name, probabilities = session.get_inputs()[0].name, session.get_outputs()[1].name
            self.answer = lambda rows: session.run([probabilities], {name: rows.astype(np.float32)})[0]
        else:
            import joblib

            self.answer = joblib.load("model.joblib").predict_proba

    @bentoml.api
    def predict(self, inputs: list[list[float]]) -> list[list[float]]:
        return self.answer(np.asarray(inputs)).tolist()
