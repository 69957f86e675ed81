"""Artifacts that are too large: refused before they are read, stopped as they come, and nothing of them stays."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.api.test_mlflow import API, ARTIFACTS, ask, pytestmark  # noqa: F401
from tests.hub.conftest import Hub, make_workspace

LIMIT = 3_000_000
MEGABYTE = bytes(range(256)) * 4096
#: What a hub may grow by, in bytes, whatever comes.
FLAT = 80_000_000


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = make_workspace(tmp_path_factory.mktemp("uploads") / "shop")
    running = Hub(folder, "--port", "0", SAMPAN_ARTIFACT_LIMIT=str(LIMIT))
    yield running
    assert running.stop() == 0


def new_run(hub: Hub) -> tuple[str, str]:
    """A run's id, and the address of its artifacts."""
    run = ask(hub, "POST", f"{API}/runs/create", {"experiment_id": "0"})[1]["run"]["info"]["run_id"]
    return run, f"{ARTIFACTS}/0/{run}/artifacts"


def kept(hub: Hub) -> set[Path]:
    """The files of artifacts, whole ones and such as are not."""
    data = hub.folder / ".sampan"
    return {file for name in ("artifacts", "tmp") for file in (data / name).rglob("*") if file.is_file()}


def memory(hub: Hub) -> float:
    """Bytes of memory that the hub has."""
    _, said = hub.ask("GET", "/metrics")
    return float(re.search(rb"(?m)^process_resident_memory_bytes (\S+)", said)[1])  # type: ignore[index]


def stream(hub: Hub, path: str, pieces: int, length: int | None = None) -> tuple[int, dict[str, str], int]:
    """Put so many megabytes, declared or chunked; gives the status, the answer, and how many were sent by then."""
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=60)
    connection.putrequest("PUT", path)
    connection.putheader("authorization", f"Bearer {hub.token}")
    if length is None:
        connection.putheader("transfer-encoding", "chunked")
    else:
        connection.putheader("content-length", str(length))
    connection.endheaders()
    sent = 0
    around = (b"%x\r\n" % len(MEGABYTE), b"\r\n") if length is None else (b"", b"")
    try:
        for sent in range(1, pieces + 1):  # noqa: B007 - how far it came
            connection.sock.sendall(MEGABYTE.join(around))
        if length is None:
            connection.sock.sendall(b"0\r\n\r\n")
    except OSError:  # it was hung up on
        pass
    response = connection.getresponse()
    said = json.loads(response.read())
    connection.close()
    return response.status, said, sent


def test_what_is_declared_too_large_is_refused_before_it_is_read(hub: Hub) -> None:
    run, root = new_run(hub)
    before = kept(hub)
    began = time.monotonic()
    status, said, _ = stream(hub, f"{root}/big.bin", 0, 10_000_000_000)
    assert time.monotonic() - began < 5, "it waited for bytes"
    assert (status, said["error_code"]) == (413, "INVALID_PARAMETER_VALUE")
    assert "Log the artifact 'big.bin'" in said["message"] and "artifact_limit" in said["message"]
    assert f"an artifact may have {LIMIT}" in said["message"]
    assert kept(hub) == before
    assert ask(hub, "GET", f"{API}/artifacts/list?run_id={run}")[1]["files"] == []


def test_a_stream_that_turns_out_too_large_is_stopped_and_leaves_nothing(hub: Hub) -> None:
    run, root = new_run(hub)
    before = kept(hub)
    status, said, sent = stream(hub, f"{root}/big.bin", 200)
    assert (status, said["error_code"]) == (413, "INVALID_PARAMETER_VALUE")
    assert sent < 100, "it was read to its end"
    assert kept(hub) == before
    assert ask(hub, "GET", f"{API}/artifacts/list?run_id={run}")[1]["files"] == []
    assert stream(hub, f"{root}/small.bin", 2)[0] == 200  # and what fits is taken as ever
    assert stream(hub, f"{root}/exact.bin", 1, len(MEGABYTE))[0] == 200


def test_what_its_sender_gives_up_leaves_nothing(hub: Hub) -> None:
    run, root = new_run(hub)
    before = kept(hub)
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=10)
    connection.putrequest("PUT", f"{root}/half.bin")
    connection.putheader("authorization", f"Bearer {hub.token}")
    connection.putheader("content-length", str(LIMIT))
    connection.endheaders(MEGABYTE)
    until = time.monotonic() + 10
    while not (kept(hub) - before) and time.monotonic() < until:
        time.sleep(0.05)
    assert kept(hub) - before, "nothing had come yet"
    connection.close()
    while kept(hub) != before and time.monotonic() < until:
        time.sleep(0.05)
    assert kept(hub) == before
    assert ask(hub, "GET", f"{API}/artifacts/list?run_id={run}")[1]["files"] == []


