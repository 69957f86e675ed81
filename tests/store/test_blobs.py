"""Bytes by their digest."""

import hashlib
import os
import threading
from pathlib import Path

import pytest
from tests.store.tracing import needs_strace, traced

from sampan.base.errors import Damaged, NotFound
from sampan.store.blobs import Blobs


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def test_what_was_put_is_got_by_its_sha256(blobs):
    digest = blobs.put(b"a model")
    assert digest == hashlib.sha256(b"a model").hexdigest()
    assert blobs.get(digest) == b"a model"
    assert blobs.has(digest)


def test_putting_again_makes_it_young_again_and_changes_nothing_else(blobs):
    digest = blobs.put(b"a model")
    path = blobs.path(digest)
    os.utime(path, (0, 0))
    before = path.stat()
    assert blobs.put(b"a model") == digest
    assert path.stat().st_mtime > 0
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)


def test_what_was_put_since_is_not_discarded(blobs):
    digest = blobs.put(b"a model")
    assert not blobs.discard(digest, 1.0)
    os.utime(blobs.path(digest), (0, 0))
    assert blobs.discard(digest, 1.0)
    assert not blobs.discard(digest, 1.0) and not blobs.has(digest)


def test_a_blob_cannot_be_written_by_accident(blobs):
    assert blobs.path(blobs.put(b"x")).stat().st_mode & 0o222 == 0


def test_a_changed_blob_is_never_handed_out(blobs):
    digest = blobs.put(b"a model")
    path = blobs.path(digest)
    path.chmod(0o644)
    path.write_bytes(b"another")
    with pytest.raises(Damaged, match=r"^Read a blob: blobs/\w\w/\w+ does not match its digest"):
        blobs.get(digest)


def test_a_missing_blob_is_named(blobs):
    with pytest.raises(NotFound, match="is not in"):
        blobs.get("0" * 64)


@pytest.mark.parametrize(
    "digest", ["", "..", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 65, "/" + "0" * 63, "é" * 64]
)
def test_only_a_digest_is_a_name(blobs, digest):
    with pytest.raises(NotFound, match="is not a SHA-256 digest"):
        blobs.path(digest)


def test_a_finished_file_is_taken_over(blobs, tmp_path):
    for _ in range(2):  # the second time it is there already
        temporary = tmp_path / "finished"
        temporary.write_bytes(b"a table")
        digest = blobs.adopt(temporary)
        assert blobs.get(digest) == b"a table"
        assert not temporary.exists()


def test_many_threads_putting_the_same_bytes_leave_one_whole_blob(blobs):
    data = bytes(2_000_000)
    digests: list[str] = []
    threads = [threading.Thread(target=lambda: digests.append(blobs.put(data))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(digests) == {hashlib.sha256(data).hexdigest()}
    assert blobs.get(digests[0]) == data
    assert [path.name for path in blobs.path(digests[0]).parent.iterdir()] == [digests[0][2:]]


@needs_strace
def test_bytes_and_then_names_are_synced_before_put_returns(tmp_path):
    code = f"""
import os
from pathlib import Path
from sampan.store.blobs import Blobs
Blobs(Path({str(tmp_path / "new" / "blobs")!r})).put(b"x")
os.write(1, b"done")
"""
    lines = traced(code, "mkdir,rename,renameat,renameat2,fsync,fdatasync,write", tmp_path / "trace")
    lines = [line.split(maxsplit=1)[1] for line in lines if str(tmp_path) in line or "write(1<" in line]
    kinds = [line.split("(")[0] for line in lines]
    digest = hashlib.sha256(b"x").hexdigest()
    renamed = next(at for at, kind in enumerate(kinds) if kind.startswith("rename"))
    assert kinds[-1] == "write"
    assert kinds[renamed - 1] in ("fdatasync", "fsync"), "the bytes were not synced before they got their name"
    assert kinds[renamed + 1] == "fsync"
    assert f"/{digest[:2]}>" in lines[renamed + 1], "the folder was not synced after the rename"
    made = [at for at, kind in enumerate(kinds) if kind == "mkdir"]
    assert len(made) == 3
    assert all(kinds[at + 1] == "fsync" for at in made), "a new folder's name was not synced"
