"""What the stock client of MLflow's does, timed in its own process: ``python client.py URI EXPERIMENT part…``, one JSON
line with a value for each part. The same calls whoever answers them.
"""

import http.client
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

FILTER, ORDER = "metrics.m3 > 500 and params.p1 = 'v1'", "metrics.m5 DESC"
CALLS, BATCHES, CREATED, SEARCHES, PRESENT = 300, 20, 30, 11, 2000


def log(client: MlflowClient, experiment: str) -> float:
    """``log_metric`` calls in a second, one after another on one connection."""
    run = client.create_run(experiment).info.run_id
    for step in range(20):
        client.log_metric(run, "warm", 1.0, step=step)
    began = time.perf_counter()
    for step in range(CALLS):
        client.log_metric(run, "loss", step / 7, step=step)
    return CALLS / (time.perf_counter() - began)


def batch(client: MlflowClient, experiment: str) -> float:
    """Metrics in a second by ``log_batch`` of 1,000: twenty names, fifty steps of each."""
    run = client.create_run(experiment).info.run_id
    client.log_batch(run, [Metric("warm", 1.0, 1, 0)])
    now = int(time.time() * 1000)
    made = [
        [Metric(f"m{name}", step / 7 + number, now, number * 50 + step) for name in range(20) for step in range(50)]
        for number in range(BATCHES)
    ]
    began = time.perf_counter()
    for metrics in made:
        client.log_batch(run, metrics)
    return BATCHES * 1000 / (time.perf_counter() - began)


def create(client: MlflowClient, experiment: str) -> float:
    """Runs in a second, each begun, given 10 parameters and 20 metrics, and ended."""
    began = time.perf_counter()
    for number in range(CREATED):
        _whole(client, experiment, number)
    return CREATED / (time.perf_counter() - began)


def search(client: MlflowClient, experiment: str) -> float:
    """Milliseconds of a search with filter and order that finds 100 of 2,000 runs."""
    del experiment
    many = client.get_experiment_by_name("many").experiment_id
    taken = []
    for _ in range(SEARCHES):
        began = time.perf_counter()
        found = client.search_runs([many], FILTER, 1, 100, [ORDER])
        taken.append((time.perf_counter() - began) * 1000)
        if len(found) != 100 or len(found[0].data.metrics) != 20:
            raise SystemExit(f"found {len(found)} runs")
    return statistics.median(taken)


def batch_wire(client: MlflowClient, experiment: str) -> float:
    """The same batches as ready bodies over plain HTTP: what the server takes, without what the client costs."""
    run = client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    bodies = [
        {
            "run_id": run,
            "metrics": [
                {"key": f"m{name}", "value": step / 7 + number, "timestamp": now, "step": number * 50 + step}
                for name in range(20)
                for step in range(50)
            ],
        }
        for number in range(BATCHES)
    ]
    ready = [json.dumps(body).encode() for body in bodies]
    connection = _connection()
    began = time.perf_counter()
    for body in ready:
        _post(connection, "log-batch", body)
    return BATCHES * 1000 / (time.perf_counter() - began)


def search_wire(client: MlflowClient, experiment: str) -> float:
    """The same search over plain HTTP, its answer read but not parsed."""
    del experiment
    many = client.get_experiment_by_name("many").experiment_id
    asked = {"experiment_ids": [many], "filter": FILTER, "max_results": 100, "order_by": [ORDER]}
    body, taken, connection = json.dumps(asked).encode(), [], _connection()
    for _ in range(SEARCHES):
        began = time.perf_counter()
        found = _post(connection, "search", body)
        taken.append((time.perf_counter() - began) * 1000)
    if len(json.loads(found)["runs"]) != 100:
        raise SystemExit("it did not find 100 runs")
    return statistics.median(taken)


def _connection() -> http.client.HTTPConnection:
    parts = urlsplit(sys.argv[1])
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)


def _post(connection: http.client.HTTPConnection, what: str, body: bytes) -> bytes:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    connection.request("POST", f"/api/2.0/mlflow/runs/{what}", body, headers)
    answer = connection.getresponse()
    said = answer.read()
    if answer.status != 200:
        raise SystemExit(f"{what} answered {answer.status}: {said[:200]!r}")
    return said


def fill(client: MlflowClient, experiment: str) -> float:
    """The runs that ``search`` searches; gives how many."""
    del experiment
    many = client.create_experiment("many")
    for number in range(PRESENT):
        _whole(client, many, number)
    return PRESENT


def _whole(client: MlflowClient, experiment: str, number: int) -> None:
    run = client.create_run(experiment).info.run_id
    now = int(time.time() * 1000)
    metrics = [Metric(f"m{name}", float((number * 37 + name) % 2003), now, 0) for name in range(20)]
    params = [Param(f"p{name}", f"v{number % (name + 2)}") for name in range(10)]
    client.log_batch(run, metrics, params)
    client.set_terminated(run)


PARTS: dict[str, Callable[[MlflowClient, str], float]] = {
    "log": log,
    "batch": batch,
    "create": create,
    "search": search,
    "batch-wire": batch_wire,
    "search-wire": search_wire,
    "fill": fill,
}


if __name__ == "__main__":
    uri, name, *parts = sys.argv[1:]
    stock = MlflowClient(tracking_uri=uri)
    known = stock.get_experiment_by_name(name)
    number = known.experiment_id if known else stock.create_experiment(name)
    print(json.dumps({part: PARTS[part](stock, number) for part in parts}))
