"""Records: one writer, durable commits, nothing half done (R14)."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.store.tracing import needs_strace, run, traced

from sampan.base.errors import Busy, Damaged, DiskFull, NewerFormat
from sampan.store.database import Database

ADD = "INSERT INTO branches (name, head, created) VALUES (?, NULL, 0)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


@pytest.fixture
def db(path: Path):
    database = Database(path, writable=True)
    yield database
    database.close()


def names(database: Database) -> set[str]:
    return {row["name"] for row in database.rows("SELECT name FROM branches")}


def test_the_settings_that_make_commits_durable_are_in_force(db):
    with db.transaction() as records:
        found = {
            name: records.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "journal_mode",
                "synchronous",
                "fullfsync",
                "checkpoint_fullfsync",
                "foreign_keys",
                "mmap_size",
            )
        }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "fullfsync": 1,
        "checkpoint_fullfsync": 1,
        "foreign_keys": 1,
        "mmap_size": 0,
    }


def test_a_setting_that_does_not_stick_stops_the_start(path, monkeypatch):
    monkeypatch.setitem(__import__("sampan.store.database", fromlist=["_PRAGMAS"])._PRAGMAS, "synchronous", 7)
    with pytest.raises(Damaged, match="PRAGMA synchronous is"):
        Database(path, writable=True)


@needs_strace
def test_each_of_200_commits_is_synced(path, tmp_path):
    code = f"""
import os
from pathlib import Path
from sampan.store.database import Database
db = Database(Path({str(path)!r}), writable=True)
for number in range(200):
    os.write(1, b"acknowledged\\n")
    with db.transaction() as records:
        records.execute({ADD!r}, (f"b{{number}}",))
os.write(1, b"acknowledged\\n")
db.close()
"""
    lines = traced(code, "write,fsync,fdatasync", tmp_path / "trace")
    synced, in_between = [], 0
    for line in lines:
        if "records.db-wal" in line and ("fdatasync(" in line or "fsync(" in line):
            in_between += 1
        elif "write(1<" in line:
            synced.append(in_between)
            in_between = 0
    assert len(synced) == 201
    assert all(count >= 1 for count in synced[1:]), "a commit returned without a sync of its own"


@needs_strace
def test_after_a_failed_sync_nothing_more_is_acknowledged(path):
    Database(path, writable=True).close()
    code = f"""
from pathlib import Path
from sampan.base.errors import Damaged
from sampan.store.database import Database
db = Database(Path({str(path)!r}), writable=True)
for number in range(6):
    try:
        with db.transaction() as records:
            records.execute({ADD!r}, (f"b{{number}}",))
        print("ok", end=" ")
    except Damaged as error:
        print("refused", end=" ")
"""
    done = run(code, "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=3", "-o", "/dev/null")
    words = done.stdout.split()
    assert len(words) == 6, done.stderr
    assert "refused" in words
    assert "ok" not in words[words.index("refused") :]
    database = Database(path, writable=True)
    assert names(database) == {f"b{number}" for number in range(words.index("refused"))}
    database.close()


def test_a_second_writer_is_refused_and_told_about_its_old_sqlite(db, path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 40, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.40.1")
    with pytest.raises(Busy, match=r"held by process \d+") as caught:
        Database(path, writable=True)
    assert "SQLite 3.40.1 (before 3.51.3) can corrupt its log with two writers" in str(caught.value)


def test_a_second_writer_is_refused_by_a_sound_sqlite_too(db, path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))
    with pytest.raises(Busy, match="One process writes at a time"):
        Database(path, writable=True)


def test_another_process_cannot_write_either_but_may_read(db, path):
    with db.transaction() as records:
        records.execute(ADD, ("main",))
    code = f"""
from pathlib import Path
from sampan.base.errors import Busy
from sampan.store.database import Database
reader = Database(Path({str(path)!r}), writable=False)
print([row["name"] for row in reader.rows("SELECT name FROM branches")])
reader.close()
try:
    Database(Path({str(path)!r}), writable=True)
except Busy:
    print("busy")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "['main']\nbusy\n", done.stderr


def test_the_next_writer_gets_in_after_the_first_closes(path):
    Database(path, writable=True).close()
    Database(path, writable=True).close()


def test_a_reader_of_no_records_finds_nothing_and_makes_no_file(path):
    reader = Database(path, writable=False)
    assert reader.rows("SELECT * FROM branches") == []
    assert reader.row("SELECT * FROM branches") is None
    assert not path.exists()
    reader.close()


def test_a_reader_cannot_write(path):
    Database(path, writable=True).close()
    reader = Database(path, writable=False)
    with pytest.raises(Busy, match="only reads"), reader.transaction():
        pass
    with pytest.raises(sqlite3.OperationalError):
        reader.rows(ADD.replace("?", "'x'"))
    reader.close()


def test_a_reader_opens_records_that_were_closed_cleanly(path):
    with (database := Database(path, writable=True)).transaction() as records:
        records.execute(ADD, ("main",))
    database.close()
    reader = Database(path, writable=False)
    assert names(reader) == {"main"}
    reader.close()


def test_an_error_inside_takes_the_whole_transaction_back(db):
    with pytest.raises(ZeroDivisionError), db.transaction() as records:
        records.execute(ADD, ("kept",))
        with db.transaction() as inner:
            inner.execute(ADD, ("lost",))
            raise ZeroDivisionError
    assert names(db) == set()
    with db.transaction() as records:
        records.execute(ADD, ("next",))
    assert names(db) == {"next"}


