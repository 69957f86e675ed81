"""What an operator asks of a hub: does it live, is it ready, its figures, its log."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.hub.conftest import Hub, environment, make_workspace, sampan, visit


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that has taken events, good and bad, and has run, well and badly."""
    folder = make_workspace(tmp_path_factory.mktemp("vitals") / "shop")
    (folder / "sampan.toml").write_text("[alerts]\nevery = 0.2\n")
    (folder / "steps.py").write_text("from sampan import step\n\n\n@step\ndef sad() -> int:\n    raise ValueError\n")
    hub = Hub(folder, SAMPAN_LOG_FORMAT="json", SAMPAN_LOG_LEVEL="debug")
    hub.send(*[visit(str(n)) for n in range(7)], visit("0"), visit("bad", seconds=-1))
    assert sampan(folder, "run", "pages").returncode == 0
    assert sampan(folder, "run").returncode == 3
    yield hub
    hub.stop()


def families(text: str) -> dict[str, Any]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(found: dict[str, Any], name: str, **labels: str) -> float:
    samples = [
        sample
        for family in found.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(samples) == 1, (name, labels, samples)
    return float(samples[0].value)


def test_anybody_may_ask_whether_it_lives_and_is_ready(used: Hub) -> None:
    response, body = used.ask("GET", "/healthz", token=False)
    assert (response.status, json.loads(body)["status"]) == (200, "alive")
    response, body = used.ask("GET", "/readyz", token=False)
    told = json.loads(body)
    assert (response.status, told["ready"]) == (200, True)
    assert {check["name"] for check in told["checks"]} == {"log", "records", "tracking", "watch", "serving"}
    assert all(check["ready"] and not check["reason"] for check in told["checks"])


def test_figures_are_as_prometheus_reads_them(used: Hub) -> None:
    for _ in range(3):
        used.ask("GET", "/log/intake:1")
    response, body = used.ask("GET", "/metrics")
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = families(body.decode())
    assert all(family.documentation and family.type != "unknown" for family in found.values())
    assert value(found, "sampan_events_total", verdict="accepted") == 7
    assert value(found, "sampan_events_total", verdict="duplicate") == 1
    assert value(found, "sampan_events_total", verdict="quarantined") == 1
    assert value(found, "sampan_quarantine_waiting") == 1
    assert value(found, "sampan_runs", state="failed") == 1
    assert value(found, "sampan_runs", state="succeeded") == 1
    assert value(found, "sampan_log_sync_seconds_count") >= 1
    assert value(found, "sampan_log_sync_seconds_bucket", le="+Inf") == value(found, "sampan_log_sync_seconds_count")
    assert value(found, "sampan_seal_backlog") == 0
    assert value(found, "sampan_requests_total", route="/v1/events", status="202") == 1
    assert value(found, "sampan_requests_total", route="/log/{event}", status="200") == 3
    assert value(found, "sampan_request_seconds_count", route="/log/{event}") == 3
    assert value(found, "sampan_intake_ready") == 1
    assert value(found, "process_resident_memory_bytes") > 1e6
    told = [sample for family in found.values() for sample in family.samples if sample.name.endswith("_bucket")]
    series: dict[tuple[str, str], list[float]] = {}
    for sample in told:
        key = str({k: v for k, v in sample.labels.items() if k != "le"})
        series.setdefault((sample.name, key), []).append(sample.value)
    assert all(counts == sorted(counts) for counts in series.values())


def test_paths_do_not_become_labels(used: Hub) -> None:
    for path in ("/secret-path", "/log/x/y/z", "/predict/nothing", "/" + "a" * 300):
        used.ask("GET", path)
    _, body = used.ask("GET", "/metrics")
    assert b"secret-path" not in body
    assert b"aaaa" not in body
    assert value(families(body.decode()), "sampan_requests_total", route="other", method="GET", status="404") == 3


def test_figures_need_a_token_unless_a_setting_says_otherwise(used: Hub, tmp_path: Path) -> None:
    assert used.ask("GET", "/metrics", token=False)[0].status == 401
    hub = Hub(make_workspace(tmp_path / "open"), SAMPAN_METRICS_PUBLIC="yes")
    assert hub.ask("GET", "/metrics", token=False)[0].status == 200
    assert hub.ask("GET", "/log", token=False)[0].status == 401
    hub.stop()
    done = sampan(tmp_path / "open", "up", "--port", "0", SAMPAN_METRICS_PUBLIC="perhaps")
    assert (done.returncode, "'perhaps' is neither yes nor no" in done.stderr) == (2, True)


def test_a_request_has_an_id_which_its_sender_may_choose(used: Hub) -> None:
    given = used.ask("GET", "/log", x_request_id="mine-1")[0].headers["x-request-id"]
    assert given == "mine-1"
    ids = [used.ask("GET", "/log", x_request_id=bad)[0].headers["x-request-id"] for bad in ("a b", "x" * 65, "<b>")]
    assert len(set(ids)) == 3
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", id) for id in ids)


def test_the_log_is_lines_of_json_without_secrets_or_queries(tmp_path: Path) -> None:
    folder = make_workspace(tmp_path / "shop")
    hub = Hub(folder, SAMPAN_LOG_FORMAT="json", SAMPAN_LOG_LEVEL="debug")
    hub.send(visit("1"))
    code = hub.said["link"].partition("code=")[2]
    hub.ask("GET", f"/sign-in?code={code}", token=False)
    hub.ask("GET", "/log?subject=somebody", x_request_id="mine-2")
    hub.raw(b"GET /log/%0Aforged HTTP/1.1\r\nHost: 127.0.0.1:" + str(hub.port).encode() + b"\r\n\r\n")
    hub.stop()
    said = hub.complained()
    lines = [json.loads(line) for line in said.splitlines()]
    requests = [line for line in lines if line["logger"] == "sampan.requests"]
    assert {line["path"] for line in requests} >= {"/v1/events", "/sign-in", "/log"}
    mine = next(line for line in requests if line["request_id"] == "mine-2")
    assert {**mine, "time": "", "seconds": 0} == {
        "time": "",
        "level": "info",
        "logger": "sampan.requests",
        "message": "answered",
        "request_id": "mine-2",
        "method": "GET",
        "path": "/log",
        "status": 200,
        "seconds": 0,
        "who": "owner",
    }
    for secret in (hub.token, code, "somebody"):
        assert secret not in said


def test_without_a_level_the_log_says_only_what_is_wrong(tmp_path: Path) -> None:
    hub = Hub(make_workspace(tmp_path / "shop"))
    hub.send(visit("1"))
    hub.ask("GET", "/log")
    hub.stop()
    assert hub.complained() == ""


@pytest.mark.parametrize(("name", "value"), [("SAMPAN_LOG_LEVEL", "loud"), ("SAMPAN_LOG_FORMAT", "xml")])
def test_a_level_or_format_that_there_is_not_is_refused(tmp_path: Path, name: str, value: str) -> None:
    done = sampan(make_workspace(tmp_path / "shop"), "up", "--port", "0", **{name: value})
    assert (done.returncode, repr(value) in done.stderr) == (2, True)


# -- traces

TRACED = """
import sys
from pathlib import Path
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sampan.app import App
from sampan.base.traces import Traces

if __name__ == "__main__":
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    app = App(Path(sys.argv[1]))
    app.traces = Traces(provider)
    app.run("", {}, "ann", lambda event: None)
    spans = {span.name: span for span in kept.get_finished_spans()}
    run = spans["run"]
    for name, span in sorted(spans.items()):
        inside = span.parent is not None and span.parent.span_id == run.context.span_id
        print(name, span.status.status_code.name, inside, span.attributes.get("sampan.state"))
"""


def test_a_run_is_a_span_with_its_steps_inside(tmp_path: Path) -> None:
    folder = make_workspace(tmp_path / "shop")
    (folder / "steps.py").write_text(
        "from sampan import step\n\n\n@step\ndef fine() -> int:\n    return 1\n\n\n"
        "@step\ndef sad(fine: int) -> int:\n    raise ValueError('no')\n"
    )
    script = tmp_path / "traced.py"
    script.write_text(TRACED)
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.stdout.splitlines() == [
        "run ERROR False failed",
        "step fine UNSET True ran",
        "step pages UNSET True ran",
        "step sad ERROR True failed",
    ], done.stderr


def test_requests_are_spans_within_the_trace_of_who_asks(tmp_path: Path) -> None:
    hub = Hub(make_workspace(tmp_path / "shop"), OTEL_TRACES_EXPORTER="console")
    trace = "0af7651916cd43dd8448eb211c80319c"
    hub.ask("GET", "/log/intake:1?secret=1", traceparent=f"00-{trace}-b7ad6b7169203331-01")
    hub.stop()
    said = hub.complained()
    assert '"name": "GET /log/{event}"' in said
    assert f'"trace_id": "0x{trace}"' in said
    assert '"http.response.status_code": 404' in said
    assert "secret" not in said


def test_a_collector_that_is_not_there_costs_no_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    hub = Hub(make_workspace(tmp_path / "shop"), **environ)
    assert hub.send(visit("1"))[0]["verdict"] == "accepted"
    assert hub.ask("GET", "/log")[0].status == 200
    assert hub.stop() == 0


def test_without_being_asked_nothing_of_opentelemetry_is_imported() -> None:
    check = (
        "import sys; from sampan.base.traces import from_environment as f; f(); print('opentelemetry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, env=environment(), check=False)
    assert done.stdout == "False\n"
