"""A tracking server that keeps nothing: ``python silent.py PORT`` answers each call with the same ready bytes. What the
stock client takes against it is what no server can take away.
"""

import asyncio
import json
import sys

RUN = {
    "info": {
        "run_id": "0" * 32,
        "run_uuid": "0" * 32,
        "run_name": "silent",
        "experiment_id": "0",
        "user_id": "",
        "status": "RUNNING",
        "start_time": 0,
        "artifact_uri": "mlflow-artifacts:/0",
        "lifecycle_stage": "active",
    },
    "data": {},
}
EXPERIMENT = {"experiment": {"experiment_id": "0", "name": "Default", "lifecycle_stage": "active"}}
ANSWERS = {
    b"runs/create": {"run": RUN},
    b"runs/get": {"run": RUN},
    b"runs/update": {"run_info": RUN["info"]},
    b"runs/log-batch": {},
    b"experiments/get-by-name": EXPERIMENT,
}
READY = {
    path: b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    for path, body in ((path, json.dumps(answer).encode()) for path, answer in ANSWERS.items())
}


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the client hangs up."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.partition(b":")[2]))
            path = head.split(b" ", 2)[1].partition(b"?")[0]
            writer.write(next(ready for end, ready in READY.items() if path.endswith(end)))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", int(sys.argv[1]))
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
