"""`sampan bundle export`: a folder that answers by itself, as its endpoint does, and as managed platforms ask."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest

from tests.hub.conftest import Hub, environment, sampan
from tests.hub.container import buildah

FEATURES = ["orders", "recency", "spend"]
RULES = """
from words import LIKELY
from sampan import Action, decision

@decision(model="churn", entity="customer", default="wait")
def call(prediction, context, likely: float = 0.5):
    return Action("call", rule=LIKELY) if prediction >= likely else Action("wait", rule=str(1 / context["days"]))
"""
ROWS = {"dataframe_records": [
    {"customer": "ann", "orders": 2.0, "recency": 0.1, "spend": 1.0},
    {"customer": "bob", "orders": -2.0, "recency": 0.1, "spend": 1.0, "days": 4},
]}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose one endpoint serves an adopted model behind rules."""
    folder = tmp_path_factory.mktemp("export") / "shop"
    folder.mkdir()
    (folder / "sampan.toml").write_text("")
    (folder / "decisions.py").write_text(RULES)
    (folder / "words.py").write_text('LIKELY = "likely to leave"\n')
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(300, 3)), columns=FEATURES)
    made = lgb.LGBMClassifier(n_estimators=9, verbose=-1, n_jobs=1).fit(frame, frame["orders"] > 0)
    made.booster_.save_model(str(folder.parent / "theirs.txt"))
    done = sampan(folder, "endpoint", "adopt", "churn", str(folder.parent / "theirs.txt"))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def out(shop: Path, tmp_path: Path) -> Path:
    done = sampan(shop, "bundle", "export", str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == "churn@1"
    return tmp_path / "out"


@contextmanager
def served(out: Path, python: str = sys.executable, **extra: str) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """The folder's own server, started as a container would, away from the folder; stopped at the end."""
    port = free_port()
    given = environment(HOST="127.0.0.1", PORT=str(port), **extra)
    command = [python, "-B", str(out / "serve.py"), "serve"]  # as one platform calls it
    process = subprocess.Popen(
        command, cwd="/", env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        await_answer(port, process)
        yield port, process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def await_answer(port: int, process: "subprocess.Popen[str]") -> None:
    """Until it answers, has ended, or a minute has passed."""
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        try:
            if ask(port, "GET", "/ping")[0] == 200:
                break
        except OSError:
            time.sleep(0.05)


def ask(port: int, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.read(), response.headers.get("content-type", "")
    finally:
        connection.close()


def invoke(port: int, body: Any) -> Any:
    status, said, _ = ask(port, "POST", "/invocations", json.dumps(body).encode(), content_type="application/json")
    assert status == 200, said
    return json.loads(said)


def same(answer: Any) -> Any:
    """An answer without what is another one each time."""
    return [answer["predictions"], [{**one, "id": ""} for one in answer["decisions"]]]


@pytest.mark.slow
def test_the_folder_answers_as_the_endpoint_does(shop: Path, out: Path) -> None:
    hub = Hub(shop)
    try:
        assert hub.predict("churn", json.dumps(ROWS["dataframe_records"]).encode())[0] == 200
        theirs = json.loads(
            hub.ask("POST", "/invocations/churn", json.dumps(ROWS).encode(), content_type="application/json")[1]
        )
    finally:
        hub.stop()
    with served(out) as (port, _):
        assert same(invoke(port, ROWS)) == same(theirs)
        assert [one["rule"] for one in theirs["decisions"]] == ["likely to leave", "0.25"]
        pinged = json.loads(ask(port, "GET", "/ping")[1])
        assert (pinged["version"], len(pinged["bundle"])) == ("churn@1", 64)
        rows = b"customer,orders,recency,spend\nann,2,0.1,1\n"
        status, said, kind = ask(port, "POST", "/invocations", rows, content_type="text/csv", accept="text/csv")
        assert (status, kind) == (200, "text/csv") and float(said) == theirs["predictions"][0]


def test_bad_requests_get_one_message_and_the_next_one_an_answer(out: Path) -> None:
    with served(out) as (port, _):
        for body, status, said in (
            (b"{", 400, "not JSON"),
            (b'{"dataframe_records": [{"customer": "a", "orders": "many"}]}', 400, "'orders'"),
            (b'{"dataframe_records": [{"customer": "a"}]}', 400, "is missing"),
            (b"x" * ((16 << 20) + 1), 413, "more than"),
        ):
            got, answer, _ = ask(port, "POST", "/invocations", body, content_type="application/json")
            assert got == status and said in json.loads(answer)["message"], answer
        assert ask(port, "GET", "/invocations")[0] == 405 and ask(port, "GET", "/admin")[0] == 404
        assert len(invoke(port, ROWS)["predictions"]) == 2


def test_events_go_to_standard_output_if_that_is_asked_for(out: Path) -> None:
    with served(out, SAMPAN_EVENTS="stdout") as (port, process):
        invoke(port, ROWS)
        assert process.stdout is not None
        told = [json.loads(process.stdout.readline()) for _ in range(2)]
    assert [(one["type"], one["subject"], one["data"]["action"]) for one in told] == [
        ("prediction", "ann", "call"),
        ("prediction", "bob", "wait"),
    ]


def test_the_folder_says_itself_how_it_is_asked(out: Path) -> None:
    told = (out / "README.md").read_text()
    assert "churn@1" in told and "docker build -t churn ." in told
    found = re.search(r"-d '(.*)'$", told, re.MULTILINE)
    assert found is not None
    (record,) = json.loads(found[1])["dataframe_records"]
    assert set(FEATURES) <= set(record) and record["orders"] == 0.0
    with served(out) as (port, _):
        status, said, _ = ask(port, "POST", "/invocations", found[1].encode(), content_type="application/json")
    assert status in (200, 500), said  # what a rule makes of zeros is its own affair


def test_a_changed_byte_is_noticed_and_named(out: Path) -> None:
    for path, said in (("rules/words.py", "words.py"), ("model/model.txt", "model.txt")):
        data = (out / path).read_bytes()
        (out / path).write_bytes(data.replace(b"e", b"f", 1))
        with served(out) as (_, process):
            assert process.wait(30) == 3
            assert process.stderr is not None and said in (told := process.stderr.read())
            assert "is not as it was exported" in told and "Traceback" not in told
        (out / path).write_bytes(data)


def test_what_is_written_names_no_host_and_no_folder_of_this_machine(shop: Path, out: Path) -> None:
    lines = (out / "requirements.lock").read_text().splitlines()
    assert "lightgbm" in {line.partition("==")[0] for line in lines}
    assert all(re.fullmatch(r"[\w.-]+==[\w.+!-]+", line) for line in lines), lines
    assert not {"pytest", "mypy", "litestar", "duckdb"} & {line.partition("==")[0].lower() for line in lines}
    written = "".join((out / name).read_text() for name in ("Dockerfile", "README.md", "bundle.json", "serve.py"))
    for odd in (str(shop), str(shop.parent), str(Path.home()), "://", socket.gethostname()):
        assert odd not in written, odd
    assert {path.name for path in out.iterdir()} == {
        *("Dockerfile", "README.md", "bundle.json", "lib", "model", "requirements.lock", "rules", "serve.py")
    }


def test_what_cannot_be_exported_is_said_and_nothing_is_left(shop: Path, out: Path, tmp_path: Path) -> None:
    for words, code, said in (
        ((str(out),), 1, "not empty"),
        ((str(tmp_path / "new"), "nowhere"), 1, "there is none of that name"),
    ):
        done = sampan(shop, "bundle", "export", *words)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    (empty := tmp_path / "empty").mkdir()
    (empty / "sampan.toml").write_text("")
    done = sampan(empty, "bundle", "export", str(tmp_path / "new"))
    assert done.returncode == 1 and "there is no endpoint" in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_it_answers_in_a_fresh_environment_that_has_its_lock_alone(out: Path, tmp_path: Path) -> None:
    uv = shutil.which("uv")
    assert uv is not None
    venv = tmp_path / "venv"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(venv)], check=True, env=environment())
    install = [uv, "pip", "install", "-q", "--no-deps", "--python", str(venv / "bin" / "python"), "-r"]
    subprocess.run([*install, str(out / "requirements.lock")], check=True, env=environment())
    with served(out, str(venv / "bin" / "python")) as (port, process):
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert [one["action"] for one in invoke(port, ROWS)["decisions"]] == ["call", "wait"]


@pytest.mark.slow
def test_its_container_is_built_and_answers_as_the_folder_does(out: Path, tmp_path: Path) -> None:
    with served(out) as (port, _):
        expected = same(invoke(port, ROWS))
    for path in out.rglob("*"):  # as a umask of 077 leaves it: who builds it may read it, and nobody else
        path.chmod(0o700 if path.is_dir() else 0o600)
    build, port = buildah(tmp_path), free_port()
    build("bud", "--pull=never", "-t", "churn", ".", cwd=out)
    with build.running("churn", HOST="127.0.0.1", PORT=str(port)) as process:
        await_answer(port, process)
        assert process.poll() is None, process.communicate()
        assert same(invoke(port, ROWS)) == expected
