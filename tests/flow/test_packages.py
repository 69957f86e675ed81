"""The index of installed packages: read in one go, and the same as Python's own answer."""

import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from sampan.flow.packages import Packages, normalised


def test_the_index_says_what_python_says_of_each_package() -> None:
    said: dict[str, str] = {}
    for one in distributions():
        said.setdefault(normalised(one.name), one.version)
    packages = Packages(None)
    assert {normalised(name): version for name, version in packages.all().items()} == said
    assert packages.direct(["yaml", "duckdb"]).keys() == {"PyYAML", "duckdb"}
    assert {"pandas", "numpy", "python-dateutil", "six"} <= packages.versions(["pandas"]).keys()


def test_packages_of_every_form_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel's own notes, with a description that looks like more of them, and those of an old setuptools."""
    head = "Metadata-Version: 2.1\nName: New.One\nVersion: 1.2\nRequires-Dist: old-one >=3\n"
    optional = "Requires-Dist: never ; extra == 'more'\n"
    wheel = tmp_path / "new_one-1.2.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text(f"{head}{optional}\nVersion: 9\nRequires-Dist: never\n")
    (wheel / "RECORD").write_text('new_one/a.py,sha256=x,1\n"single,one.py",,\n../../bin/new,,\nlone.py,,\n')
    egg = tmp_path / "old_one.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Name: old-one\nVersion: 3.1\n")
    (egg / "requires.txt").write_text("six>=1\n\n[more]\nnever\n")
    (egg / "top_level.txt").write_text("old\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    packages = Packages(None)
    assert packages.direct(["new_one", "lone", "single,one"]) == {"New.One": "1.2"}
    assert packages.direct(["old"]) == {"old-one": "3.1"}
    found = packages.versions(["new_one", "nowhere"])
    assert found.items() >= {"New.One": "1.2", "old-one": "3.1", "nowhere": "not installed"}.items()
    assert "six" in found and "never" not in found
