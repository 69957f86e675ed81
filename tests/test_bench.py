"""The bench's own arithmetic: a table that flatters would be worse than none."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import intake, serving
from bench.engines import ENGINES, PEERS, Place
from bench.measure import Result, Timed, WentWrong, alternate
from bench.place import Unavailable
from bench.servers import ONNX, Server, differing
from bench.table import Row, at_most, times

from sampan.app import App


def row(ours: list[float], theirs: list[float]) -> Row:
    results = [Result("Sampan", ours), Result("floor", theirs)]
    return Row("row", "a figure", "s", results, [at_most(2, "s"), times("floor", 1.5, least=False)])


def test_the_median_and_not_the_best_round_is_compared() -> None:
    assert row([0.1, 1.9, 9.0], [1.0, 1.0, 1.0]).verdicts() == ["≤ 2 s: met", "≤ 1.5× floor: MISSED"]


def test_a_goal_beside_a_contender_that_is_missing_is_not_called_met() -> None:
    assert row([1.0], []).verdicts() == ["≤ 2 s: met", "≤ 1.5× floor: not measured"]
    assert row([], [1.0]).verdicts() == ["≤ 2 s: not measured", "≤ 1.5× floor: not measured"]


def test_the_table_gives_the_ratio_and_a_missing_contender_its_reason() -> None:
    shown = row([2.0], [1.0])
    shown.results[1].note = "one\nline | please"
    assert "2.00×" in shown.markdown()[1]
    assert shown.markdown()[1].endswith("| one line / please |")
    assert [json.loads(line)["median"] for line in shown.json()] == [2.0, 1.0]


def test_contenders_take_turns_and_one_that_goes_wrong_has_no_figure() -> None:
    order: list[str] = []

    def contender(name: str, wrong_in: int = -1) -> Callable[[], Timed]:
        def timed(number: int) -> float:
            order.append(name)
            if number == wrong_in:
                raise WentWrong("it skipped a step")
            return 1.0

        return lambda: timed

    def absent() -> Timed:
        raise Unavailable("it is not installed")

    results = alternate({"a": contender("a"), "b": contender("b", wrong_in=1), "c": absent}, rounds=3)
    assert order == ["a", "b", "b", "a", "a"]
    assert [(each.values, each.note) for each in results] == [
        ([1.0, 1.0, 1.0], ""),
        ([], "it skipped a step"),
        ([], "it is not installed"),
    ]


@pytest.mark.parametrize("job", ["linear", "long", "fan", "frame"])
def test_a_workspace_of_the_bench_can_be_planned(job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.place.ROOT", tmp_path)
    app = App(Place(ENGINES["Sampan"], job).folder)
    try:
        steps = {step["name"] for step in app.plan()["steps"]}
    finally:
        app.close()
    assert (
        steps
        == {
            "linear": set("abcde"),
            "long": {f"s{place:02d}" for place in range(20)},
            "fan": {"item", "work", "total"},
            "frame": {"made", "used"},
        }[job]
    )


SCORER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Scorer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"]
        body = json.dumps({"predictions": [[1 - row[0], row[0] + float(sys.argv[2])] for row in rows]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): pass

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Scorer).serve_forever()
"""


class Honest(Server):
    """A server whose model says the row's first value."""

    name = "honest"
    wrong_by = 0.0

    def prepare(self) -> None:
        pass

    def command(self) -> list[str]:
        return [sys.executable, "-c", SCORER, str(self.port), str(self.wrong_by)]


class Liar(Honest):
    name = "liar"
    wrong_by = 0.01


class Absent(Honest):
    name = "absent"

    def prepare(self) -> None:
        raise Unavailable("it is not installed")


@pytest.fixture
def scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[place / 128, 0.0] for place in range(128)]
    monkeypatch.setattr("bench.place.ROOT", tmp_path)
    monkeypatch.setattr("bench.servers.asked", lambda: {"rows": rows, "answers": [row[0] for row in rows]})


def test_answers_that_are_far_missing_or_no_numbers_are_wrong() -> None:
    assert not differing([0.5, 0.25], [0.50001, 0.25])
    assert differing([0.5], [0.501]) == "it answered 0.5 where the model says 0.501"
    assert differing([0.5], [0.5, 0.5]) == "1 answers to 2 rows"
    assert differing([math.nan], [0.5])


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.usefixtures("scorers")
def test_a_server_that_answers_otherwise_or_is_not_there_has_a_reason_and_no_figure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "SERVERS", ((ONNX, Liar), (ONNX, Absent)))
    rows = {row.name: row for row in serving.serve(1, [])}
    notes = [result.note for result in rows["serve-singles-onnx"].results]
    assert notes == ["1 rows: it answered 0.01 where the model says 0.0", "it is not installed"]
    assert not any(row.medians() for row in rows.values())


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.usefixtures("scorers")
def test_half_load_is_the_rate_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "SECONDS", 2)
    with Honest(ONNX) as server:
        seen = serving.loaded(server, 1, rate=60)
    assert 45 < seen["rate"] < 70


def test_the_workspace_that_serves_can_be_planned(tmp_path: Path) -> None:
    shutil.copytree(PEERS / "serving" / "sampan", tmp_path, dirs_exist_ok=True)
    shutil.copy(PEERS / "serving" / "trained.py", tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    app = App(tmp_path)
    try:
        assert {step["name"] for step in app.plan()["steps"]} == {"onnx", "onnx_again", "sklearn", "sklearn_again"}
    finally:
        app.close()
