"""What a step can do wrong, and the one message that comes of it."""

# ruff: noqa: E501 - source text

import textwrap

import pytest
from flow_bench import Bench, outcome
from tests.slow import mostly_slow

FAILURES = {
    "returns nothing": ("return None", "it returned None"),
    "returns something without a plain form": ("return object()", "it returned an object, which has no plain form"),
    "returns a list of such": ("return [open]", "which has no plain form"),
    "raises": ("raise ValueError('too few rows')", "ValueError: too few rows (steps.py:6)"),
    "raises in a helper": ("return helper()", "KeyError: 'price' (helpers.py:3)"),
    "leaves": ("sys.exit(4)", "it called sys.exit(4)"),
    "ends its process": ("os._exit(7)", "its process ended by itself with exit code 7"),
    "crashes": ("ctypes.string_at(0)", "its process crashed (SIGSEGV)"),
    "is killed": ("os.kill(os.getpid(), 9)", "its process was killed (SIGKILL), most likely because"),
    "imports what is not there": ("import nowhere", "ModuleNotFoundError: No module named 'nowhere' (steps.py:6)"),
}


@pytest.mark.parametrize("name", mostly_slow(FAILURES, "raises in a helper", "is killed"))
def test_a_step_that_fails_says_so_in_one_message(bench: Bench, name: str) -> None:
    body, said = FAILURES[name]
    bench.file("helpers.py", "def helper():\n    prices = {}\n    return prices['price']\n")
    bench.file(
        "steps.py",
        f"import ctypes, os, sys\nfrom sampan import step\nfrom helpers import helper\n@step\ndef bad() -> int:\n    {body}\n"
        "@step\ndef after(bad: int) -> int:\n    return bad\n@step\ndef beside() -> int:\n    return 1\n",
    )
    result = bench.run()
    assert result.state == "failed"
    assert result.exit_code == 3
    assert said in outcome(result, "bad").error
    assert (outcome(result, "after").state, outcome(result, "after").why) == ("blocked", "blocked by bad")
    assert outcome(result, "beside").state == "ran", "what does not need it goes on"
    assert "Traceback" not in outcome(result, "bad").error


def test_a_traceback_shows_the_users_own_lines_only(bench: Bench) -> None:
    bench.file("helpers.py", "import json\ndef parse(text):\n    return json.loads(text)\n")
    bench.file(
        "steps.py",
        "from sampan import step\nfrom helpers import parse\n@step\ndef bad() -> int:\n    print('before')\n    return parse('{')\n",
    )
    log = bench.log(bench.run(), "bad")
    assert log.startswith("before\n")
    assert 'steps.py", line 6' in log
    assert 'helpers.py", line 3' in log
    assert "JSONDecodeError" in log
    assert "sampan/flow" not in log
    assert "json/__init__" not in log


def test_a_step_past_its_time_is_killed(bench: Bench) -> None:
    bench.write(
        steps="""
        import time
        from sampan import step

        @step(timeout=0.3)
        def slow() -> int:
            time.sleep(30)
            return 1
        """
    )
    result = bench.run()
    assert "it did not end within 0.3 s" in outcome(result, "slow").error
    assert result.seconds < 10


@pytest.mark.slow
def test_imports_before_the_fork_are_not_the_steps_time(bench: Bench) -> None:
    bench.write(
        steps="""
        import lightgbm, pandas as pd
        from sampan import step

        @step(timeout=0.5)
        def quick() -> int:
            return len(lightgbm.__name__) + len(pd.__name__)
        """
    )
    assert bench.ran() == ["quick"]


def test_a_step_past_its_memory_is_killed_and_told_how_much(bench: Bench) -> None:
    bench.write(
        steps="""
        import time
        from sampan import step

        @step(memory="150MB")
        def greedy() -> int:
            held = []
            for _ in range(100):
                held.append(bytearray(b"x") * 10_000_000)
                time.sleep(0.02)
            return len(held)

        @step(memory="150MB")
        def modest() -> int:
            return len(bytearray(b"x") * 20_000_000)
        """
    )
    result = bench.run()
    assert "of memory, and memory= allows 150 MB" in outcome(result, "greedy").error
    assert outcome(result, "modest").state == "ran"


@pytest.mark.slow
def test_a_step_is_tried_again_as_often_as_it_says(bench: Bench) -> None:
    bench.write(
        steps="""
        import os, pathlib
        from sampan import step
        tries = pathlib.Path(".sampan/tries")

        @step(retries=2)
        def flaky() -> int:
            count = int(tries.read_text()) + 1 if tries.exists() else 1
            tries.write_text(str(count))
            if count == 1:
                raise OSError("not yet")
            if count == 2:
                os._exit(9)
            return count

        @step(retries=1)
        def hopeless() -> int:
            raise OSError("never")
        """
    )
    result = bench.run()
    assert outcome(result, "flaky").state == "ran"
    assert bench.value("flaky") == 3
    assert "OSError: never (steps.py:17) (after 2 attempts)" in outcome(result, "hopeless").error
    assert [event.state for event in bench.events if event.step == "flaky"].count("retrying") == 2


@pytest.mark.slow
def test_a_step_stays_on_the_processors_it_asked_for(bench: Bench) -> None:
    bench.write(
        steps="""
        import os
        from sampan import step

        @step(cpus=1)
        def one() -> int:
            return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        """
    )
    bench.ran()
    assert bench.value("one") == 1


@pytest.mark.slow
def test_a_query_that_fails_when_it_runs_is_one_message(bench: Bench) -> None:
    bench.write(tables__a="SELECT 1 AS x", tables__b="SELECT y FROM a")
    result = bench.run()
    assert '"y"' in outcome(result, "b").error
    assert "sampan/lake" not in outcome(result, "b").error


def test_nothing_is_published_by_a_run_that_fails(bench: Bench) -> None:
    bench.write(tables__a="SELECT 1 AS x")
    bench.ran()
    head = bench.lake.head()
    bench.write(tables__a="SELECT 2 AS x")
    bench.file("steps.py", "from sampan import step\n@step\ndef bad(a) -> int:\n    return 1 // 0\n")
    result = bench.run()
    assert bench.lake.head() == head == result.commit
    assert bench.rows("a") == [{"x": 1}]
    held = bench.engine.sources(result.run)
    from sampan.lake.read import arrow

    assert arrow(held["a"]).to_pylist() == [{"x": 2}], "the candidate can be looked at"


@pytest.mark.slow
def test_output_of_native_code_is_captured_too(bench: Bench) -> None:
    bench.file(
        "steps.py",
        textwrap.dedent("""
        import os
        from sampan import step

        @step
        def loud() -> int:
            print("from Python")
            os.write(2, b"from below\\n")
            os.system("echo from a child")
            return 1
        """),
    )
    log = bench.log(bench.run(), "loud")
    assert set(log.splitlines()) == {"from Python", "from below", "from a child"}


@pytest.mark.slow
def test_a_query_that_needs_more_memory_than_the_workspace_may_take_spills_and_is_not_killed(bench: Bench) -> None:
    bench.file("sampan.toml", '[settings]\nmemory = "500MB"\n')
    bench.write(tables__large="SELECT hash(i) AS h, i, i + 1 AS j, i + 2 AS k FROM range(8000000) AS r (i) ORDER BY h")
    bench.engine.settings = bench.folder.settings()
    large = outcome(bench.run(), "large")
    assert large.state == "ran", large.error
