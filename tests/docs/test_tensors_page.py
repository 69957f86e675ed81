"""What the pages on adopting and on predictions show of a model of pictures, run as it stands there."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.test_how_to import blocks
from tests.hub.conftest import Hub, sampan


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    (folder / "sampan.toml").touch()
    (code,) = [one for one in blocks("adopt", "python") if one.startswith("# colours.py")]
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
    (command,) = re.findall(r"^sampan (endpoint adopt colours .*)$", "\n".join(blocks("adopt", "bash")), re.MULTILINE)
    words = [str(folder / one) if one.endswith(".onnx") else one for one in command.split()]
    done = sampan(folder, *words)
    assert done.returncode == 0, done.stderr
    assert "It takes image (FP32 [3, -1, -1])." in done.stdout
    made = Hub(folder)
    yield made
    assert made.stop() == 0


def shown(kind: str) -> str:
    return next(one for one in blocks("predictions", kind) if "colours" in one)


def test_the_requests_of_the_page_are_answered(hub: Hub) -> None:
    bodies = re.findall(r"-d '(.*)'", shown("sh"))
    status, said = hub.predict("colours", bodies[0].encode())
    assert status == 200, said
    (one,) = json.loads(said)["predictions"]
    assert list(one["prediction"]) == ["red", "green", "blue"] and one["prediction"]["red"] > 0.5
    response, said = hub.ask("POST", "/invocations/colours", bodies[1].encode(), content_type="application/json")
    assert response.status == 200 and json.loads(said)["predictions"] == [list(one["prediction"].values())]


@pytest.mark.skipif(find_spec("tritonclient") is None, reason="no tritonclient: run `uv run just test-clients`")
def test_the_client_of_the_page_is_answered(hub: Hub, tmp_path: Path) -> None:
    environment = {**os.environ, "SAMPAN_TOKEN": hub.token, "SAMPAN_URL": hub.url}
    hub.predict("colours", b"{}")
    done = subprocess.run(
        [sys.executable, "-c", shown("python")],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["[[0.21", "0.21", "0.58]", "[0.21", "0.21", "0.58]]"]
