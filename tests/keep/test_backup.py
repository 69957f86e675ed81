"""A backup under load is whole, on an empty machine, once; and no kill leaves one that only seems to be."""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sampan.base.clock import SystemClock
from sampan.base.errors import Damaged, NotFound, Refused
from sampan.base.settings import Folder, Settings
from sampan.keep.backup import Backup, Made
from sampan.keep.manifest import read
from sampan.keep.restore import restore
from sampan.keep.retention import Retention
from sampan.log.attachments import Attachments
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.track.artifacts import Incoming
from sampan.track.records import Metric
from sampan.track.tracking import Tracking
from tests.cli.conftest import Here, here, hub, shell
from tests.hub.conftest import Hub, make_workspace
from tests.keep.past import Past
from tests.killed import die, killed

__all__ = ["here", "hub", "shell"]  # fixtures

CONTRACTS = """
from typing import Annotated
from sampan import Blob, Event, Field

class Visit(Event, version=1):
    page: str
    visitor: Annotated[str | None, Field(subject=True)] = None
    mail: Annotated[str | None, Field(personal=True)] = None
    picture: Blob | None = None
"""


def visit(number: int) -> dict[str, Any]:
    picture = {"media_type": "text/plain", "base64": "aGVsbG8="}
    data = {"page": f"/{number % 7}", "visitor": f"v{number % 50}", "mail": f"v{number % 50}@example.org"}
    event = {"id": str(number), "type": "visit", "source": "web", "time": "2026-01-01T10:00:00Z", "data": data}
    return event | {"data": data | ({"picture": picture} if number % 20 == 0 else {})}


