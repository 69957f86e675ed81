"""Workspaces as people really write them: each oddity gets one clear message or simply works."""

from pathlib import Path
from typing import Any

import pytest
from flow_bench import Bench, outcome

from sampan.base.errors import BadStep, BadWorkspace, Usage

HEAD = "from sampan import check, step\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("@step\nclass Thing:\n    pass\n", "line 3: step 'Thing' is a class"),
        (
            "class Box:\n    @step\n    def one(self) -> int:\n        return 1\n",
            "step 'one' is inside another",
        ),
        (
            "if True:\n    @check\n    def one() -> bool:\n        return True\n",
            "check 'one' is inside another",
        ),
        ("def make():\n    @step(cpus=2)\n    def one() -> int:\n        return 1\n", "line 4: step 'one' is inside"),
        ("@step\nasync def one() -> int:\n    return 1\n", "line 3: step 'one' is an async function"),
        ("@step\ndef one(*given) -> int:\n    return 1\n", "takes *args or **kwargs"),
        ("@step\ndef größe() -> int:\n    return 1\n", "'größe' cannot name a step"),
        ("@step\ndef a() -> int:\n    return 1\n@step\ndef a() -> int:\n    return 2\n", "is taken by steps.py:3"),
        ("x = 1\0\n", "line 2 holds a null byte"),
        ("x = (\n", "line 2: '(' was never closed"),
        (f"x = {'(' * 300}1{')' * 300}\n", "steps.py"),
    ],
)
def test_a_declaration_that_planning_would_miss_is_refused_with_its_line(bench: Bench, source: str, said: str) -> None:
    (bench.root / "steps.py").write_text(HEAD + source)
    with pytest.raises((BadStep, BadWorkspace)) as caught:
        bench.plan()
    assert said in str(caught.value)


def test_a_step_in_contracts_is_refused(bench: Bench) -> None:
    bench.file("contracts.py", HEAD + "@step\ndef one() -> int:\n    return 1\n")
    with pytest.raises(BadStep, match=r"contracts\.py declares no steps"):
        bench.plan()


@pytest.mark.parametrize(("path", "text"), [("steps.py", b"x = 1\ny = 'caf\xe9'\n"), ("tables/t.sql", b"\n'\xe9'")])
def test_a_file_that_is_not_utf8_is_refused_with_its_line(bench: Bench, path: str, text: bytes) -> None:
    bench.file(path, "")
    (bench.root / path).write_bytes(text)
    with pytest.raises(BadWorkspace, match="line 2 holds the byte 0xe9"):
        bench.plan()


def test_windows_line_endings_and_a_byte_order_mark_change_nothing(bench: Bench) -> None:
    text = HEAD + '@step\ndef one() -> str:\n    return """a\nb"""\n'
    bench.file("steps.py", text)
    bench.file("tables/t.sql", "SELECT 1 AS x\nUNION ALL\nSELECT 2\n")
    assert bench.ran() == ["one", "t"]
    (bench.root / "steps.py").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    (bench.root / "tables/t.sql").write_bytes(b"\xef\xbb\xbfSELECT 1 AS x\r\nUNION ALL\r\nSELECT 2\r\n")
    assert bench.ran() == []


