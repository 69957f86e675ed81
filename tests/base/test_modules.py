"""Modules of a workspace, imported by what they say now."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import sys
from pathlib import Path
from sampan.base.modules import import_by_text
if {by_text}:
    import_by_text(Path.cwd())
sys.path.insert(0, ".")
import helper
from part import inner
print(helper.VALUE, inner.VALUE)
"""


def _write(folder: Path, value: int) -> None:
    for path in (folder / "helper.py", folder / "part" / "inner.py"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"VALUE = {value}\n")
        os.utime(path, (1_700_000_000, 1_700_000_000))  # two edits within one second


def _said(folder: Path, *, by_text: bool) -> str:
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _SCRIPT.format(by_text=by_text)]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("by_text", [True, False])
def test_an_edit_of_the_same_size_within_a_second_is_seen(tmp_path: Path, by_text: bool) -> None:
    _write(tmp_path, 1)
    assert _said(tmp_path, by_text=by_text) == "1 1"
    _write(tmp_path, 2)
    assert _said(tmp_path, by_text=by_text) == ("2 2" if by_text else "1 1")  # the latter is what Python does itself
    assert any(tmp_path.rglob("*.pyc")) is not by_text
