"""Files that are there after a power cut, whole or not at all."""

import os
import threading
from pathlib import Path

import pytest
from tests.store.tracing import needs_strace, run, traced

from sampan.base.errors import DiskFull
from sampan.base.files import make_folder, publish, write_durably


def test_content_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "hub.json"
    write_durably(path, b"one", 0o600)
    write_durably(path, b"two two", 0o600)
    assert path.read_bytes() == b"two two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_many_threads_writing_one_file_leave_one_of_their_contents(tmp_path):
    path = tmp_path / "x"
    contents = [bytes([number]) * 200_000 for number in range(12)]
    threads = [threading.Thread(target=write_durably, args=(path, content)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_finished_file_gets_its_name(tmp_path):
    (tmp_path / "half").write_bytes(b"done")
    publish(tmp_path / "half", tmp_path / "whole")
    assert (tmp_path / "whole").read_bytes() == b"done"
    assert not (tmp_path / "half").exists()


def test_folders_are_made_with_those_above_them(tmp_path):
    make_folder(tmp_path / "a" / "b" / "c")
    make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()


@needs_strace
def test_the_order_is_bytes_sync_name_sync(tmp_path):
    code = f"""
from pathlib import Path
from sampan.base.files import write_durably
write_durably(Path({str(tmp_path / "x")!r}), b"content")
"""
    calls = "write,rename,renameat,renameat2,fsync,fdatasync"
    lines = [line.split(maxsplit=1)[1] for line in traced(code, calls, tmp_path / "trace") if str(tmp_path) in line]
    kinds = [line.split("(")[0] for line in lines]
    assert [kind.removesuffix("at2").removesuffix("at") for kind in kinds] == ["write", "fdatasync", "rename", "fsync"]


@needs_strace
@pytest.mark.parametrize("call", ["write", "fdatasync", "rename"])
def test_a_kill_at_any_step_leaves_the_old_content_or_the_new(tmp_path, call):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    code = f"""
from pathlib import Path
from sampan.base.files import write_durably
write_durably(Path({str(path)!r}), b"new" * 100)
"""
    run(code, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when=1", "-o", "/dev/null")
    assert path.read_bytes() in (b"old", b"new" * 100)


@needs_strace
def test_a_full_disk_is_named_and_leaves_the_old_content(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    code = f"""
import sys
from pathlib import Path
from sampan.base.errors import DiskFull
from sampan.base.files import write_durably
try:
    write_durably(Path({str(path)!r}), b"new")
except DiskFull:
    sys.exit(42)
"""
    done = run(code, "-e", "trace=write", "-e", "inject=write:error=ENOSPC:when=1+", "-o", "/dev/null")
    assert done.returncode == 42, done.stderr
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]  # noqa: PTH208
    assert DiskFull.status == 507


def test_a_folder_that_may_not_be_written_is_the_systems_error(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "missing" / "x", b"")