def test_only_the_thread_inside_a_transaction_sees_its_changes(db):
    with db.transaction() as records:
        records.execute(ADD, ("mine",))
        assert names(db) == {"mine"}
        seen: list[set[str]] = []
        other = threading.Thread(target=lambda: seen.append(names(db)))
        other.start()
        other.join(5)
        assert seen == [set()], "another thread waited for, or saw, what was not committed"


def test_threads_take_turns_writing(db):
    def write(number: int) -> None:
        for turn in range(10):
            with db.transaction() as records:
                records.execute(ADD, (f"{number}-{turn}",))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(db)) == 80


def test_a_full_disk_is_named_and_the_records_go_on_when_there_is_room(db):
    with db.transaction() as records:
        pages = records.execute("PRAGMA page_count").fetchone()[0]
        records.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(DiskFull, match="is full"), db.transaction() as records:
        for number in range(2000):
            records.execute(ADD, (f"{number}" * 50,))
    assert names(db) == set()
    with db.transaction() as records:
        records.execute("PRAGMA max_page_count=1000000")
        records.execute(ADD, ("room",))
    assert names(db) == {"room"}


def test_a_file_that_is_no_database_is_named(path):
    path.write_bytes(b"this is not a database, not at all" * 100)
    with pytest.raises(Damaged, match=r"records\.db: file is not a database"):
        Database(path, writable=True)
    reader = Database(path, writable=False)
    with pytest.raises(Damaged, match=r"records\.db"):
        reader.rows("SELECT * FROM branches")
    reader.close()


def test_a_mistake_in_sql_stays_a_mistake_in_sql(db):
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        db.rows("SELECT * FROM nowhere")
    with pytest.raises(sqlite3.IntegrityError), db.transaction() as records:
        records.execute("INSERT INTO branches (name, head, created) VALUES ('x', 'no such commit', 0)")


def killed_while_committing(path: Path, after: int) -> int:
    """Kill a process that commits one branch after the other; the last number that it was told is durable."""
    code = f"""
from pathlib import Path
from sampan.store.database import Database
db = Database(Path({str(path)!r}), writable=True)
start = len(db.rows("SELECT name FROM branches"))
for number in range(start, 100_000):
    with db.transaction() as records:
        records.execute({ADD!r}, (f"b{{number:06}}",))
    print(number, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    last = -1
    for _ in range(after):
        last = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split("\n")
    process.stdout.close()
    process.wait()
    return int(rest[-2]) if len(rest) > 1 else last


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.night)])
def test_records_are_whole_after_kills_and_hold_all_that_was_acknowledged(path, kills):
    for kill in range(kills):
        last = killed_while_committing(path, after=1 + kill * 7 % 23)
        database = Database(path, writable=True)
        assert database.rows("PRAGMA integrity_check")[0][0] == "ok"
        found = names(database)
        assert {f"b{number:06}" for number in range(last + 1)} <= found
        assert len(found) <= last + 2, "more than the one commit whose answer was cut off"
        database.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
def test_a_thread_that_ends_leaves_no_connection_open(db):
    """A hub runs each request that takes long in a thread of its own, for years."""
    with db.transaction() as records:
        records.execute(ADD, ("here",))
    opened: list[int] = []

    def read() -> None:
        assert names(db) == {"here"}
        opened.append(len(list(Path("/proc/self/fd").iterdir())))

    for _ in range(40):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert max(opened[20:]) <= opened[0] + 1


def test_a_file_with_a_format_of_its_own(tmp_path):
    own = (("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",),)
    database = Database(tmp_path / "own.db", writable=True, migrations=own)
    with database.transaction() as connection:
        connection.execute("INSERT INTO things (name) VALUES ('a')")
    assert [row[0] for row in database.rows("SELECT name FROM things")] == ["a"]
    assert [row[0] for row in database.rows("SELECT version FROM format")] == [1]
    database.close()
    newer = Database(tmp_path / "own.db", writable=False, migrations=())
    with pytest.raises(NewerFormat):
        newer.rows("SELECT name FROM things")


def test_what_need_not_wait_for_the_disk_is_synced_by_what_follows(tmp_path):
    database = Database(tmp_path / "r.db", writable=True)
    syncs: list[int] = []
    real = os.fdatasync

    def counted(fd: int) -> None:
        syncs.append(fd)
        real(fd)

    with database.transaction(synced=False) as connection:
        connection.execute("CREATE TABLE t (a)")
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 1
    with database.transaction() as connection:
        assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2
    os.fdatasync = counted
    try:
        database.sync()
    finally:
        os.fdatasync = real
    assert len(syncs) == 1
    database.close()


def test_after_a_sync_that_failed_nothing_more_is_written(tmp_path, monkeypatch):
    database = Database(tmp_path / "r.db", writable=True)
    with database.transaction(synced=False) as connection:
        connection.execute("CREATE TABLE t (a)")

    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    assert database.fault == ""
    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(Damaged, match="Input/output error"):
        database.sync()
    monkeypatch.undo()
    assert "Input/output error" in database.fault
    with pytest.raises(Damaged, match="an earlier commit failed"), database.transaction():
        pass
    database.close()
