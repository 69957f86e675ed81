"""Artifacts: kept under their digest, found by path; no path leads anywhere else."""

from datetime import timedelta
from hashlib import sha256

import pytest

from sampan.base.clock import ManualClock
from sampan.base.errors import Busy, NotFound, Usage
from sampan.track.artifacts import Incoming, check_path
from sampan.track.tracking import Tracking

PAYLOADS = [
    "..",
    "../a",
    "a/../../b",
    "a/..",
    "/etc/passwd",
    "//etc/passwd",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "",
    "..\\..\\windows\\win.ini",
    "a\\..\\b",
    "C:/windows",
    "%2e%2e/a",
    "%2e%2e%2fa",
    "..%2f..%2fetc%2fpasswd",
    "%252e%252e%252fa",
    "%25252e%25252e/a",
    "..%5c..%5ca",
    "%2fetc/passwd",
    "a\x00b",
    "a%00b",
    "a\nb",
    "a#b",
    "a/" * 600 + "b",
    "x" * 256,
]


def put(tracking: Tracking, owner: str, path: str, data: bytes) -> None:
    incoming = Incoming(tracking.artifacts.temporary)
    try:
        incoming.write(data)
        tracking.artifacts.put(owner, path, incoming)
    finally:
        incoming.drop()


def listed(tracking: Tracking, owner: str, path: str = "") -> list[tuple[str, int | None]]:
    return [(file.path, file.size) for file in tracking.artifacts.list(owner, path)]


@pytest.fixture
def run(tracking: Tracking) -> str:
    return tracking.runs.create(0, tags={}).id


@pytest.mark.parametrize("path", PAYLOADS)
def test_a_path_that_leads_elsewhere_is_refused(tracking: Tracking, run: str, path: str) -> None:
    with pytest.raises(Usage, match="Invalid path"):
        put(tracking, run, path, b"x")
    with pytest.raises(Usage, match="Invalid path"):
        tracking.artifacts.find(run, path)
    if path:
        with pytest.raises(Usage, match="Invalid path"):
            tracking.artifacts.list(run, path)
        with pytest.raises(Usage, match="Invalid path"):
            tracking.artifacts.delete(run, path)
    assert listed(tracking, run) == []
    assert list(tracking.artifacts.temporary.iterdir()) == []


@pytest.mark.parametrize("path", ["a", "a/b.txt", "model/MLmodel", "à la carte/50% off", "...", "a..b", ".hidden"])
def test_an_ordinary_path_is_a_key(path: str) -> None:
    assert check_path("Look", path) == path


def test_artifacts_are_listed_level_by_level(tracking: Tracking, run: str) -> None:
    for path in ("b.txt", "a/x", "a/y/z", "a.txt", "a-b/c"):
        put(tracking, run, path, path.encode())
    assert listed(tracking, run) == [("a", None), ("a-b", None), ("a.txt", 5), ("b.txt", 5)]
    assert listed(tracking, run, "a") == [("a/x", 3), ("a/y", None)]
    assert listed(tracking, run, "b.txt") == []
    assert listed(tracking, run, "nothing") == []


def test_the_same_bytes_are_kept_once_and_the_newest_of_a_path_counts(tracking: Tracking, run: str) -> None:
    put(tracking, run, "one", b"same")
    put(tracking, run, "two", b"same")
    put(tracking, run, "one", b"other")
    file = tracking.artifacts.find(run, "one")
    assert tracking.artifacts.location(file).read_bytes() == b"other"
    kept = [path for path in (tracking.db.path.parent / "artifacts").rglob("*") if path.is_file()]
    assert {path.parent.name + path.name for path in kept} == {sha256(data).hexdigest() for data in (b"same", b"other")}


def test_a_file_is_no_folder_and_a_folder_no_file(tracking: Tracking, run: str) -> None:
    put(tracking, run, "a/b", b"x")
    with pytest.raises(Usage, match="'a' is a folder"):
        put(tracking, run, "a", b"x")
    with pytest.raises(Usage, match="'a/b' is a file"):
        put(tracking, run, "a/b/c/d", b"x")


