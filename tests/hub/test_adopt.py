"""`sampan endpoint adopt`: a model's file, or a live service, is served from a workspace that has nothing else."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest

from tests.hub.conftest import Hub, sampan
from tests.rollout_plan import BETTER, plan

FEATURES = ["orders", "recency", "spend"]
RECORD = {"orders": 1.0, "recency": 0.5, "spend": -1.0}


class Service(ThreadingHTTPServer):
    """A prediction service as a team may have it already; it is slow, refuses or says nonsense where it is told to."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.asked: list[Any] = []
        self.tokens: list[str | None] = []
        self.say: Callable[[Any], Any] = lambda body: {
            "predictions": [{"score": float(one.get("orders", 0) > 0)} for one in body["records"]]
        }
        self.status = 200
        self.sleep = 0.0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.address}/score"

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Service

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        self.server.tokens.append(self.headers.get("authorization"))
        time.sleep(self.server.sleep)
        said = self.server.say(body)
        data = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    made.close()


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that somebody else has trained: LightGBM's text, twice, and scikit-learn's by skops."""
    import skops.io
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("theirs")
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=FEATURES)
    again = frame["orders"] + rng.normal(size=300) > 0
    for name, trees in (("old.txt", 5), ("new.txt", 9)):
        lgb.LGBMClassifier(n_estimators=trees, verbose=-1, n_jobs=1).fit(frame, again).booster_.save_model(
            str(folder / name)
        )
    skops.io.dump(LogisticRegression().fit(frame, again), folder / "line.skops")
    return folder


@pytest.fixture
def folder(tmp_path: Path, service: Service) -> Path:
    """An empty workspace, but that its settings let it call the service."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "sampan.toml").write_text(f'[settings]\nprivate_services = "{service.address}"\n')
    return tmp_path / "shop"


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:
    made = Hub(folder, SAMPAN_ROLLOUT_EVERY="1", DOOR="secret")
    yield made
    made.stop()


