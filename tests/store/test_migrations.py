"""The format of the records: upgraded whole or not at all, refused politely when it is from the future."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.base.errors import NewerFormat
from sampan.store.database import FORMAT, Database
from sampan.store.migrations import MIGRATIONS, format_of, migrate

# A made-up next release, three migrations ahead
NEXT = (
    *MIGRATIONS,
    ("CREATE TABLE alarms (id TEXT PRIMARY KEY)", "ALTER TABLE runs ADD COLUMN box TEXT NOT NULL DEFAULT ''"),
    ("CREATE INDEX alarms_by_id ON alarms (id)", "UPDATE runs SET box = 'here'", "CREATE TABLE boxes (name TEXT)"),
)


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def test_fresh_records_have_this_format(tmp_path):
    database = Database(tmp_path / "r.db", writable=True)
    assert [row[0] for row in database.rows("SELECT version FROM format")] == list(range(1, FORMAT + 1))
    database.close()


def test_opening_again_changes_nothing(tmp_path):
    path = tmp_path / "r.db"
    Database(path, writable=True).close()
    before = path.read_bytes()
    Database(path, writable=True).close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("writable", [True, False])
def test_a_newer_format_is_refused_politely_and_left_alone(tmp_path, writable):
    path = tmp_path / "r.db"
    Database(path, writable=True).close()
    connection = connect(path)
    connection.execute("INSERT INTO format VALUES (?)", (FORMAT + 5,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(NewerFormat) as caught:
        Database(path, writable=writable).rows("SELECT * FROM branches")
    assert f"they have format {FORMAT + 5}, this Sampan knows up to {FORMAT}" in str(caught.value)
    assert "Upgrade Sampan" in str(caught.value)
    assert caught.value.exit_code == 2
    assert path.read_bytes() == before


def test_a_next_release_upgrades_in_place(tmp_path):
    path = tmp_path / "r.db"
    Database(path, writable=True).close()
    connection = connect(path)
    migrate(connection, NEXT)
    assert format_of(connection, len(NEXT)) == len(NEXT)
    assert connection.execute("SELECT box FROM runs").fetchall() == []
    connection.close()


STATEMENTS = sum(len(statements) for statements in NEXT[FORMAT:])


@pytest.mark.parametrize("place", range(STATEMENTS + 1))
def test_a_kill_at_any_statement_of_a_migration_leaves_a_format_that_starts(tmp_path, place):
    path = tmp_path / "r.db"
    Database(path, writable=True).close()
    code = f"""
import os, signal, sqlite3
from sampan.store.migrations import migrate
from tests.store.test_migrations import NEXT

class Killing(sqlite3.Connection):
    left = {place}
    def execute(self, sql, *rest):
        done = super().execute(sql, *rest)
        if not sql.startswith(("SELECT", "BEGIN", "COMMIT")):
            if Killing.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            Killing.left -= 1
        return done

migrate(sqlite3.connect({str(path)!r}, isolation_level=None, factory=Killing), NEXT)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    connection = connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    left = format_of(connection, len(NEXT))
    assert FORMAT <= left < len(NEXT)
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert ("alarms" in tables) == (left > FORMAT), "half of a migration is there"
    connection.close()
    if left == FORMAT:  # the old release still starts
        Database(path, writable=True).close()
    connection = connect(path)
    migrate(connection, NEXT)  # and the new one finishes the work
    assert format_of(connection, len(NEXT)) == len(NEXT)
    connection.close()


def test_a_kill_while_the_records_are_made_leaves_records_that_start(tmp_path):
    path = tmp_path / "r.db"
    connection = connect(path)
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("BEGIN")
    connection.execute("CREATE TABLE format (version INTEGER NOT NULL)")
    reading = Database(path, writable=False)
    assert reading.rows("SELECT * FROM branches") == []
    connection.close()  # as the kernel does it: the transaction never happened
    Database(path, writable=True).close()
    assert reading.rows("SELECT * FROM branches") == []
    reading.close()
    assert path.stat().st_size > 0
