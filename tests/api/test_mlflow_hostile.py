"""What no client of MLflow's sends by itself: each is refused in the protocol's words, and nothing has changed."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.api.test_mlflow import API, ARTIFACTS, ask
from tests.api.test_uploads import kept, new_run
from tests.hub.conftest import Hub, make_workspace
from tests.hub.test_pages import read

from sampan.api.mlflow_messages import MESSAGES
from sampan.api.policies import POLICIES
from sampan.track.limits import BATCH_BYTES

BODIES = {
    "no JSON": b"{run_id: 1}",
    "cut off": b'{"run_id": "',
    "no text": b"\xff\xfe{\x00}\x00",
    "a list": b"[]",
    "a number": b"7",
    "deep lists": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"run_id":' * 50_000 + b"1" + b"}" * 50_000,
    "deep in a field": b'{"run_id": "r", "more": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "half a surrogate": b'{"run_id": "\\ud800", "key": "k", "value": "v", "experiment_id": "0", "name": "\\ud800"}',
}
#: Each leads somewhere else, in some way of writing that somebody has read as a path.
ELSEWHERE = [
    b"..",
    b"%2e%2e",
    b"..%00",
    b"../../../../etc/passwd",
    b"..%2f..%2f..%2fetc%2fpasswd",
    b"%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    b"%252e%252e%252f%252e%252e%252fetc%252fpasswd",
    b"%25252e%25252e%25252fetc",
    b"/etc/passwd",
    b"//etc/passwd",
    b"%2fetc%2fpasswd",
    b"%2f%2fetc%2fpasswd",
    b"..\\..\\windows\\win.ini",
    b"..%5c..%5cwindows%5cwin.ini",
    b"..%255c..%255cwindows",
    b"....//....//etc/passwd",
    b"..././..././etc/passwd",
    b"....%5c%5c....%5c%5cetc",
    b"C:/windows/win.ini",
    b"C:%5cwindows%5cwin.ini",
    b"%63%3a%5cwindows",
    b"%5c%5chost%5cshare",
    b"a/../../b",
    b"a/./b",
    b"a/%2e%2e/b",
    b"./a",
    b"a%00.txt",
    b"%00",
    b"a%0a",
    b"a%7f",
    b"file:" + b"///etc/passwd",
    b"file:%2f%2f%2fetc%2fpasswd",
    b"http://127.0.0.1/x",
    b"http:%2f%2f127.0.0.1%2fx",
    b"a%23b",
    b"a%3fb%23c",
]
#: These only look like it: no file system reads them as a way out, and they are names like any other.
LOOK_ALIKE = [
    b"..%c0%af..%c0%afetc",
    b"%c0%ae%c0%ae/etc",
    b"..%e0%80%afetc",
    b"..%ef%bc%8f..%ef%bc%8fetc",
    b"%e2%80%a5/etc",
    b"%ef%bc%8e%ef%bc%8e/etc",
    b"..%e2%88%95..%e2%88%95etc",
    b"...",
    b"..;/a",
    b"~/a",
    b"$HOME/a",
    b"file:etc",
    b"%3cscript%3e.html",
    b"con",
    b"a.",
    b"%e2%80%aegnp.exe",
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    running = Hub(make_workspace(tmp_path_factory.mktemp("hostile") / "shop"))
    yield running
    assert running.stop() == 0
    assert not [file for file in (running.folder / ".sampan").rglob("*") if "report" in file.name and file.is_file()]


def raw(hub: Hub, method: str, path: bytes, body: bytes = b"") -> tuple[int, Any]:
    """A request with exactly this path, as no library would send it."""
    head = f" HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\nConnection: close\r\nAuthorization: Bearer {hub.token}\r\n"
    answer = hub.raw(method.encode() + b" " + path + head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    said = answer.partition(b"\r\n\r\n")[2]
    return int(answer[9:12]), json.loads(said) if said.startswith(b"{") else said


def state(hub: Hub) -> Any:
    """All that the hub has of experiments, runs and models."""
    body = {"experiment_ids": [str(number) for number in range(9)], "max_results": 1000, "run_view_type": "ALL"}
    runs = ask(hub, "POST", f"{API}/runs/search", body)[1]
    models = ask(hub, "GET", f"{API}/registered-models/search")[1]
    return runs, ask(hub, "POST", f"{API}/experiments/search", {"max_results": 100})[1], models


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_says_nothing_is_refused_and_changes_nothing(hub: Hub, name: str) -> None:
    new_run(hub)
    before = state(hub)
    for method, path in MESSAGES:
        if method in ("POST", "PATCH"):
            status, said = ask(hub, method, path.replace("{model_id}", "m-1"), BODIES[name])
            if name == "half a surrogate" and status == 404:
                continue  # it was read, and names nothing
            assert (status, said["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (path, said)
            assert said["message"], path
    assert state(hub) == before


def test_no_route_of_ours_breaks_on_what_is_nested_too_deeply(hub: Hub) -> None:
    before = state(hub)
    for method, path in POLICIES:
        if method in ("POST", "PUT", "PATCH") and path.startswith("/v1/"):
            for name in ("deep lists", "deep objects"):
                given = {"content_type": "application/json"}
                response, said = hub.ask(method, re.sub(r"{\w+}", "1", path), BODIES[name], **given)
                assert response.status < 500, (method, path, said)
    response, said = hub.ask("POST", "/v1/plan", BODIES["deep lists"], content_type="application/json")
    assert response.status == 400 and b"nested too deeply" in said
    assert state(hub) == before


def test_a_body_that_is_too_large_is_refused_and_changes_nothing(hub: Hub) -> None:
    run, _ = new_run(hub)
    before = state(hub)
    metrics = [{"key": "m", "value": 1, "timestamp": 1, "step": step} for step in range(1000)]
    batch = {"run_id": run, "metrics": metrics, "tags": [{"key": "t", "value": "x" * BATCH_BYTES}]}
    status, said = ask(hub, "POST", f"{API}/runs/log-batch", batch)
    assert (status, said["error_code"]) == (413, "INVALID_PARAMETER_VALUE")
    assert f"more than {BATCH_BYTES} bytes" in said["message"] and "smaller requests" in said["message"]
    status, said = ask(hub, "POST", f"{API}/runs/set-tag", {"run_id": run, "key": "t", "value": "x" * 17_000_000})
    assert (status, said["error_code"]) == (413, "INVALID_PARAMETER_VALUE")
    assert state(hub) == before


@pytest.mark.parametrize("path", ELSEWHERE)
def test_no_artifact_is_put_elsewhere_or_read_from_there(hub: Hub, path: bytes) -> None:
    run, root = new_run(hub)
    before = kept(hub)
    for method in ("PUT", "GET", "DELETE"):
        status, said = raw(hub, method, f"{root}/".encode() + path, b"x" if method == "PUT" else b"")
        assert (status, said["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (method, said)
        assert "Invalid path" in said["message"]
    status, said = raw(hub, "GET", f"{API}/artifacts/list?run_id={run}&path=".encode() + path.replace(b"#", b"%23"))
    assert (status, said["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), said
    create = root.replace("/artifacts/0/", "/mpu/create/0/").encode()
    status, said = raw(hub, "POST", create + b"/" + path, b'{"path": "a", "num_parts": 1}')
    assert (status, said["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), said
    assert ask(hub, "GET", f"{API}/artifacts/list?run_id={run}")[1]["files"] == []
    assert kept(hub) == before


@pytest.mark.parametrize("path", LOOK_ALIKE)
def test_a_name_that_only_looks_like_a_way_out_is_a_name(hub: Hub, path: bytes) -> None:
    run, root = new_run(hub)
    address = f"{root}/".encode() + path
    status, said = raw(hub, "PUT", address, b"kept " + path)
    assert status == 200, said
    assert raw(hub, "GET", address) == (200, b"kept " + path)
    places = [file.name for file in kept(hub)]
    digest = hashlib.sha256(b"kept " + path).hexdigest()
    assert digest[2:] in places
    assert all(set(name) <= set("0123456789abcdef") for name in places)
    assert ask(hub, "GET", f"{API}/artifacts/list?run_id={run}")[1]["files"]
    page = read(hub, f"/experiments/0/runs/{run}")
    assert "script" not in page.tags[page.tags.index("main") :]


@pytest.mark.parametrize(
    "location",
    ["file:" + "///etc", "http://127.0.0.1:1/x", "s3://bucket/x", "/etc", "../..", "dbfs:/x", "\\\\host\\share"],
)
def test_nobody_says_where_artifacts_lie(hub: Hub, location: str) -> None:
    before = state(hub)
    for path, body in (
        ("experiments/create", {"name": f"at {location}", "artifact_location": location}),
        ("model-versions/create", {"name": "m", "source": location}),
        ("model-versions/create", {"name": "m", "source": f"{location}/../etc"}),
    ):
        status, said = ask(hub, "POST", f"{API}/{path}", body)
        assert (status, said["error_code"]) in (
            (400, "INVALID_PARAMETER_VALUE"),
            (404, "RESOURCE_DOES_NOT_EXIST"),
        ), said
    assert state(hub) == before


def test_a_file_that_is_another_than_was_logged_is_not_handed_out(hub: Hub, tmp_path: Path) -> None:
    run, root = new_run(hub)
    data = b"model " * 1000
    assert ask(hub, "PUT", f"{root}/model/weights.bin", data)[0] == 200
    digest = hashlib.sha256(data).hexdigest()
    place = hub.folder / ".sampan" / "artifacts" / digest[:2] / digest[2:]
    secret = tmp_path / "secret"
    secret.write_text("what only this machine knows")
    place.unlink()
    for change in (lambda: place.symlink_to(secret), lambda: place.write_bytes(data[:-1] + b"!")):
        place.unlink(missing_ok=True)
        change()
        status, said = ask(hub, "GET", f"{root}/model/weights.bin")
        assert (status, said["error_code"]) == (409, "DATA_LOSS")
        assert "the bytes of 'model/weights.bin' are not those that were logged" in said["message"]
        assert "what only" not in str(said)
    place.unlink()
    assert ask(hub, "GET", f"{root}/model/weights.bin")[0] == 404
    place.symlink_to(tmp_path / "not there yet")
    assert ask(hub, "PUT", f"{root}/again.bin", data)[0] == 200  # nothing is written through a link
    assert not (tmp_path / "not there yet").exists() and not place.is_symlink()
    assert run


def test_a_metric_is_never_called_script(hub: Hub) -> None:
    run, _ = new_run(hub)
    before = state(hub)
    for key in ("<script>", "<script>alert(1)</script>", "a\"onload='x", "../../m", "..", "/m", "m\n", "", "x" * 251):
        metric = {"run_id": run, "key": key, "value": 1, "timestamp": 1}
        for path, body in (
            ("runs/log-metric", metric),
            ("runs/log-batch", {"run_id": run, "metrics": [metric]}),
            ("runs/log-parameter", {"run_id": run, "key": key, "value": "v"}),
            ("runs/set-tag", {"run_id": run, "key": key, "value": "v"}),
        ):
            status, said = ask(hub, "POST", f"{API}/{path}", body)
            assert (status, said["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (path, key, said)
        _, said = hub.ask("POST", f"{API}/runs/log-metric", json.dumps(metric).encode())
        assert b"<script" not in said, "a browser may be who asks"
    assert state(hub) == before


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", 1.7976931348623157e308, -5e-324])
def test_numbers_without_end_come_back_and_break_no_page(hub: Hub, value: Any) -> None:
    run, _ = new_run(hub)
    other, _ = new_run(hub)
    for one in (run, other):
        points = [
            {"key": "loss", "value": each, "timestamp": 1, "step": step} for step, each in enumerate((1, value, 2))
        ]
        last = {"key": "last", "value": value, "timestamp": 1}
        status, said = ask(hub, "POST", f"{API}/runs/log-batch", {"run_id": one, "metrics": [*points, last]})
        assert status == 200, said
    found = ask(hub, "GET", f"{API}/metrics/get-history?run_id={run}&metric_key=loss")[1]["metrics"]
    assert [point["value"] for point in found] == [1, value, 2]
    pages = (f"/experiments/0/runs/{run}", "/experiments/0?columns=metrics.last")
    compare = f"/experiments/0/compare?run={run}&run={other}"
    for path in (*pages, compare, f"{compare}&metric=loss&x=metrics.last", f"/diff?first={run}&second={other}"):
        response, body = hub.ask("GET", path, accept="text/html")
        assert response.status == 200, (path, body[:300])
        response, body = hub.ask("GET", path, accept="application/json")
        assert response.status == 200, path
        json.loads(body, parse_constant=no_number)


def no_number(name: str) -> Any:
    raise AssertionError(f"{name} is no JSON")


def tokens(place: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def test_a_page_token_of_another_question_or_of_nobody_s_is_refused(hub: Hub) -> None:
    run, _ = new_run(hub)
    for number in range(3):
        new_run(hub)
        ask(hub, "POST", f"{API}/experiments/create", {"name": f"one more {number} {os.urandom(4).hex()}"})
        ask(hub, "POST", f"{API}/registered-models/create", {"name": f"model-{number}"})
    metrics = [{"key": key, "value": 1, "timestamp": 1, "step": step} for step in range(4) for key in "ab"]
    ask(hub, "POST", f"{API}/runs/log-batch", {"run_id": run, "metrics": metrics})
    questions = {
        "runs": ("POST", f"{API}/runs/search", {"experiment_ids": ["0"], "max_results": 1}),
        "runs ordered": ("POST", f"{API}/runs/search", {"experiment_ids": ["0"], "max_results": 1, "order_by": ["a"]}),
        "experiments": ("POST", f"{API}/experiments/search", {"max_results": 1}),
        "models": ("GET", f"{API}/registered-models/search?max_results=1", None),
        "history of a": ("GET", f"{API}/metrics/get-history?run_id={run}&metric_key=a&max_results=1", None),
        "history of b": ("GET", f"{API}/metrics/get-history?run_id={run}&metric_key=b&max_results=1", None),
    }
    questions["runs ordered"][2]["order_by"] = ["metrics.a DESC"]  # type: ignore[index]

    def turn(name: str, token: str) -> tuple[int, Any]:
        method, path, body = questions[name]
        if body is None:
            return ask(hub, method, f"{path}&page_token={quote(token)}")
        return ask(hub, method, path, body | {"page_token": token})

    given = {name: turn(name, "")[1]["next_page_token"] for name in questions}
    assert all(given.values()), given
    for name in questions:
        assert turn(name, given[name])[0] == 200
        asked = json.loads(base64.urlsafe_b64decode(given[name] + "=="))[0]
        made_up = [[asked, after] for after in ([], [-1], [2**70], [1e300], ["x"], [None], [[]], [1] * 50, {"a": 1})]
        others = [token for other, token in given.items() if other != name]
        nonsense = ["x", "é", "=" * 9, "A" * 20_000, tokens([]), tokens("x"), tokens(["0" * 16, [], 2**70])]
        for token in (*others, *nonsense, *map(tokens, made_up)):
            status, said = turn(name, token)
            if token in map(tokens, made_up) and status == 200:
                continue  # it names a place, and who may ask for that page may ask for any
            assert (status, said["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (name, token[:60], said)
            assert "token" in said["message"], (name, said)


def test_the_records_of_a_run_do_not_leave_their_paths(hub: Hub) -> None:
    """A run, model or experiment that is named by a path is none."""
    for name in ("..", "../../etc", "%2e%2e%2f", "' OR 1=1 --", "\x00", "x" * 5000, "é" * 300):
        for path in ("runs/get?run_id=", "experiments/get?experiment_id=", "registered-models/get?name="):
            status, said = ask(hub, "GET", f"{API}/{path}{quote(name)}")
            assert status in (400, 404) and said["error_code"] in ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
        status, said = ask(hub, "GET", f"{ARTIFACTS}/0/{quote(name, safe='')}/artifacts/a")
        assert status in (400, 404), said
