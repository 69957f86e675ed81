"""Runs as OpenLineage events, taken by a real server and read by OpenLineage's own types."""

import importlib
import json
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import UnionType
from typing import Any

import attr
import pytest
from openlineage.client.event_v2 import RunEvent
from openlineage.client.generated import base
from openlineage.client.serde import Serde

from sampan.base.errors import Usage
from sampan.base.openlineage import Emitter, from_environment
from sampan.flow.openlineage import PRODUCER, without_secret
from tests.cli.conftest import Here, Shell
from tests.hub.conftest import Hub, environment

FACETS = {
    "parent": "parent_run.ParentRunFacet",
    "errorMessage": "error_message_run.ErrorMessageRunFacet",
    "processing_engine": "processing_engine_run.ProcessingEngineRunFacet",
    "jobType": "job_type_job.JobTypeJobFacet",
    "sourceCodeLocation": "source_code_location_job.SourceCodeLocationJobFacet",
    "sql": "sql_job.SQLJobFacet",
    "schema": "schema_dataset.SchemaDatasetFacet",
    "version": "dataset_version_dataset.DatasetVersionDatasetFacet",
    "datasetType": "dataset_type_dataset.DatasetTypeDatasetFacet",
    "columnLineage": "column_lineage_dataset.ColumnLineageDatasetFacet",
    "inputStatistics": "input_statistics_input_dataset.InputStatisticsInputDatasetFacet",
    "outputStatistics": "output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet",
}


class Collector:
    """Takes events as a lineage back end does. ``status``: what it answers; ``slow``: seconds before it does."""

    def __init__(self, status: int = 201, slow: float = 0.0, close: bool = False, to: str = "") -> None:
        self.events: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(slow)
                collector.events.append(json.loads(body))
                collector.headers.append(dict(self.headers))
                collector.paths.append(self.path)
                self.send_response(status)
                if to:
                    self.send_header("Location", to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                self.close_connection = close

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def told(self) -> list[tuple[str, str]]:
        return [(event["eventType"], event["job"]["name"]) for event in self.events]

    def one(self, type: str, job: str) -> dict[str, Any]:
        (found,) = [e for e in self.events if (e["eventType"], e["job"]["name"]) == (type, job)]
        return found


@contextmanager
def collecting(**how: Any) -> Iterator[Collector]:
    made = Collector(**how)
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def shop(here: Here, visits: Path, collector: Collector) -> Here:
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    here.extra = {"OPENLINEAGE_URL": collector.url}
    return here


# -- OpenLineage's own types


def built(kind: Any, value: Any, name: str = "") -> Any:
    """A value as OpenLineage's types have it; whatever does not fit them raises."""
    if typing.get_origin(kind) in (typing.Union, UnionType):
        kind = next(one for one in typing.get_args(kind) if one is not type(None))
    if typing.get_origin(kind) is list:
        return [built(typing.get_args(kind)[0], one) for one in value]
    if typing.get_origin(kind) is dict:
        return {key: built(typing.get_args(kind)[1], one, key) for key, one in value.items()}
    if isinstance(kind, type) and issubclass(kind, base.BaseFacet):
        return facet(kind, value, name)
    if attr.has(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{key: built(hints[key], one) for key, one in value.items()})
    return kind(value)


def facet(kind: Any, value: dict[str, Any], name: str) -> Any:
    if name == "sampan_run":
        assert not {key for key in value if key.startswith("_")} - {"_producer", "_schemaURL"}
        own = {key: one for key, one in value.items() if not key.startswith("_")}
        assert value["_schemaURL"] == kind._get_schema()
        return kind(producer=value["_producer"]).with_additional_properties(**own)
    module, _, wanted = FACETS[name].partition(".")
    found = getattr(importlib.import_module(f"openlineage.client.generated.{module}"), wanted)
    assert issubclass(found, kind), f"{name} is no {kind.__name__}"
    assert value["_schemaURL"] == found._get_schema()
    hints = typing.get_type_hints(found)
    rest = {key: one for key, one in value.items() if key not in ("_producer", "_schemaURL")}
    return found(producer=value["_producer"], **{key: built(hints[key], one) for key, one in rest.items()})


def without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: v for k, v in ((k, without_empty(v)) for k, v in value.items()) if v not in ({}, [], None)}
    return [without_empty(one) for one in value] if isinstance(value, list) else value