def test_what_is_deleted_is_gone_and_nothing_else(tracking: Tracking, run: str) -> None:
    for path in ("a/x", "a/y", "ab", "a.b"):
        put(tracking, run, path, b"x")
    assert tracking.artifacts.delete(run, "a") == 2
    assert listed(tracking, run) == [("a.b", 1), ("ab", 1)]
    with pytest.raises(NotFound):
        tracking.artifacts.delete(run, "a")
    assert tracking.artifacts.delete(run) == 2


def test_nobody_else_s_artifacts_are_found(tracking: Tracking, run: str) -> None:
    put(tracking, run, "a", b"x")
    other = tracking.runs.create(0, tags={}).id
    with pytest.raises(NotFound):
        tracking.artifacts.find(other, "a")
    with pytest.raises(NotFound, match="no run and no logged model"):
        put(tracking, "nobody", "a", b"x")


def part(tracking: Tracking, upload: str, number: int, data: bytes) -> str:
    incoming = Incoming(tracking.artifacts.temporary)
    try:
        incoming.write(data)
        return tracking.uploads.keep(tracking.uploads.get(upload), number, incoming)
    finally:
        incoming.drop()


def test_parts_come_in_any_order_and_are_put_together(tracking: Tracking, run: str) -> None:
    upload = tracking.uploads.begin(run, "big/file", 3)
    tags = {number: part(tracking, upload.id, number, bytes([number]) * 10) for number in (3, 1, 2)}
    part(tracking, upload.id, 2, b"sent again, differently")
    made = tracking.uploads.complete(upload.id, run, "big/file", tags)
    assert tracking.artifacts.location(made).read_bytes() == b"\1" * 10 + b"\2" * 10 + b"\3" * 10
    assert list(tracking.artifacts.temporary.iterdir()) == []
    with pytest.raises(NotFound, match="no upload has the ID"):
        tracking.uploads.complete(upload.id, run, "big/file", tags)


def test_an_upload_that_is_not_whole_is_refused_and_one_given_up_leaves_nothing(tracking: Tracking, run: str) -> None:
    upload = tracking.uploads.begin(run, "f", 2)
    tag = part(tracking, upload.id, 1, b"x")
    with pytest.raises(Usage, match=r"parts \[2\] of 2 are missing"):
        tracking.uploads.complete(upload.id, run, "f", {1: tag})
    for wrong in ("0" * 64, "../../x", ""):
        with pytest.raises(Usage, match="part 2 was not sent"):
            tracking.uploads.complete(upload.id, run, "f", {1: tag, 2: wrong})
    with pytest.raises(Usage, match="is an upload of 'f'"):
        tracking.uploads.abort(upload.id, run, "g")
    with pytest.raises(Usage, match="there are 2"):
        part(tracking, upload.id, 3, b"x")
    tracking.uploads.abort(upload.id, run, "f")
    assert not [path for path in tracking.artifacts.temporary.iterdir() if path.is_dir()]
    assert listed(tracking, run) == []


def test_one_process_at_a_time_writes(tracking: Tracking, clock: ManualClock) -> None:
    with pytest.raises(Busy):
        Tracking(tracking.db.path.parent, clock)


def test_what_a_killed_process_left_behind_goes_at_the_next_start(
    tracking: Tracking, run: str, clock: ManualClock
) -> None:
    temporary = tracking.artifacts.temporary
    forgotten = tracking.uploads.begin(run, "old", 1)
    part(tracking, forgotten.id, 1, b"x")
    clock.advance(timedelta(days=8))
    going_on = tracking.uploads.begin(run, "new", 1)
    tag = part(tracking, going_on.id, 1, b"y")
    (temporary / "artifact-0123").write_bytes(b"half of it")
    (temporary / "other").write_bytes(b"somebody else's")
    tracking.close()
    again = Tracking(tracking.db.path.parent, clock)
    assert {path.name for path in temporary.iterdir()} == {f"upload-{going_on.id}", "other"}
    assert again.uploads.complete(going_on.id, run, "new", {1: tag}).size == 1
    again.close()
