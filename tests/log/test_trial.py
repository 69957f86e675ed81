"""A repair rule in a process of its own: what it does there harms nobody, and it ends in time."""

import time
from pathlib import Path

import pytest

from sampan.base.clock import SystemClock
from sampan.base.digests import digest_bytes
from sampan.base.errors import BadWorkspace
from sampan.base.settings import Settings
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.trial import propose_apart

CONTRACTS = "from sampan import Event\n\n\nclass Visit(Event, version=1):\n    page: str\n"


@pytest.fixture
def log(tmp_path: Path) -> Log:
    (tmp_path / "contracts.py").write_text(CONTRACTS)
    made = Log(tmp_path / "log", Contracts.load(tmp_path / "contracts.py"), SystemClock(), Settings())
    writer = made.writer()
    writer.append(writer.checker.batch([b'{"id":"1","type":"visit","source":"s","time":"2026-01-01T00:00:00Z"}']), "t")
    writer.close()
    return made


def rule(folder: Path, text: str) -> tuple[Path, str]:
    path = folder / "rule.py"
    path.write_text(text)
    return path, digest_bytes(path.read_bytes())


def test_a_rule_proposes_what_it_would_make_of_each_item(log: Log, tmp_path: Path) -> None:
    path, digest = rule(tmp_path, "def fix(event, reason):\n    return event | {'data': {'page': '/'}}\n")
    (proposal,) = propose_apart(log, path, digest)
    assert proposal.wrong is None
    assert '"page":"/"' in (proposal.after or "")


def test_a_rule_that_does_not_end_is_ended_with_all_that_it_started(log: Log, tmp_path: Path) -> None:
    note = tmp_path / "child"
    path, digest = rule(
        tmp_path,
        "import subprocess, time\n\n\ndef fix(event, reason):\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        f"    open({str(note)!r}, 'w').write(str(child.pid))\n    time.sleep(60)\n",
    )
    begun = time.monotonic()
    with pytest.raises(BadWorkspace, match="more than 3 s"):
        propose_apart(log, path, digest, seconds=3)
    assert time.monotonic() - begun < 10
    state = Path(f"/proc/{note.read_text()}/stat")
    while state.exists() and state.read_text().split()[2] != "Z":  # a killed process takes a moment to die
        assert time.monotonic() - begun < 10
        time.sleep(0.01)


def test_a_rule_that_changed_since_it_was_looked_at_is_not_run(log: Log, tmp_path: Path) -> None:
    path, digest = rule(tmp_path, "def fix(event, reason):\n    return None\n")
    path.write_text("open('/tmp/never', 'w')\n")
    with pytest.raises(BadWorkspace, match="has changed"):
        propose_apart(log, path, digest)