def check(events: list[dict[str, Any]]) -> None:
    """Every event is one of OpenLineage's, and its types would have written it as we did."""
    for event in events:
        assert event["schemaURL"] == RunEvent._get_schema()
        made = built(RunEvent, {name: value for name, value in event.items() if name != "schemaURL"})
        assert without_empty(Serde.to_dict(made)) == without_empty(event)


# -- what a run tells


def whole(step: str) -> list[tuple[str, str]]:
    """What a run with one step that ran and went well tells."""
    return [("START", "flow"), ("START", f"flow.{step}"), ("COMPLETE", f"flow.{step}"), ("COMPLETE", "flow")]


def test_a_run_and_its_steps_are_told_with_what_they_read_and_made(shop: Here, collector: Collector) -> None:
    shop.extra |= {"OPENLINEAGE_API_KEY": "secret", "OPENLINEAGE_NAMESPACE": "retail"}
    made = shop.json("run")
    assert collector.told() == [
        ("START", "flow"),
        ("START", "flow.pages"),
        ("COMPLETE", "flow.pages"),
        ("COMPLETE", "flow"),
    ]
    check(collector.events)
    assert set(collector.paths) == {"/api/v1/lineage"}
    assert {headers["Authorization"] for headers in collector.headers} == {"Bearer secret"}
    flow, step = collector.one("COMPLETE", "flow"), collector.one("COMPLETE", "flow.pages")
    assert flow["run"]["runId"] == collector.one("START", "flow")["run"]["runId"]
    assert step["run"]["runId"] == collector.one("START", "flow.pages")["run"]["runId"] != flow["run"]["runId"]
    parent = step["run"]["facets"]["parent"]
    assert parent["run"]["runId"] == flow["run"]["runId"]
    assert (
        parent["job"] == {"namespace": "retail", "name": "flow"} == {k: flow["job"][k] for k in ("namespace", "name")}
    )
    assert flow["run"]["facets"]["sampan_run"]["run"] == made["run"]
    assert flow["run"]["facets"]["sampan_run"]["commit"] == made["commit"]
    assert step["producer"] == PRODUCER
    assert "count(*)" in step["job"]["facets"]["sql"]["query"]

    (visit,) = step["inputs"]
    assert (visit["namespace"], visit["name"]) == ("retail", "visit")
    assert visit["inputFacets"]["inputStatistics"]["rowCount"] == 2
    assert {"page", "seconds"} <= {field["name"] for field in visit["facets"]["schema"]["fields"]}
    assert visit["facets"]["version"]["datasetVersion"]

    (pages,) = step["outputs"]
    snapshot = shop.json("table", "list")["tables"][0]["snapshot"]
    assert pages["facets"]["version"]["datasetVersion"] == snapshot
    assert pages["facets"]["schema"]["fields"] == [
        {"name": "page", "type": "VARCHAR"},
        {"name": "visits", "type": "BIGINT"},
    ]
    assert pages["outputFacets"]["outputStatistics"]["rowCount"] == 2
    columns = pages["facets"]["columnLineage"]
    direct = {"namespace": "retail", "name": "visit", "field": "page", "transformations": [{"type": "DIRECT"}]}
    assert columns["fields"]["page"]["inputFields"] == [direct]
    assert {**direct, "transformations": [{"type": "INDIRECT"}]} in columns["dataset"]  # by which it is grouped


STEPS = """
from sampan import step, check

@step
def double(pages: list) -> int:
    return 2 * len(pages)

@step
def sad(double: int) -> int:
    raise ValueError("no " + "o" * 5000)
"""
SLOW = """
import time
from sampan import step

@step
def slow(pages: list) -> int:
    time.sleep(60)
    return 1
"""
CHECKED = """
from sampan import step, check

@step
def double(pages: list) -> int:
    return 2 * len(pages)

@check
def small(double: int) -> bool:
    return double < 4
"""


@pytest.mark.slow
def test_a_step_that_fails_is_told_with_its_error_and_nothing_counts_as_made(shop: Here, collector: Collector) -> None:
    (shop.folder / "steps.py").write_text(STEPS)
    assert shop.run("run").returncode == 3
    check(collector.events)
    sad, flow = collector.one("FAIL", "flow.sad"), collector.one("FAIL", "flow")
    error = sad["run"]["facets"]["errorMessage"]
    assert "ValueError: no" in error["message"]
    assert len(error["message"]) < 2_000
    assert error["programmingLanguage"] == "Python"
    assert "nothing was published" in flow["run"]["facets"]["errorMessage"]["message"]
    assert collector.one("COMPLETE", "flow.double")["inputs"][0]["name"] == "pages"
    assert all(event["outputs"] == [] for event in collector.events)