class Sender:
    """Sends events one batch after the other, and knows which were acknowledged."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.acknowledged, self.ending = hub, 0, False
        self.thread = threading.Thread(target=self._send)

    def _send(self) -> None:
        while not self.ending:
            first = self.acknowledged
            verdicts = self.hub.send(*(visit(number) for number in range(first, first + 40)))
            assert all(one["verdict"] == "accepted" for one in verdicts), verdicts
            self.acknowledged = first + 40
            time.sleep(0.1)  # each sealed segment costs a process: leave it a processor

    def __enter__(self) -> "Sender":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending = True
        self.thread.join()


@pytest.fixture
def busy(here: Here) -> Iterator[Hub]:
    """A hub that seals often, of events with personal fields and bytes of their own."""
    (here.folder / "sampan.toml").write_text("[settings]\nsegment_events = 400\n")
    (here.folder / "contracts.py").write_text(CONTRACTS)
    running = Hub(here.folder)
    yield running
    running.stop()


@pytest.mark.slow
def test_a_backup_under_load_is_a_whole_workspace_elsewhere(busy: Hub, here: Here, tmp_path: Path) -> None:
    to, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"
    with Sender(busy) as sender:
        while sender.acknowledged < 900:
            time.sleep(0.05)
        here("run")
        before = sender.acknowledged
        made = here.json("backup", str(to))
        sending = sender.acknowledged
        again = here.json("backup", str(to))
    assert sending > 0 and made["missing"] == again["missing"] == {}
    assert again["copied"] < again["files"] / 2  # the sealed segments and tables were there
    assert (to.stat().st_mode & 0o777, again["keys"]) == (0o700, True)
    assert here.json("restore", str(to), str(elsewhere))["root"] == again["root"]
    there = Here(elsewhere)
    assert there.json("log", "verify")["faults"] == []
    ids = [int(row[0]) for row in there.json("sql", "select _id from visit")["rows"]]
    assert len(ids) == len(set(ids)) and set(range(before)) <= set(ids)
    mails = there.json("sql", "select distinct mail from visit")["rows"]
    assert ["v7@example.org"] in mails and [None] not in mails
    snapshots = [[one["name"], one["snapshot"]] for one in here.json("table", "list")["tables"]]
    assert [[one["name"], one["snapshot"]] for one in there.json("table", "list")["tables"]] == snapshots
    for asked in (["runs", "list"], ["branch", "log"]):
        assert there.json(*asked) == here.json(*asked)
    question = "select * from pages order by page"
    assert there.json("sql", question)["rows"] == here.json("sql", question)["rows"]
    assert Attachments(elsewhere / ".sampan" / "attachments").get(sha256(b"hello").hexdigest()) == b"hello"
    assert (elsewhere / ".sampan" / "keys.db").stat().st_mode & 0o777 == 0o600
    hub = Hub(elsewhere)  # with another index, another token
    try:
        for first in range(0, before, 200):
            again = hub.send(*(visit(number) for number in range(first, min(first + 200, before))))
            assert {one["verdict"] for one in again} == {"duplicate"}
        assert {one["verdict"] for one in hub.send(visit(10_000_000))} == {"accepted"}
        assert hub.token != busy.token
    finally:
        hub.stop()
    assert there.json("gc")["missing"] == {}


@pytest.mark.slow
def test_a_backup_without_keys_says_so_and_holds_none(busy: Hub, here: Here, tmp_path: Path) -> None:
    busy.send(*(visit(number) for number in range(20)))
    whole = here.json("backup", str(tmp_path / "backup"))
    assert whole["keys"]
    keys = [entry.sha256 for entry in read(tmp_path / "backup").files if entry.path == ".sampan/keys.db"]
    assert "cannot be read" in here("backup", str(tmp_path / "backup"), "--without-keys")
    assert not (tmp_path / "backup" / "files" / keys[0][:2] / keys[0][2:]).exists()  # the copy before has gone, too
    here("restore", str(tmp_path / "backup"), str(tmp_path / "elsewhere"))
    there = Here(tmp_path / "elsewhere")
    assert there.json("log", "verify")["faults"] == []
    assert there.json("sql", "select count(*), count(mail) from visit")["rows"] == [[20, 0]]


# -- what is wrong with a backup, a folder


class Workspace(Past):
    """A past in a workspace, without a hub."""

    def __init__(self, root: Path) -> None:
        make_workspace(root)
        super().__init__(root / ".sampan")
        (self.data / "format").write_text("1\n")
        self.root = root

    def backup(self, to: Path) -> Made:
        log = Log(self.data / "log", Contracts(), SystemClock(), Settings())
        return Backup(Folder(self.root), self.db, log, self.clock, Retention(), to).make()


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "shop")
    made.run({"a": "1", "b": "2"})
    made.deploy(made.version("one"), "rules")
    yield made
    made.close()


def restored(backup: Path, to: Path) -> Past:
    restore(backup, to)
    return Past(to / ".sampan")


def test_versions_tables_and_endpoints_are_there_afterwards(workspace: Workspace, tmp_path: Path) -> None:
    made = workspace.backup(tmp_path / "backup")
    there = restored(tmp_path / "backup", tmp_path / "elsewhere")
    assert there.faults() == [] and there.files() == workspace.files()
    assert there.lake.tables() == workspace.lake.tables()
    assert there.models.list() == workspace.models.list()
    assert made.copied == len({entry.sha256 for entry in read(tmp_path / "backup").files})
    assert (tmp_path / "elsewhere" / "tables" / "pages.sql").read_text().startswith("SELECT")
    there.close()


def test_logged_runs_and_their_artifacts_are_in_it(workspace: Workspace, tmp_path: Path) -> None:
    tracking = Tracking(workspace.data, workspace.clock)
    run = tracking.runs.create(0, name="one", tags={}).id
    tracking.logging.log(run, [Metric("m", 0.5, 1)], [("p", "1")]).result()
    for path, data in (("a", b"kept"), ("b", b"lost")):
        incoming = Incoming(tracking.artifacts.temporary)
        incoming.write(data)
        tracking.artifacts.put(run, path, incoming)
    tracking.artifacts.location(tracking.artifacts.find(run, "b")).unlink()
    made = workspace.backup(tmp_path / "backup")  # while it is written to
    tracking.logging.log(run, params=[("later", "1")]).result()
    tracking.close()
    assert made.missing == {sha256(b"lost").hexdigest(): f"artifact {run}/b"}
    restore(tmp_path / "backup", tmp_path / "elsewhere")
    there = Tracking(tmp_path / "elsewhere" / ".sampan", workspace.clock)
    found = there.runs.get(run)
    assert (found.params, [metric.value for metric in found.metrics]) == ({"p": "1"}, [0.5])
    assert there.artifacts.location(there.artifacts.find(run, "a")).read_bytes() == b"kept"
    there.close()
    digest = sha256(b"kept").hexdigest()
    (tmp_path / "backup" / "files" / digest[:2] / digest[2:]).unlink()
    with pytest.raises(Damaged):
        restore(tmp_path / "backup", tmp_path / "again")


def test_every_damaged_or_missing_file_is_named_and_nothing_is_written(workspace: Workspace, tmp_path: Path) -> None:
    to, elsewhere = tmp_path / "backup", tmp_path / "elsewhere"
    workspace.backup(to)
    for entry in read(to).files:
        path = to / "files" / entry.sha256[:2] / entry.sha256[2:]
        if not entry.bytes:
            continue
        whole = path.read_bytes()
        path.chmod(0o600)
        for wrong in (bytes([whole[0] ^ 1]) + whole[1:], whole[:-1], None):
            path.unlink() if wrong is None else path.write_bytes(wrong)
            with pytest.raises(Damaged, match=entry.sha256[2:]):
                restore(to, elsewhere)
            assert not elsewhere.exists()
        path.write_bytes(whole)
    manifest = (to / "manifest.json").read_bytes()
    for wrong in (manifest.replace(b'"keys"', b'"keyz"'), manifest[: len(manifest) // 2], b""):
        (to / "manifest.json").write_bytes(wrong)
        with pytest.raises(Damaged, match="its own digest"):
            restore(to, elsewhere)
    (to / "manifest.json").unlink()
    with pytest.raises(NotFound, match="did not come to its end"):
        restore(to, elsewhere)
    with pytest.raises(NotFound, match="is not there"):
        restore(tmp_path / "nowhere", elsewhere)


def test_a_file_that_is_not_as_it_was_does_not_get_into_a_backup(workspace: Workspace, tmp_path: Path) -> None:
    path = workspace.lake.paths(workspace.lake.table("a"))[0]
    path.chmod(0o600)
    path.write_bytes(b"something else")
    with pytest.raises(Damaged, match="does not match its digest"):
        workspace.backup(tmp_path / "backup")
    path.unlink()
    made = workspace.backup(tmp_path / "backup")
    assert list(made.missing) == [workspace.lake.table("a").files[0].sha256]
    assert restore(tmp_path / "backup", tmp_path / "elsewhere").missing == made.missing


def test_nothing_is_overwritten(workspace: Workspace, tmp_path: Path) -> None:
    workspace.backup(tmp_path / "backup")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(Refused, match="it holds 'mine'"):
        restore(tmp_path / "backup", tmp_path / "full")
    with pytest.raises(Refused, match="which no backup makes"):
        workspace.backup(tmp_path / "full")
    with pytest.raises(Refused, match="in the workspace itself"):
        workspace.backup(workspace.root / "backup")


# -- killed


CHANGES = {"os.rename", "os.remove", "os.chmod", "os.mkdir"}


def killed_at(at: int, work: Callable[[], object]) -> bool:
    """Do something in a process that is killed at its ``at``-th change of a name or right; whether it came to that."""

    def counted() -> None:
        steps = iter(range(100_000))

        def hook(event: str, _: object) -> None:
            if event in CHANGES and next(steps) == at:
                die()

        sys.addaudithook(hook)
        work()

    return killed(counted)


@pytest.mark.slow
def test_a_backup_that_was_killed_is_none_and_leaves_the_one_before(workspace: Workspace, tmp_path: Path) -> None:
    to = tmp_path / "backup"
    assert killed_at(12, lambda: workspace.backup(to))
    with pytest.raises(NotFound, match="did not come to its end"):
        restore(to, tmp_path / "none")
    workspace.backup(to)
    first = workspace.files()
    workspace.run({"a": "3"})
    at = 0
    while killed_at(at, lambda: workspace.backup(to)):
        there = restored(to, tmp_path / str(at))
        assert there.faults() == [] and there.files() in (first, workspace.files())
        there.close()
        at += 1
    assert at > 5
    there = restored(to, tmp_path / "end")
    assert there.files() == workspace.files()
    there.close()


@pytest.mark.slow
def test_a_restore_that_was_killed_is_no_workspace_and_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    to = tmp_path / "backup"
    workspace.backup(to)
    at = 0
    while killed_at(at, lambda: restore(to, tmp_path / "there")):
        if (tmp_path / "there" / "sampan.toml").exists():
            assert not list((tmp_path / "there").rglob(".*.restoring"))  # all else was there
        there = restored(to, tmp_path / "there")
        assert there.faults() == [] and there.files() == workspace.files()
        there.close()
        shutil.rmtree(tmp_path / "there")
        at += 1
    assert at > 20


def test_two_at_a_time_and_a_clean_up_meanwhile_are_refused(here: Here, tmp_path: Path) -> None:
    from sampan.app import App

    here("branch", "new", "try")
    app = App(here.folder)
    with app._settled("Test"):
        assert "going on" in here.complaint("backup", str(tmp_path / "backup"), code=3)
        assert "going on" in here.complaint("gc", "--apply", code=3)
    app.close()
    assert json.loads(here("backup", str(tmp_path / "backup"), "--json"))["files"] > 3
