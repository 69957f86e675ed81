"""The page on versions: what it shows of PyTorch (`just test-torch`) and of packages trains, and is served."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.cli.conftest import Shell
from tests.docs.test_how_to import FILE, page
from tests.hub.conftest import Hub


def section(title: str) -> str:
    return re.split(r"^## ", page("models").partition(f"\n## {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def write(text: str, folder: Path) -> Shell:
    """A workspace of the files that a text shows."""
    folder.mkdir()
    (folder / "sampan.toml").touch()
    for found in FILE.finditer(text):
        (folder / found[1]).parent.mkdir(parents=True, exist_ok=True)
        (folder / found[1]).write_text(found[0].split("\n", 1)[1].removesuffix("```"), "utf-8")
    return Shell(folder)


def test_what_the_page_shows_of_pytorch_works(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: `just test-torch` runs these")
    shops = [write(section("PyTorch"), tmp_path / name) for name in ("shop", "again")]
    for shop in shops:
        shop("run")
    first, again = (shop.json("model", "show", "churn") for shop in shops)
    assert first["format"] == "pytorch"
    assert first["digest"] == again["digest"]
    (shops[0].folder / "nets.py").write_text("raise SystemExit('not this one')\n")
    shops[0]("endpoint", "deploy", "churn")
    hub = Hub(shops[0].folder)
    try:
        asked = re.search(r"-d '(\{.*?\})'", section("PyTorch"))
        assert asked is not None
        status, answer = hub.predict("churn", asked[1].encode())
        assert status == 200, answer
        leaves = json.loads(answer)["predictions"][0]["prediction"]
        status, answer = hub.predict("churn", json.dumps({**json.loads(asked[1]), "recency": -3.0}).encode())
        stays = json.loads(answer)["predictions"][0]["prediction"]
    finally:
        hub.stop()
    assert 0 < stays < 0.2 < 0.5 < leaves < 1, (stays, leaves)


@pytest.mark.slow
def test_what_the_page_shows_of_a_package_works(tmp_path: Path) -> None:
    text = section("A model that a package brings")
    shop = write(text, tmp_path / "shop")
    project = re.search(r"^```toml\n# package/pyproject.toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert project is not None
    package, site = shop.folder / "package", tmp_path / "site-packages"
    (package / "pyproject.toml").write_text(project[1], "utf-8")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
    subprocess.run(command, cwd=package, check=True, capture_output=True)
    with zipfile.ZipFile(package / "dist" / "churn_rules-1.2.0-py3-none-any.whl") as wheel:
        wheel.extractall(site)
    shop.extra["PYTHONPATH"] = str(site)
    shop("run")
    assert shop.json("model", "show", "churn")["made_with"]["churn-rules"] == "1.2.0"
    assert "same answers" in shop("model", "golden", "churn")
    shop("endpoint", "deploy", "churn")
    hub = Hub(shop.folder, PYTHONPATH=str(site))
    try:
        body = b'{"records": [{"recency": 2.0, "orders": -1.0}, {"recency": -2.0, "orders": 1.0}]}'
        status, answer = hub.predict("churn", body)
        assert status == 200, answer
        leaves, stays = (one["prediction"] for one in json.loads(answer)["predictions"])
    finally:
        hub.stop()
    assert 0 < stays < 0.2 < 0.8 < leaves < 1
    (site / "churn_rules-1.2.0.dist-info").rename(site / "churn_rules-1.3.0.dist-info")
    metadata = site / "churn_rules-1.3.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("1.2.0", "1.3.0"))
    done = shop.run("model", "golden", "churn")
    assert done.returncode == 3
    said = re.search(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert said is not None and said[1].strip() in done.stderr, done.stderr
    plan = {step["name"]: step["why"] for step in shop.json("plan")["steps"]}
    assert plan["churn"] == "package churn-rules: 1.2.0 → 1.3.0"