@pytest.mark.slow
def test_what_a_check_holds_back_is_not_told_as_made(shop: Here, collector: Collector) -> None:
    (shop.folder / "steps.py").write_text(CHECKED)
    assert shop.run("run").returncode == 1
    assert collector.one("FAIL", "flow.small")["job"]["facets"]["jobType"]["jobType"] == "CHECK"
    assert all(event["outputs"] == [] for event in collector.events)
    (shop.folder / "steps.py").write_text(CHECKED.replace("< 4", "< 5"))
    collector.events.clear()
    shop("run")
    check(collector.events)
    assert collector.told() == [
        ("START", "flow"),
        ("START", "flow.small"),
        ("COMPLETE", "flow.small"),
        ("COMPLETE", "flow"),
    ]


@pytest.mark.slow
def test_values_are_datasets_too_so_that_the_way_is_whole(shop: Here, collector: Collector) -> None:
    (shop.folder / "steps.py").write_text(CHECKED.replace("< 4", "< 5"))
    shop("run")
    (double,) = collector.one("COMPLETE", "flow.double")["outputs"]
    (read,) = collector.one("COMPLETE", "flow.small")["inputs"]
    assert (double["namespace"], double["name"]) == (read["namespace"], read["name"]) == ("shop", "double")
    assert double["facets"]["datasetType"]["datasetType"] == "VALUE"
    assert double["facets"]["version"] == read["facets"]["version"]
    assert "columnLineage" not in double["facets"]
    assert collector.one("COMPLETE", "flow.small")["outputs"] == []


@pytest.mark.slow
def test_a_run_that_finds_everything_cached_is_told_alone(shop: Here, collector: Collector) -> None:
    shop("run")
    collector.events.clear()
    shop("run")
    assert collector.told() == [("START", "flow"), ("COMPLETE", "flow")]


@pytest.mark.slow
def test_a_branch_is_a_namespace_of_its_own_and_its_merge_is_main_s(shop: Here, collector: Collector) -> None:
    shop("run")
    shop("branch", "new", "try")
    query = shop.folder / "tables" / "pages.sql"
    query.write_text(query.read_text().replace("count(*)", "count(*) + 1"))
    collector.events.clear()
    shop("run", "--branch", "try")
    check(collector.events)
    step = collector.one("COMPLETE", "flow.pages")
    assert {event["job"]["namespace"] for event in collector.events} == {"shop@try"}
    assert step["outputs"][0]["namespace"] == "shop@try"
    assert step["inputs"][0]["namespace"] == "shop"  # the log does not branch
    assert step["run"]["facets"]["sampan_run"]["branch"] == "try"
    collector.events.clear()
    shop("branch", "merge", "try")
    assert {event["job"]["namespace"] for event in collector.events} == {"shop"}
    assert collector.told()[-1] == ("COMPLETE", "flow")


@pytest.mark.slow
def test_a_replay_sends_nothing_until_it_is_approved(shop: Here, collector: Collector) -> None:
    shop("run")
    query = shop.folder / "tables" / "pages.sql"
    query.write_text(query.read_text().replace("count(*)", "count(*) + 1"))
    collector.events.clear()
    made = shop.json("replay")
    assert made["state"] == "done", made
    assert collector.events == []
    shop("replay", "approve", made["id"])
    assert {event["job"]["namespace"] for event in collector.events} == {"shop"}
    assert collector.told()[-1] == ("COMPLETE", "flow")


@pytest.mark.slow
def test_a_run_gone_on_with_is_another_run_there(shop: Here, collector: Collector) -> None:
    (shop.folder / "steps.py").write_text(STEPS)
    shop.run("run")
    first = collector.one("FAIL", "flow")["run"]["runId"]
    collector.events.clear()
    shop.run("resume", "last")
    check(collector.events)
    assert collector.told() == [("START", "flow"), ("START", "flow.sad"), ("FAIL", "flow.sad"), ("FAIL", "flow")]
    assert collector.one("FAIL", "flow")["run"]["runId"] != first


