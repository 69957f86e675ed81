"""``sampan demo`` as a user types it: what stands in its way is said in one message."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_takes_its_hub_along(tmp_path, number):
    started = subprocess.Popen(
        [sys.executable, "-u", "-m", "sampan", "demo", "--workspace", "shop"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said = []
    for line in started.stdout:
        said.append(line)
        if line.startswith("Send the history"):
            break
    hub = json.loads((tmp_path / "shop" / ".sampan" / "hub.json").read_text())["pid"]
    time.sleep(0.5)  # in the middle of it
    started.send_signal(number)
    rest = started.communicate(timeout=60)[0]
    assert started.returncode == 130, [*said, rest]
    assert "Traceback" not in rest and "Stopped." in rest
    with pytest.raises(ProcessLookupError):
        os.kill(hub, 0)
