"""Days on which the disk, the machine or somebody's hand is against us: one message, the right code, nothing lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Here, Shell
from tests.hub.conftest import Hub, environment, visit


@pytest.fixture
def loaded(here: Here, visits: Path) -> Here:
    """A workspace with events and a published table."""
    here("log", "load", str(visits), "--type", "visit")
    here("run")
    return here


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["run"], ["plan"], ["sql", "FROM visit"], ["log", "stats"], ["log", "tail"], ["quarantine", "list"]]
)
def test_a_damaged_log_is_never_read_as_a_shorter_one(loaded: Here, command: list[str]) -> None:
    flip(loaded.folder / ".sampan" / "log" / "intake" / "00000001.log", -5)
    said = loaded.complaint(*command, code=3)
    assert "is damaged, though it was synced" in said
    assert "restore the file from a backup" in said


def test_the_changed_byte_is_named(loaded: Here) -> None:
    flip(loaded.folder / ".sampan" / "log" / "intake" / "00000001.log", -5)
    assert "intake/00000001.log at byte " in loaded("log", "verify", code=1)
    assert loaded.json("log", "verify", code=1)["faults"]


def test_a_damaged_page_of_a_sealed_segment_is_noticed_when_it_is_read(loaded: Here) -> None:
    import pyarrow.parquet as pq

    from sampan.log.seal import seal

    folder = loaded.folder / ".sampan" / "log" / "intake"
    seal(folder, 1)
    (folder / "00000001.log").unlink()
    assert loaded.json("sql", "select count(*) from visit")["rows"] == [[2]]
    with pq.ParquetFile(folder / "00000001.events.parquet") as file:
        column = file.metadata.row_group(0).column(file.schema.names.index("raw"))
    at = column.data_page_offset + column.total_compressed_size - 10  # in the page's last text
    flip(folder / "00000001.events.parquet", at)
    assert "Run `sampan log verify`" in loaded.complaint("log", "tail", code=3)
    assert f"00000001.events.parquet at byte {at}" in loaded("log", "verify", code=1)


@pytest.mark.slow
def test_a_damaged_table_is_named_and_built_again_once_it_is_gone(loaded: Here) -> None:
    (file,) = [path for path in (loaded.folder / ".sampan" / "lake").rglob("*") if path.is_file()]
    whole = file.read_bytes()
    file.write_bytes(whole[:-20] + bytes(20))
    said = loaded.complaint("sql", "FROM pages", code=3)
    assert "not as it was written" in said
    assert str(file) in said
    file.unlink()
    loaded("run")
    assert loaded.json("sql", "select count(*) from pages")["rows"] == [[2]]


def test_a_file_where_the_data_should_be_is_one_message(here: Here) -> None:
    (here.folder / ".sampan").write_text("")
    assert "is a file" in here.complaint("run", code=2)


def mounted(*arguments: str) -> bool:
    """Mount something, where that is allowed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


def unmount(place: Path, patience: float = 20.0) -> None:
    """Unmount again; a worker of the last command may need a moment to be gone."""
    until = time.monotonic() + patience
    while subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
        assert time.monotonic() < until, f"{place} is still in use"
        time.sleep(0.1)


def test_a_folder_that_may_only_be_read_can_be_read(loaded: Here, tmp_path: Path) -> None:
    place = tmp_path / "readable"
    place.mkdir()
    if not (mounted("--bind", str(loaded.folder), str(place)) and mounted("-o", "remount,ro,bind", str(place))):
        pytest.skip("may not mount")
    try:
        there = Here(place)
        assert there.json("sql", "select count(*) from pages")["rows"] == [[2]]
        assert there.json("log", "stats")["accepted"] == 2
        assert there.json("quarantine", "list")["total"] == 1
        assert "as they were written" in there("log", "verify")
        for command in (["run"], ["up", "--port", "0"], ["token", "create", "x"], ["init", "shop"]):
            said = there.complaint(*command, code=3)
            assert "read-only file system" in said
            assert "please report" not in said
    finally:
        unmount(place)


def test_a_full_disk_is_said_and_nothing_is_lost(loaded: Here, tmp_path: Path, visits: Path) -> None:
    import shutil

    place = tmp_path / "small"
    place.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)):
        pytest.skip("may not mount")
    try:
        there = Here(shutil.copytree(loaded.folder, place / "shop"))
        (there.folder / "tables" / "more.sql").write_text("SELECT * FROM visit\n")
        fill = place / "fill"
        with pytest.raises(OSError, match="No space"), fill.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        for command in (["run"], ["plan"], ["up", "--port", "0"]):
            assert "is full" in there.complaint(*command, code=3), command
        fill.unlink()
        there("run")
        assert there.json("sql", "select count(*) from more")["rows"] == [[2]]
        assert "as they were written" in there("log", "verify")
    finally:
        unmount(place)


@pytest.mark.slow
def test_a_notebook_reads_tables_by_name(loaded: Here) -> None:
    script = (
        "import sampan\nfrom sampan.base.errors import NotFound\n"
        "frame = sampan.table('pages').df()\n"
        "print(sorted(frame.page), sampan.table('pages').arrow().num_rows, sampan.table('pages').polars().height)\n"
        "try:\n    sampan.table('nothing')\n"
        "except NotFound as error:\n    print(type(error).__name__, '|', str(error).splitlines()[0])\n"
    )
    inner = loaded.folder / "notebooks"
    inner.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", script],
        cwd=inner,
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['/a', '/b'] 2 2",
        "NotFound | Open a table: no table 'nothing' on main",
    ]


SLOW = (
    "import time\nfrom sampan import step\n\n\n@step\ndef slow(pages: list) -> int:\n    time.sleep(5)\n    return 1\n"
)


def wait_for(shell: Shell, state: str) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        runs = shell.json("runs", "list")["runs"]
        if runs and runs[0]["state"] == state:
            return
        time.sleep(0.1)
    raise AssertionError(f"the run did not become {state}: {runs}")


@pytest.mark.slow
def test_ctrl_c_stops_the_command_and_the_run_in_the_hub_goes_on(here: Here, hub: Hub) -> None:
    hub.send(visit("1"))
    (here.folder / "steps.py").write_text(SLOW.replace("sleep(5)", "sleep(1.5)"))
    command = [sys.executable, "-m", "sampan", "run"]
    process = subprocess.Popen(
        command, cwd=here.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    wait_for(here, "running")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "goes on in the hub" in said
    wait_for(here, "succeeded")
