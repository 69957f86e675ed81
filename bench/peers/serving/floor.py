"""As little as can answer: a bare ASGI application, msgspec, the model. Nothing is checked.

Nothing is kept, unless KEPT names a file: then what was asked and answered is there, synced, before the answer leaves.
"""

import asyncio
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


waiting = []


async def keep(line):
    """Return when a line is durable; lines that come while the disk is busy share the next sync."""
    done = asyncio.get_running_loop().create_future()
    waiting.append((line, done))
    async with turn:
        if not done.done():
            group = waiting[:]
            waiting.clear()
            await asyncio.to_thread(write, b"".join(line for line, _ in group))
            for _, each in group:
                each.set_result(None)


def write(lines):
    os.write(kept, lines)
    os.fdatasync(kept)


kept = os.open(os.environ["KEPT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if "KEPT" in os.environ else None
turn = asyncio.Lock()


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = encode({"predictions": predict(decode(body).inputs).tolist()})
    if kept is not None:
        await keep(body + answer + b"\n")
    await send(START)
    await send({"type": "http.response.body", "body": answer})
