"""Time comes from a clock that can be moved; ids sort by it; digests do not depend on layout."""

import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.base.clock import ManualClock, SharedClock, SystemClock, from_micros, iso, past, stamp, to_micros
from sampan.base.digests import digest_bytes, digest_file, digest_value
from sampan.base.errors import Usage
from sampan.base.ids import is_name, new_id


def test_the_machines_clock_moves_forward_in_microseconds():
    before = datetime.now(UTC)
    now = from_micros(SystemClock().micros())
    assert timedelta(0) - timedelta(seconds=1) < now - before < timedelta(seconds=5)


def test_a_manual_clock_stands_still_until_it_is_told():
    clock = ManualClock(datetime(2011, 4, 1, tzinfo=UTC))
    assert clock.micros() == clock.micros()
    clock.advance(timedelta(days=30))
    assert iso(clock.micros()) == "2011-05-01T00:00:00Z"
    assert stamp(clock.micros() + 999_999) == "2011-05-01T00:00:00Z"
    clock.set(0)
    assert clock.micros() == 0


def test_a_shared_clock_moves_every_process_that_reads_it(tmp_path):
    path = tmp_path / "clock"
    clock = SharedClock.create(path, datetime(2011, 1, 1, tzinfo=UTC))
    code = f"""
from pathlib import Path
from sampan.base.clock import SharedClock, iso
clock = SharedClock(Path({str(path)!r}))
print(iso(clock.micros()), flush=True)
input()
print(iso(clock.micros()), flush=True)
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "2011-01-01T00:00:00Z\n"
    clock.set(datetime(2011, 6, 1, tzinfo=UTC))
    rest, _ = other.communicate("\n", timeout=30)
    assert rest == "2011-06-01T00:00:00Z\n"


@given(st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)), st.integers(-23, 23))
def test_instants_survive_the_trip_through_microseconds_in_any_zone(moment, hours):
    at = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert from_micros(to_micros(at)) == at
    assert iso(to_micros(moment)) == moment.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")


def test_ids_are_unique_short_and_sort_by_when_they_were_made():
    clock = ManualClock(datetime(2026, 11, 21, tzinfo=UTC))
    made = []
    for _ in range(1000):
        made.append(new_id(clock))
        clock.advance(timedelta(milliseconds=1))
    assert made == sorted(made)
    assert len({new_id(clock) for _ in range(10_000)}) == 10_000
    assert all(len(one) == 20 and one.isalnum() and one.islower() for one in made if not one.isdigit())


def test_a_forked_process_makes_ids_of_its_own():
    clock = ManualClock(datetime(2026, 11, 21, tzinfo=UTC))
    new_id(clock)
    ours, theirs = os.pipe()
    if (child := os.fork()) == 0:
        os.write(theirs, new_id(clock).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(ours, 100).decode() != new_id(clock)


@pytest.mark.parametrize("name", ["orders", "_x", "order-lines", "A1", "a" * 100])
def test_what_may_be_a_name(name):
    assert is_name(name)


@pytest.mark.parametrize(
    "name", ["", "1a", "-a", "a b", "a/b", "..", "a.b", "a\n", "ä", "a" * 101, "a\0", "%2e", "a;", "a'b"]
)
def test_what_may_not_be_a_name(name):
    assert not is_name(name)


def test_a_file_has_the_digest_of_its_bytes(tmp_path):
    data = b"x" * 3_000_000
    (tmp_path / "x").write_bytes(data)
    assert digest_file(tmp_path / "x") == digest_bytes(data) == hashlib.sha256(data).hexdigest()


def test_the_order_of_keys_does_not_show_in_a_values_digest_and_everything_else_does():
    assert digest_value({"a": 1, "b": [1, 2]}) == digest_value({"b": [1, 2], "a": 1})
    values = [{"a": 1}, {"a": "1"}, {"a": 1.5}, {"b": 1}, {"a": [1]}, {"a": None}, {}, [], None, "", 0, {"a": True}]
    assert len({digest_value(value) for value in values}) == len(values)


NOON = to_micros(datetime(2026, 1, 31, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2026-01-30", "2026-01-30T23:59:59.999999Z"),
        ("20260130", "2026-01-30T23:59:59.999999Z"),
        ("2026-01-31", "2026-01-31T12:00:00Z"),
        ("2026-01-30T12:30", "2026-01-30T12:30:00Z"),
        (" 2026-01-30 12:30:00.25 ", "2026-01-30T12:30:00.250000Z"),
        ("2026-01-31T14:00+02:00", "2026-01-31T12:00:00Z"),
        ("0001-01-01", "0001-01-01T23:59:59.999999Z"),
    ],
)
def test_a_past_time_is_iso_text_and_a_date_its_whole_day(text, wanted):
    assert iso(past(text, NOON)) == wanted


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "2026-02-30", "12:00", "0001-01-01T00:00+23:59", "9999-12-31T23:59-23:59", "9" * 5000, "@abc"],
)
def test_what_is_no_time_is_refused_with_how_to_write_one(text):
    with pytest.raises(Usage, match="that is no time") as caught:
        past(text, NOON)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00.000001", "2026-02-01", "9999-12-31"])
def test_a_time_to_come_is_refused(text):
    with pytest.raises(Usage, match="still to come"):
        past(text, NOON)
