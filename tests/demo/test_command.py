"""``sampan demo`` as a user types it: what stands in its way is said in one message."""

import socket
import subprocess
import sys

import pytest


def demo(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "sampan", "demo", "--once", *arguments], cwd=folder, capture_output=True, text=True
    )


def test_a_folder_with_something_in_it_is_refused_before_anything_is_made(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = demo(tmp_path, "--workspace", "mine")
    assert done.returncode == 2
    assert "mine exists and is not empty" in done.stderr and "--workspace" in done.stderr
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_taken_port_is_named_and_no_half_made_workspace_stays(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = demo(tmp_path, "--workspace", "shop", "--port", port)
    assert done.returncode == 3
    assert f"Listen on 127.0.0.1:{port}: the port is taken" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "shop").exists()


@pytest.mark.parametrize("port", ["70000", "http"])
def test_a_port_that_is_none_is_wrong_usage(tmp_path, port):
    done = demo(tmp_path, "--port", port)
    assert done.returncode == 2 and "--port" in done.stderr
