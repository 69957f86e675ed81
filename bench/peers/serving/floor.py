"""As little as can answer: a bare ASGI application, msgspec, the model. Nothing is checked, nothing is kept."""

import os

import msgspec
import numpy as np

if os.environ["FORM"] == "onnx":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession("model.onnx", options, providers=["CPUExecutionProvider"])
    name, probabilities = session.get_inputs()[0].name, session.get_outputs()[1].name

    def predict(rows):
        return session.run([probabilities], {name: np.asarray(rows, np.float32)})[0]

else:
    import joblib

    model = joblib.load("model.joblib")

    def predict(rows):
        return model.predict_proba(np.asarray(rows))


class Asked(msgspec.Struct):
    inputs: list[list[float]]


decode, encode = msgspec.json.Decoder(Asked).decode, msgspec.json.Encoder().encode
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = encode({"predictions": predict(decode(body).inputs).tolist()})
    await send(START)
    await send({"type": "http.response.body", "body": answer})
