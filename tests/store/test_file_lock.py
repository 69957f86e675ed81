"""Locks that end with their process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.base.errors import Busy
from sampan.store.lock import FileLock

HOLD = """
import sys, time
from pathlib import Path
from sampan.store.lock import FileLock
lock = FileLock(Path(sys.argv[1]), "Hold", "")
print("held", flush=True)
time.sleep(60)
"""


def test_the_second_is_told_who_holds_it_and_what_to_do(tmp_path):
    with FileLock(tmp_path / "writer.lock", "Run the flow", "Wait."), pytest.raises(Busy) as caught:
        FileLock(tmp_path / "writer.lock", "Run the flow", "Wait.")
    assert str(caught.value).startswith("Run the flow: writer.lock is held by process ")
    assert str(caught.value).endswith("\n  Wait.")


def test_it_is_free_again_after_release_and_release_may_be_repeated(tmp_path):
    lock = FileLock(tmp_path / "a" / "writer.lock", "Run", "")
    lock.release()
    lock.release()
    FileLock(tmp_path / "a" / "writer.lock", "Run", "").release()


def test_a_killed_holder_lets_go(tmp_path: Path):
    path = tmp_path / "writer.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(Busy, match=f"process {holder.pid}"):
        FileLock(path, "Run", "")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    FileLock(path, "Run", "").release()
