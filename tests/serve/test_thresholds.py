"""Thresholds in the text of decisions.py: read, and patched so that git takes it."""

import subprocess
from pathlib import Path

import pytest

from sampan.base.errors import Refused
from sampan.serve.thresholds import defaults, patch

TEXT = """from sampan import Action, decision
MANY = 9

@decision(model="stay")
def greet(prediction, context, likely: float = 0.45, *, name="ä", first: bool = True, many=MANY):
    return Action("greet")

def other(prediction, context, likely: float = 0.1):
    pass
"""


def test_defaults_are_read_without_running_anything() -> None:
    found = defaults({"decisions.py": TEXT.encode(), "broken.py": b"def (", "a.txt": b""}, "greet")
    assert found == {"likely": 0.45, "name": "ä", "first": True}
    assert defaults({"decisions.py": TEXT.encode()}, "other") == {}, "no decision: nothing decorates it"


def test_a_patch_is_what_git_applies(tmp_path: Path) -> None:
    (tmp_path / "decisions.py").write_text(TEXT)
    made = patch({"decisions.py": TEXT.encode()}, "greet", {"likely": 0.6, "first": False, "name": "ö'\""})
    subprocess.run(["git", "apply", "-"], input=made.encode(), cwd=tmp_path, check=True)

    after = (tmp_path / "decisions.py").read_text()
    assert defaults({"decisions.py": after.encode()}, "greet") == {"likely": 0.6, "name": "ö'\"", "first": False}
    assert after.count("0.45") == 0 and "0.1" in after
    assert patch({"decisions.py": after.encode()}, "greet", {"likely": 0.6}) == "", "it says so already"


def test_a_last_line_without_an_end_is_patched_too(tmp_path: Path) -> None:
    text = "@decision(model='m')\ndef go(p, c, a=1): return a"
    (tmp_path / "decisions.py").write_text(text)
    made = patch({"decisions.py": text.encode()}, "go", {"a": 2})
    subprocess.run(["git", "apply", "-"], input=made.encode(), cwd=tmp_path, check=True)
    assert (tmp_path / "decisions.py").read_text() == text.replace("a=1", "a=2")


def test_what_is_no_plain_value_is_left_to_people() -> None:
    with pytest.raises(Refused, match="'many' is written as a plain value"):
        patch({"decisions.py": TEXT.encode()}, "greet", {"many": 3})
