"""R39: schemathesis on every operation of the description: no 5xx, no hang, answers as described; all stays counted."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.hub.conftest import Hub, make_workspace, sampan, visit

pytestmark = pytest.mark.slow

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_headers_conformance,response_schema_conformance"
)
SLOWEST = 4.0  # seconds; beside the tests of another process, on two cores


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with some events, a table and a run."""
    running = Hub(make_workspace(tmp_path / "shop"))
    running.send(*[visit(str(n)) for n in range(20)], visit("bad", seconds=-1))
    running.ask("POST", "/v1/runs", b"{}", content_type="application/json")
    yield running
    assert running.stop() == 0
    assert sampan(running.folder, "log", "verify").returncode == 0


def resident(process: int) -> int:
    """A process's memory, in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1_000_000


def examine(hub: Hub, folder: Path, *arguments: str) -> int:
    """Let schemathesis at a hub; gives the number of its cases. What it found stands in the failure."""
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{hub.url}/v1/openapi"]
    command += ["--header", f"Authorization: Bearer {hub.token}", "--checks", CHECKS, "--continue-on-failure"]
    command += ["--request-timeout", "10", "--max-response-time", str(SLOWEST), "--generation-database", "none"]
    done = subprocess.run([*command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    operations = re.search(r"Tested: (\d+)", done.stdout)
    cases = re.search(r"(\d+) generated", done.stdout)
    assert operations is not None and cases is not None, done.stdout[-2000:]
    paths = hub.json("/v1/openapi")["paths"]
    assert int(operations[1]) == sum(len(methods) for methods in paths.values()) - 1  # all but the description itself
    print(f"schemathesis: {cases[1]} cases on {operations[1]} operations")
    return int(cases[1])


def test_every_operation_answers_as_described_to_whatever_is_sent(hub: Hub, tmp_path: Path) -> None:
    before = resident(hub.process.pid)
    assert examine(hub, tmp_path, "--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--seed", "7") > 500
    assert resident(hub.process.pid) - before < 120
    assert hub.json("/health")["status"] == "ready"
    assert hub.send(visit("after"))[0]["verdict"] == "accepted"


@pytest.mark.night
@pytest.mark.timeout(3600)
def test_every_operation_stands_half_an_hour_of_fuzzing(hub: Hub, tmp_path: Path) -> None:
    """``FUZZ_EXAMPLES`` an operation and phase; 2,000 take about half an hour on two cores."""
    most = os.environ.get("FUZZ_EXAMPLES", "2000")
    before = resident(hub.process.pid)
    examine(hub, tmp_path, "--max-examples", most)
    assert resident(hub.process.pid) - before < 300
    assert hub.send(visit("after"))[0]["verdict"] == "accepted"