def test_the_stock_client_is_told_whole_or_in_parts(
    mlflow: ModuleType, client: Any, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "sparse.bin").open("wb") as file:
        file.truncate(10_000_000_000)
    (tmp_path / "large.bin").write_bytes(MEGABYTE * 5)
    run, _ = new_run(hub)
    before = kept(hub)
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "100000000000")
    with pytest.raises(OSError, match="artifact_limit"):  # the client's own kind, that of requests
        client.log_artifact(run, str(tmp_path / "sparse.bin"))
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "1000")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "700000")
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    with pytest.raises(Exception, match="an artifact may have 3000000"):
        client.log_artifact(run, str(tmp_path / "large.bin"))
    assert kept(hub) == before
    assert client.list_artifacts(run) == []


def test_parts_are_counted_together(hub: Hub) -> None:
    _, root = new_run(hub)
    parts = root.replace("/artifacts/0/", "/mpu/create/0/")
    status, made = ask(hub, "POST", parts, {"path": "big.bin", "num_parts": 4})
    assert status == 200, made
    paths = [one["url"].removeprefix(hub.url) for one in made["credentials"]]
    found = [stream(hub, path, 1, len(MEGABYTE)) for path in paths]
    assert [status for status, _, _ in found] == [200, 200, 413, 413]
    assert "Upload 'big.bin' in parts" in found[-1][1]["message"]
    assert (
        ask(hub, "POST", parts.replace("create", "abort"), {"path": "big.bin", "upload_id": made["upload_id"]})[0]
        == 200
    )
    assert not [file for file in kept(hub) if made["upload_id"] in str(file)]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Hub]:
    """A hub whose data lie on a disk of their own, of 32 MB."""
    folder = make_workspace(tmp_path / "shop")
    (folder / ".sampan").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder / ".sampan")]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    running = None
    try:
        running = Hub(folder)
        yield running
        assert running.stop() == 0
    finally:
        if running is not None:
            running.stop()
        subprocess.run(["umount", str(folder / ".sampan")], check=True)


@pytest.mark.parametrize("length", [None, 48 * len(MEGABYTE)])
def test_a_full_disk_refuses_and_leaves_nothing(small: Hub, length: int | None) -> None:
    run, root = new_run(small)
    before = kept(small)
    status, said, _ = stream(small, f"{root}/a.bin", 48, length)
    assert (status, said["error_code"]) == (507, "RESOURCE_EXHAUSTED"), said
    assert "the disk is full" in said["message"] if length is None else "has room for" in said["message"]
    assert kept(small) == before
    assert ask(small, "GET", f"{API}/artifacts/list?run_id={run}")[1]["files"] == []
    assert stream(small, f"{root}/a.bin", 4)[0] == 200  # there is room again
    assert small.json("/readyz")["ready"]


def grown(hub: Hub, work: Callable[[], Any]) -> tuple[Any, float]:
    """What some work gives, and by how many bytes the hub grew meanwhile at most."""
    first = most = memory(hub)
    with ThreadPoolExecutor(1) as alone:
        going = alone.submit(work)
        while not going.done():
            most = max(most, memory(hub))
            time.sleep(0.2)
        return going.result(), max(most, memory(hub)) - first


def test_the_memory_of_the_hub_does_not_grow_with_an_artifact(tmp_path: Path) -> None:
    hub = Hub(make_workspace(tmp_path / "shop"))
    try:
        _, root = new_run(hub)
        stream(hub, f"{root}/first.bin", 4)
        (status, _, _), more = grown(hub, lambda: stream(hub, f"{root}/big.bin", 300))
        assert status == 200
        assert more < FLAT, f"{more / 1e6:.0f} MB more for 314 MB"
    finally:
        assert hub.stop() == 0


@pytest.mark.night
@pytest.mark.parametrize("limit", [5_368_709_120, 11_000_000_000])
def test_ten_gigabytes_are_stopped_or_kept_in_little_memory(tmp_path: Path, limit: int) -> None:
    """Needs 10 GB of disk for a while. Nothing tells the hub beforehand how many will come."""
    if shutil.disk_usage(tmp_path).free < 25_000_000_000:
        pytest.skip("needs 25 GB of free disk")
    hub = Hub(make_workspace(tmp_path / "shop"), "--port", "0", SAMPAN_ARTIFACT_LIMIT=str(limit))
    try:
        run, root = new_run(hub)
        before = kept(hub)
        pieces = 10_000_000_000 // len(MEGABYTE) + 1
        (status, said, sent), more = grown(hub, lambda: stream(hub, f"{root}/big.bin", pieces))
        assert more < FLAT, f"{more / 1e6:.0f} MB more"
        if limit < 10_000_000_000:
            assert (status, said["error_code"]) == (413, "INVALID_PARAMETER_VALUE")
            assert sent * len(MEGABYTE) < limit + 100_000_000
            assert kept(hub) == before
        else:
            assert status == 200
            (file,) = ask(hub, "GET", f"{API}/artifacts/list?run_id={run}")[1]["files"]
            assert file["file_size"] == pieces * len(MEGABYTE)
    finally:
        assert hub.stop() == 0
        shutil.rmtree(hub.folder)