ODD_STEPS = {
    "deep": ("def f(n): return f(n + 1)\n    return f(0)", "RecursionError"),
    "leaves": ("sys.exit(3)", "it called sys.exit(3)"),
    "asks": ("return input('name? ')", "EOFError"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "closes": ("os.closerange(0, 100)\n    return 1", "ended by itself with exit code"),
    "large": ("return 2**70", "it returned an int, which has no plain form (can't serialize ints"),
    "lazy": ("return (i for i in range(3))", "return list(…) of it"),
    "yields": ("yield 1", "return list(…) of it"),
}


def test_a_step_that_does_odd_things_fails_alone_and_says_what_it_did(bench: Bench) -> None:
    source = "import os, sys\n" + HEAD
    for name, (body, _) in ODD_STEPS.items():
        source += f"@step\ndef {name}():\n    {body}\n"
    bench.file("steps.py", source + "@step\ndef fine() -> int:\n    return 1\n")
    result = bench.run()
    for name, (_, said) in ODD_STEPS.items():
        assert said in outcome(result, name).error
    assert outcome(result, "fine").state == "ran"


def test_a_forked_process_that_returns_from_the_step_does_not_answer_for_it(bench: Bench) -> None:
    bench.file(
        "steps.py",
        """
        import os
        from sampan import step

        @step
        def forks() -> int:
            child = os.fork()
            if child == 0:
                return 7
            os.waitpid(child, 0)
            return 1
        """,
    )
    result = bench.run()
    assert bench.value("forks") == 1
    assert "a forked process returned from the step" in bench.log(result, "forks")


def test_a_step_may_change_its_folder_print_anything_and_leave_threads_behind(bench: Bench) -> None:
    bench.file(
        "steps.py",
        r"""
        import os, sys, threading, time
        from sampan import step

        @step
        def moves() -> int:
            os.makedirs("below")
            os.chdir("below")
            return 1

        @step
        def prints(moves: int) -> int:
            for number in range(100_000):
                print("line", number)
            os.write(1, b"\xff\x00raw\n")
            sys.stderr.write("\ud800\n")
            return 2

        @step
        def lingers() -> int:
            threading.Thread(target=time.sleep, args=(1000,)).start()
            sys.stdout.close()
            return 3
        """,
    )
    result = bench.run()
    assert result.state == "succeeded"
    assert bench.log(result, "prints").count("\n") == 100_002


@pytest.mark.parametrize("name", ["tables/t.sql", "checks/t.sql", "steps.py"])
def test_a_source_file_that_cannot_be_read_is_named(bench: Bench, name: str) -> None:
    (bench.root / name).parent.mkdir(exist_ok=True)
    if name.endswith(".sql"):
        (bench.root / name).symlink_to("nowhere")
        with pytest.raises(BadWorkspace, match=f"Read {name}: no such file"):
            bench.plan()
        (bench.root / name).unlink()
    (bench.root / name).mkdir()
    if name.endswith(".sql"):
        with pytest.raises(BadWorkspace, match=f"Read {name}: is a directory"):
            bench.plan()
    else:
        assert bench.plan().steps == ()


def test_a_long_error_is_shown_by_its_first_line(bench: Bench) -> None:
    bench.file("steps.py", HEAD + "@step\ndef one() -> int:\n    raise ValueError('first\\nsecond' + 'x' * 9999)\n")
    assert "ValueError: first (steps.py:4)" in outcome(bench.run(), "one").error
    bench.edit("steps.py", "first\\n", "")
    assert len(outcome(bench.run(), "one").error) < 400


@pytest.mark.parametrize(("setting", "said"), [("workers = -3", "it is -3"), ('memory = "lots"', "no amount")])
def test_a_setting_that_makes_no_sense_is_refused_before_the_run(bench: Bench, setting: str, said: str) -> None:
    bench.write(tables__t="SELECT 1 AS x")
    bench.file("sampan.toml", f"[settings]\n{setting}\n")
    bench.engine.settings = bench.folder.settings()
    with pytest.raises(Usage, match=said):
        bench.run()
    assert bench.engine.runs.list() == []


# -- parameters


@pytest.mark.slow
@pytest.mark.parametrize(
    ("default", "given", "value"),
    [
        ("n: int = 1", "5", 5),
        ("n: float = 1", "5", 5.0),
        ("n: float = 1.0", 5, 5.0),
        ("n: bool = True", "no", False),
        ("n: str = 'a'", "007", "007"),
        ("n: str = 'a'", "null", "null"),
        ("n=None", "null", None),
        ("n=None", "text", "text"),
        ("n: int | None = 1", "null", None),
        ("n: list[int] = [1]", "[2, 3]", [2, 3]),
        ("n: dict = {'a': 1}", '{"b": 2}', {"b": 2}),
    ],
)
def test_a_parameter_is_read_as_its_type(bench: Bench, default: str, given: Any, value: Any) -> None:
    bench.file("steps.py", HEAD + f"@step\ndef one({default}) -> object:\n    return [n]\n")
    assert bench.ran(one__n=given) == ["one"]
    assert bench.value("one") == [value]
    assert type(bench.value("one")[0]) is type(value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("default", "given"),
    [
        ("n: int = 1", "1.5"),
        ("n: int = 1", 1.5),
        ("n: int = 1", True),
        ("n: int = 1", None),
        ("n: int = 1", "9" * 5000),
        ("n: int = 1", 1 << 70),
        ("n: float = 1.0", "inf"),
        ("n: float = 1.0", "1e999"),
        ("n=None", float("nan")),
        ("n: list = [1]", "5"),
    ],
)
def test_a_value_that_is_not_of_the_parameters_type_is_refused(bench: Bench, default: str, given: Any) -> None:
    bench.file("steps.py", HEAD + f"@step\ndef one({default}) -> object:\n    return [n]\n")
    with pytest.raises(Usage) as caught:
        bench.plan(one__n=given)
    assert len(str(caught.value)) < 300


DEFAULTS = ["None", "1e999", "True", "1", "1.0", "'1'", "b'1'", "(1, 2)", "[1, 2]", "{1: 2}", "{'1': 2}", "{1, 2}"]


@pytest.mark.slow
def test_defaults_that_differ_in_type_only_are_told_apart_and_arrive_as_written(bench: Bench) -> None:
    for default in DEFAULTS:
        bench.file("steps.py", HEAD + f"@step\ndef one(n: object = {default}) -> str:\n    return repr(n)\n")
        assert bench.ran() == ["one"], f"{default} was taken for another"
        assert bench.value("one").replace("inf", "1e999") == default


def test_parameters_that_must_not_be_named_keep_their_places(bench: Bench) -> None:
    bench.file(
        "steps.py",
        HEAD + "@step\ndef a() -> int:\n    return 1\n@step\ndef b(a, n=(2,), m=3, /, k=4) -> list:\n"
        "    return [a, list(n), m, k]\n",
    )
    assert bench.run(b__m="5").state == "succeeded"
    assert bench.value("b") == [1, [2], 5, 4]


# -- values


@pytest.mark.slow
def test_mappings_with_any_keys_are_values_whose_digest_does_not_depend_on_their_order(bench: Bench) -> None:
    digests = set()
    for pairs in ("{1: 'a', (2, 'x'): 'b', None: {3}}", "{None: {3}, (2, 'x'): 'b', 1: 'a'}"):
        bench.file("steps.py", HEAD + f"@step\ndef one() -> dict:\n    return {pairs}\n")
        digests.add(outcome(bench.run(), "one").digest)
    assert len(digests) == 1
    bench.file("steps.py", HEAD + "@step\ndef one() -> dict:\n    return {'1': 'a', (2, 'x'): 'b', None: {3}}\n")
    assert outcome(bench.run(), "one").digest not in digests


@pytest.mark.slow
def test_postponed_annotations_decide_delivery_too(bench: Bench) -> None:
    bench.file("tables/t.sql", "SELECT 1 AS x")
    bench.file(
        "steps.py",
        """
        from __future__ import annotations
        import pandas as pd
        from sampan import step

        @step
        def one(t: pd.DataFrame) -> str:
            return type(t).__module__.split(".")[0]
        """,
    )
    bench.ran()
    assert bench.value("one") == "pandas"


def test_undeclared_files_that_python_opens_are_noticed(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("1")
    bench.file("steps.py", HEAD + f"@step\ndef one() -> str:\n    return open({str(outside)!r}).read()\n")
    result = bench.run()
    assert any("outside.txt" in warning for warning in outcome(result, "one").warnings)
    outside.write_text("2")
    assert bench.ran() == ["one"]