@pytest.mark.slow
def test_a_run_that_is_stopped_is_told_as_aborted_with_the_step_that_was_going_on(
    shop: Here, collector: Collector
) -> None:
    (shop.folder / "steps.py").write_text(SLOW)
    command = [sys.executable, "-m", "sampan", "run"]
    with subprocess.Popen(command, cwd=shop.folder, env=environment(**shop.extra), stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while ("START", "flow.slow") not in collector.told() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1)  # the step is told as begun before its process is asked to begin
        process.terminate()
        said = process.communicate(timeout=60)[1].decode()
    check(collector.events)
    assert (process.returncode, "Traceback" in said) == (130, False), said
    assert collector.told()[-3:] == [("COMPLETE", "flow.pages"), ("ABORT", "flow.slow"), ("ABORT", "flow")], said
    assert all(event["outputs"] == [] for event in collector.events)


@pytest.mark.slow
def test_the_source_s_place_is_told_without_who_may_read_it(shop: Here, collector: Collector) -> None:
    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://ann:token@git.example.org/shops/shop.git"],
        ["add", "."],
        ["-c", "user.name=ann", "-c", "user.email=ann@example.org", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=shop.folder, check=True)
    shop("run")
    check(collector.events)
    place = collector.one("COMPLETE", "flow.pages")["job"]["facets"]["sourceCodeLocation"]
    assert place["repoUrl"] == "https://git.example.org/shops/shop.git"
    assert place["path"] == "tables/pages.sql"
    assert place["url"] == f"https://git.example.org/shops/shop/blob/{place['version']}/tables/pages.sql"
    assert "token" not in json.dumps(collector.events)


