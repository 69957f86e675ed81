"""R1, R2, R12: whatever is killed, and whenever, an acknowledged event is in the log exactly once."""

import signal
import time
from pathlib import Path

import pytest

from sampan.log.stream import read_mark
from tests.robustness.oracles import Producer, aimed_kill, check_log, random_kills
from tests.robustness.server import Server, needs_strace, workspace
from tests.slow import mostly_slow


@pytest.mark.slow
def test_ten_random_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    faults, slowest = random_kills(tmp_path, 10)
    assert faults == []
    assert slowest < 5


@pytest.mark.night
def test_a_hundred_random_kills_under_load_lose_and_double_nothing(tmp_path: Path) -> None:
    faults, slowest = random_kills(tmp_path, 100)
    assert faults == []
    assert slowest < 5


AIMS = [("write", when) for when in (2, 3, 5, 8, 12)]
AIMS += [("fdatasync", when) for when in (2, 4, 5, 6, 7, 8, 9)]
AIMS += [("rename", when) for when in (1, 3, 4, 5)]
AIMS += [("ftruncate", 1), ("ftruncate", 2), ("unlink", 1), ("unlink", 2)]
QUICK = (("write", 3), ("fdatasync", 5), ("rename", 3), ("unlink", 1))


@needs_strace
@pytest.mark.parametrize(("call", "when"), mostly_slow(AIMS, *QUICK))
def test_a_kill_aimed_at_a_system_call_loses_and_doubles_nothing(tmp_path: Path, call: str, when: int) -> None:
    faults, _ = aimed_kill(tmp_path, call, when)
    assert faults == []


@needs_strace
@pytest.mark.night
@pytest.mark.parametrize("call", ["write", "fdatasync", "rename", "ftruncate", "unlink"])
def test_kills_at_each_of_the_first_forty_calls(tmp_path: Path, call: str) -> None:
    for when in range(1, 41):
        faults, hit = aimed_kill(tmp_path / str(when), call, when, rounds=24)
        assert faults == [], f"{call} {when}"
        if not hit:
            break


def sigterm(tmp_path: Path, rounds: int, sabotage: str | None = None) -> None:
    """R12: SIGTERM under load answers what is under way, ends with 0, and leaves nothing to recover."""
    workspace(tmp_path)
    acknowledged: list[str] = []
    for round in range(rounds):
        servers = [Server(tmp_path, segment_events=2_000, sabotage=sabotage)]
        producers = [Producer(f"r{round}p{number}", servers) for number in range(3)]
        for producer in producers:
            producer.start()
        time.sleep(0.4)
        begun = time.monotonic()
        status, said = servers[0].stop(signal.SIGTERM)
        took = time.monotonic() - begun
        for producer in producers:
            producer.enough.set()
        for producer in producers:
            producer.join(10)
        assert (status, said) == (0, "")
        assert took < 10
        mark, alive = read_mark(tmp_path / ".sampan" / "log" / "intake")
        assert not alive
        assert mark is not None
        segment = tmp_path / ".sampan" / "log" / "intake" / f"{mark.number:08d}.log"
        assert segment.stat().st_size == mark.offset, "the next start would have to recover"
        acknowledged += [id for producer in producers for id in producer.acknowledged]
    assert acknowledged
    assert check_log(tmp_path, acknowledged) == []


@pytest.mark.slow
def test_three_times_sigterm_under_load_ends_cleanly(tmp_path: Path) -> None:
    sigterm(tmp_path, 3)