def adopt(folder: Path, *words: str) -> Any:
    done = sampan(folder, "endpoint", "adopt", *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ask(hub: Hub, *records: dict[str, Any]) -> tuple[int, Any]:
    status, body = hub.predict("live", json.dumps({"records": list(records)}).encode(), patience=1.0)
    return status, json.loads(body)


@pytest.mark.slow
def test_a_file_is_served_as_it_is_with_no_run_behind_it(hub: Hub, files: Path) -> None:
    theirs = lgb.Booster(model_file=files / "old.txt")
    made = adopt(hub.folder, "live", str(files / "old.txt"))
    assert (made["version"], made["adopted"]["inputs"]) == ("live@1", dict.fromkeys(FEATURES, "number"))
    status, answer = ask(hub, RECORD)
    assert status == 200 and answer["predictions"][0]["prediction"] == theirs.predict([list(RECORD.values())])[0]
    page = hub.json("/models/live/1")
    assert (page["adopted"], page["run"], page["origin"]) == ("old.txt", None, None)
    assert (hub.folder / ".sampan" / "blobs").joinpath(
        page["files"]["model.txt"][:2], page["files"]["model.txt"][2:]
    ).read_bytes() == (files / "old.txt").read_bytes()
    for path in ("/models/live/1", "/endpoints/live"):
        text = hub.ask("GET", path, accept="text/html")[1].decode()
        assert "old.txt" in text and "no run" in text.lower()
    text = hub.ask("GET", "/endpoints/live", accept="text/html")[1].decode()
    assert "Newest predictions" in text and "Newest decisions" not in text
    said = sampan(hub.folder, "model", "show", "live@1").stdout
    assert "old.txt by" in said and "no run made it" in said


def test_a_service_answers_and_each_prediction_is_an_event(hub: Hub, service: Service) -> None:
    service.sleep = 0.01
    words = ("--form", "predict", "--kind", "binary", "--read", "score", "--token-env", "DOOR")
    made = adopt(hub.folder, "live", service.url, *words, "--example", '{"orders": 2, "land": "de"}')
    assert made["adopted"]["example"] == 1.0
    asked = len(service.asked)
    status, answer = ask(hub, {"orders": 2, "land": "de"}, {"orders": -2, "land": "fr"})
    assert status == 200 and [one["prediction"] for one in answer["predictions"]] == [1.0, 0.0]
    assert service.asked[asked:] == [{"records": [{"orders": 2, "land": "de"}, {"orders": -2, "land": "fr"}]}]
    assert service.tokens[-1] == "Bearer secret"
    lines = hub.json("/predictions")["predictions"]
    assert {(one["version"], one["prediction"]) for one in lines} == {("live@1", 1.0), ("live@1", 0.0)}
    many = [threading.Thread(target=ask, args=(hub, {"orders": n})) for n in range(30)]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert len(hub.json("/predictions?endpoint=live")["predictions"]) == 32


@pytest.mark.slow
def test_a_silent_service_is_a_503_or_the_declared_fallback(hub: Hub, service: Service) -> None:
    words = ("--form", "predict", "--kind", "binary", "--read", "score", "--timeout", "300")
    adopt(hub.folder, "live", service.url, *words)
    assert ask(hub, {"orders": 1})[0] == 200
    for spoil, said in (
        ({"sleep": 1.0}, "no answer within 300 ms|no whole answer"),
        ({"status": 500}, "it answered 500"),
        ({"say": lambda body: b"<html>"}, "not JSON"),
        ({"say": lambda body: {"predictions": []}}, "0 predictions for 1 records"),
        ({"say": lambda body: {"predictions": [{"score": 7}]}}, "7 is no probability"),
        ({"say": lambda body: {"predictions": [{"other": 0.5}]}}, "no field 'score'"),
    ):
        kept = {name: getattr(service, name) for name in spoil}
        for name, value in spoil.items():
            setattr(service, name, value)
        status, answer = ask(hub, {"orders": 1})
        assert status == 503 and any(part in answer["error"]["obstacle"] for part in said.split("|")), answer
        for name, value in kept.items():
            setattr(service, name, value)
    service.status, service.say = 422, lambda body: b"orders: too many"
    status, answer = ask(hub, {"orders": 1})
    assert status == 400 and "orders: too many" in answer["error"]["obstacle"]
    service.status = 500
    adopt(hub.folder, "live", service.url, *words, "--fallback", "0.25")
    status, answer = ask(hub, {"orders": 1})
    (one,) = answer["predictions"]
    assert (status, one["prediction"], one["fallback"]) == (200, 0.25, "it answered 500")
    event = sampan(hub.folder, "sql", "SELECT prediction, fallback, error FROM prediction ORDER BY _time DESC LIMIT 1")
    assert "0.25" in event.stdout and "it answered 500" in event.stdout


@pytest.mark.slow
def test_what_cannot_be_adopted_is_said_in_one_message(folder: Path, files: Path, service: Service) -> None:
    kinds = ("--form", "predict", "--kind", "binary")
    (folder / "m.skops").write_bytes(b"\x80\x04\x95hello")
    (folder / "m.onnx").write_bytes(b"hello")
    (folder / "m.txt").write_bytes(b"tree\nversion=v4\n")
    (folder / "m.bin").write_bytes(b"hello")
    (folder / "m.pkl").write_bytes(b"")
    free = Service()
    free.close()
    for words, code, said in (
        ((str(folder / "m.skops"),), 1, "it is a pickle"),
        ((str(folder / "m.pkl"),), 1, "it is a pickle"),
        ((str(folder / "m.onnx"),), 2, "not an ONNX model"),
        ((str(folder / "m.txt"),), 2, "no LightGBM model"),
        ((str(folder / "m.bin"),), 2, "tells no format"),
        ((str(files / "old.txt"), "--format", "onnx"), 2, "not an ONNX model"),
        ((str(files / "old.txt"), "--features", "a,b,c"), 2, "which is not among the features listed"),
        ((str(files / "old.txt"), "--kind", "multiclass"), 2, "its objective is 'binary'"),
        ((str(files / "none.txt"),), 2, "cannot be read"),
        ((service.url,), 2, "how it is called is not said"),
        ((service.url, "--form", "predict"), 2, "nobody can see what it predicts"),
        ((service.url, *kinds, "--fallback", "2"), 2, "the fallback is no answer: 2 is no probability"),
        ((service.url, *kinds, "--timeout", "20000"), 2, "predict_timeout"),
        ((service.url, *kinds, "--example", '{"orders": 1}', "--read", "x"), 3, "no field 'x'"),
        ((free.url, *kinds), 1, "is not a public one"),
        (("http://169.254.169.254/latest", *kinds), 1, "is not a public one"),
        ((service.url.replace("http://", "http://me:secret@"), *kinds), 2, "a name or a password"),
    ):
        done = sampan(folder, "endpoint", "adopt", "live", *words)
        assert (done.returncode, "Traceback" in done.stderr) == (code, False), (words, done.stderr)
        assert said in done.stderr, (words, done.stderr)
    (folder / "sampan.toml").write_text(f'[settings]\nprivate_services = "{free.address}"\n')
    done = sampan(folder, "endpoint", "adopt", "live", free.url, *kinds)
    assert done.returncode == 3 and "refused" in done.stderr
    assert sampan(folder, "model", "list").stdout.startswith("No model yet")


def test_only_an_administrator_has_the_hub_adopt(hub: Hub, service: Service) -> None:
    body = json.dumps({"source": service.url, "form": "predict", "kind": "binary"}).encode()
    made = hub.ask("POST", "/v1/tokens", b'{"name": "op", "role": "operator"}', content_type="application/json")[1]
    given = {"authorization": f"Bearer {json.loads(made)['secret']}", "content_type": "application/json"}
    assert hub.ask("POST", "/v1/endpoints/live/adopt", body, **given)[0].status == 403
    assert service.asked == [] and hub.json("/endpoints")["endpoints"] == []


PLAN = plan("live", (0, "1 second"), (0.5, "1 second"), query=BETTER, top="units = 30")


@pytest.mark.slow
@pytest.mark.parametrize("champion", ["service", "file"])
def test_a_candidate_shadows_and_takes_over_from_what_was_adopted(
    hub: Hub, files: Path, service: Service, champion: str
) -> None:
    words = ("--form", "predict", "--kind", "binary", "--read", "score", "--features", ",".join(FEATURES))
    first = (service.url, *words) if champion == "service" else (str(files / "old.txt"),)
    adopt(hub.folder, "live", *first)
    new = adopt(hub.folder, "live", str(files / "new.txt"), "--register-only")["adopted"]["ref"]
    (hub.folder / "rollouts.toml").write_text(PLAN)
    begun = sampan(hub.folder, "rollout", "start", "live", "--model", new, "--reason", "ours is better")
    assert begun.returncode == 0, begun.stderr
    rng, end, versions = np.random.default_rng(1), time.monotonic() + 90, set()
    while (page := hub.json("/rollouts"))["rollouts"][0]["phase"] not in ("full", "done"):
        assert time.monotonic() < end, page["rollouts"][0]["why"]
        status, answer = ask(hub, *[dict(zip(FEATURES, rng.normal(size=3), strict=True)) for _ in range(5)])
        assert status == 200, answer
        versions |= {one["version"] for one in answer["predictions"]}
    assert {"live@1", new} <= versions
    end = time.monotonic() + 30  # it is written down first and done after
    while hub.json("/endpoints/live")["endpoint"]["version"] != new:
        assert time.monotonic() < end
        time.sleep(0.1)
    shadows = sampan(hub.folder, "sql", "SELECT count(*) > 0 AS some FROM shadow WHERE error = ''")
    assert "true" in shadows.stdout or "yes" in shadows.stdout, shadows.stdout


@pytest.mark.slow
def test_a_candidate_whose_rules_the_champion_lacks_is_refused_before_it_begins_and_may_leave_them_out(
    hub: Hub, files: Path
) -> None:
    adopt(hub.folder, "live", str(files / "old.txt"))
    new = adopt(hub.folder, "live", str(files / "new.txt"), "--register-only")["adopted"]["ref"]
    (hub.folder / "rollouts.toml").write_text(PLAN)
    (hub.folder / "decisions.py").write_text(
        "from sampan import Action, decision\n\n\n@decision(model='live', entity='customer')\n"
        "def act(prediction, record):\n    return Action('go', rule='always')\n"
    )
    start = ("rollout", "start", "live", "--model", new, "--reason", "newer")
    refused = sampan(hub.folder, *start)
    assert refused.returncode == 2 and "--decision none" in refused.stderr, (refused.stdout, refused.stderr)
    assert hub.json("/rollouts")["rollouts"] == []
    begun = sampan(hub.folder, *start, "--decision", "none")
    assert begun.returncode == 0, begun.stderr
    assert hub.json("/rollouts")["rollouts"][0]["phase"] == "running"