@pytest.mark.parametrize(
    ("remote", "told"),
    [
        ("https://me:secret@example.org/a.git", "https://example.org/a.git"),
        ("ssh://git@example.org:22/a.git", "ssh://example.org:22/a.git"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
        ("", ""),
    ],
)
def test_an_address_loses_its_password(remote: str, told: str) -> None:
    assert without_secret(remote) == told


def test_the_hub_tells_of_the_runs_that_it_does(shell: Shell, here: Here, visits: Path, collector: Collector) -> None:
    here("log", "load", str(visits), "--type", "visit", "--map", "visitor=visitor")
    hub = Hub(shell.folder, OPENLINEAGE_URL=collector.url)
    try:
        here("run")
        until = time.monotonic() + 10
        while ("COMPLETE", "flow") not in collector.told() and time.monotonic() < until:
            time.sleep(0.05)
        assert collector.told()[-1] == ("COMPLETE", "flow")
    finally:
        assert hub.stop() == 0


# -- what a back end may do


def test_a_back_end_that_is_down_costs_a_run_nothing_but_a_warning(shop: Here, collector: Collector) -> None:
    collector.server.shutdown()
    collector.server.server_close()
    began = time.monotonic()
    done = shop.run("run")
    assert done.returncode == 0
    assert time.monotonic() - began < 10
    assert done.stderr.count("did not reach") == 1
    assert "warning: 4 lineage events did not reach 127.0.0.1" in done.stderr
    assert "Connection refused" in done.stderr


def test_an_answer_that_is_no_yes_is_a_warning(shop: Here) -> None:
    with collecting(status=401) as refusing:
        shop.extra = {"OPENLINEAGE_URL": refusing.url, "OPENLINEAGE_API_KEY": "very secret"}
        done = shop.run("run")
    assert done.returncode == 0
    assert "4 lineage events did not reach" in done.stderr
    assert "it answered 401" in done.stderr
    assert "very secret" not in done.stderr


def test_what_cannot_be_told_is_a_warning_and_the_run_is_well(shop: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sampan.flow.openlineage._Made.inputs", lambda *_: 1 / 0)
    done = shop.run("run")
    assert done.returncode == 0
    assert done.stderr.count("warning: lineage was not sent: ZeroDivisionError") == 1


def test_a_back_end_that_hangs_is_left_alone_after_the_first_event() -> None:
    with collecting(slow=1.0) as slow:
        emitter = Emitter(slow.url, patience=0.2)
        for number in range(5):
            emitter.send({"number": number})
        began = time.monotonic()
        assert "5 lineage events did not reach" in emitter.settle(3)
        assert time.monotonic() - began < 0.9
        assert emitter.settle(0) == ""  # said once
        emitter.send({})
        assert "1 lineage event did not reach" in emitter.settle(3)
        emitter.close()


def test_it_is_tried_again_after_a_while() -> None:
    with collecting(status=503) as busy:
        emitter = Emitter(busy.url, pause=0.1)
        emitter.send({"number": 1})
        assert "it answered 503" in emitter.settle(3)
        time.sleep(0.15)
        emitter.send({"number": 2})
        emitter.settle(3)
        assert [event["number"] for event in busy.events] == [1, 2]
        emitter.close()


def test_what_waits_is_bounded_and_sending_never_waits() -> None:
    with collecting(slow=0.5) as slow:
        emitter = Emitter(slow.url, waiting=2)
        began = time.monotonic()
        for number in range(10):
            emitter.send({"number": number})
        assert time.monotonic() - began < 0.3
        assert "more than 2 were waiting" in emitter.settle(5)
        assert len(slow.events) in (2, 3)
        emitter.close()


def test_a_connection_that_the_other_side_has_closed_loses_nothing() -> None:
    with collecting(close=True) as closing:
        emitter = Emitter(closing.url)
        for number in range(5):
            emitter.send({"number": number})
            assert emitter.settle(3) == ""
        assert [event["number"] for event in closing.events] == list(range(5))
        emitter.close()


def test_a_redirect_is_not_followed() -> None:
    with collecting() as other, collecting(status=307, to=other.url) as redirecting:
        emitter = Emitter(redirecting.url, "secret")
        emitter.send({})
        assert "it answered 307" in emitter.settle(3)
        assert other.events == []
        emitter.close()


@pytest.mark.parametrize(
    ("url", "endpoint", "path"),
    [("{}", "", "/api/v1/lineage"), ("{}/base/", "lineage?x=1", "/base/lineage?x=1"), ("{}", "/other", "/other")],
)
def test_the_endpoint_is_the_one_that_openlineage_s_clients_would_take(
    collector: Collector, url: str, endpoint: str, path: str
) -> None:
    emitter = from_environment({"OPENLINEAGE_URL": url.format(collector.url), "OPENLINEAGE_ENDPOINT": endpoint})
    assert emitter is not None
    emitter.send({})
    assert emitter.settle(3) == ""
    assert collector.paths == [path]
    emitter.close()


@pytest.mark.slow
@pytest.mark.parametrize("url", ["marquez:5000", "ftp://example.org", "http://", "http://example.org:99999"])
def test_what_is_no_address_is_said_before_anything_runs(shop: Here, url: str) -> None:
    shop.extra = {"OPENLINEAGE_URL": url}
    assert "no http:// or https:// address" in shop.complaint("run", code=2)


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:SECRET@example.org:1/x",
        "http://SECRET@example.org",
        "http://example.org/x?token=SECRET",
        "http://example.org/x#SECRET",
        "http://example.org/a SECRET",
        "http://example.org/a\tSECRET",
        "http://example.org/\N{SNOWMAN}SECRET",
    ],
)
def test_an_address_with_more_than_a_place_in_it_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Usage) as refused:
        from_environment({"OPENLINEAGE_URL": url})
    assert "a user, a query, a fragment" in refused.value.obstacle
    assert "OPENLINEAGE_API_KEY" in refused.value.advice
    assert "SECRET" not in str(refused.value)


def test_a_run_says_so_before_it_begins(shop: Here) -> None:
    shop.extra = {"OPENLINEAGE_URL": "http://ann:SECRET@example.org"}
    said = shop.complaint("run", code=2)
    assert "OPENLINEAGE_API_KEY" in said
    assert "SECRET" not in said


def test_a_warning_never_quotes_the_path() -> None:
    emitter = Emitter("http://127.0.0.1:9/a SECRET")
    emitter.send({})
    said = emitter.settle(3)
    assert "the address has signs that a request cannot" in said
    assert "SECRET" not in said
    emitter.close()


def test_without_an_address_or_when_disabled_nothing_is_sent(shop: Here, collector: Collector) -> None:
    shop.extra |= {"OPENLINEAGE_DISABLED": "true"}
    shop("run")
    assert collector.events == []
    assert from_environment({}) is None
    with pytest.raises(Usage, match="signs that a request cannot"):
        from_environment({"OPENLINEAGE_URL": "http://example.org", "OPENLINEAGE_API_KEY": "a\nb"})
