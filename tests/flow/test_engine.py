"""What runs again after a change, and what does not."""

# ruff: noqa: E501 - source text

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from flow_bench import Bench

from sampan.base.errors import BadQuery, BadStep, BadWorkspace, NotFound, Usage

CHAIN = {
    "helpers": "from deep import base\n\ndef scaled(x):\n    return base(x) * 2\n\ndef unused(x):\n    return x\n",
    "deep": "def base(x):\n    return x + 1\n",
    "steps": """
        from sampan import step
        from helpers import scaled

        @step
        def first() -> int:
            return 10

        @step
        def second(first: int) -> int:
            return scaled(first)

        @step
        def third(second: int) -> int:
            return second % 2

        @step
        def beside(first: int) -> int:
            return first + 100
        """,
}


def test_a_second_run_has_nothing_to_do(bench: Bench) -> None:
    bench.write(**CHAIN)
    assert bench.ran() == ["beside", "first", "second", "third"]
    assert bench.ran() == []
    assert bench.value("second") == 22


def test_editing_a_helper_two_imports_away_reruns_exactly_its_dependants(bench: Bench) -> None:
    bench.write(**CHAIN)
    bench.ran()
    bench.edit("deep.py", "x + 1", "x + 2")
    plan = {step.name: (step.state, step.certain) for step in bench.plan().steps}
    assert plan == {
        "first": ("cached", True),
        "beside": ("cached", True),
        "second": ("ran", True),
        "third": ("ran", False),
    }
    assert bench.why("second") == "code deep.base changed"
    assert bench.why("third") == "second may change"
    assert "second" in bench.ran()
    assert bench.value("second") == 24


def test_an_equal_output_stops_the_wave(bench: Bench) -> None:
    bench.write(**CHAIN)
    bench.ran()
    bench.edit("helpers.py", "base(x) * 2", "2 * base(x)")
    assert bench.ran() == ["second"], "second gives 22 again, so third has nothing to do"


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("deep.py", "    return", "    # why\n    return"),
        ("deep.py", "x + 1", "(x\n            + 1)"),
        ("deep.py", "def base(x):\n", 'def base(x):\n    """Adds one."""\n'),
        ("helpers.py", "return x\n", "return x * 7\n"),
    ],
    ids=["a comment", "formatting", "a docstring", "an unused function"],
)
def test_an_edit_without_meaning_reruns_nothing(bench: Bench, path: str, old: str, new: str) -> None:
    bench.write(**CHAIN)
    bench.ran()
    bench.edit(path, old, new)
    assert bench.ran() == []


def test_a_comment_or_another_layout_of_a_query_reruns_nothing_and_its_meaning_does(bench: Bench) -> None:
    bench.write(
        steps="""
        import pandas as pd
        from sampan import step

        @step
        def numbers() -> pd.DataFrame:
            return pd.DataFrame({"x": [3, 1, 2]})
        """,
        tables__doubled="select x * 2 as y from numbers",
    )
    assert bench.ran() == ["doubled", "numbers"]
    bench.file("tables/doubled.sql", "-- twice\nSELECT\n  x * 2 AS y\nFROM numbers;\n")
    assert bench.ran() == []
    bench.edit("tables/doubled.sql", "x * 2", "x * 3")
    assert bench.ran() == ["doubled"]
    assert bench.rows("doubled") == [{"y": 3}, {"y": 6}, {"y": 9}]


def test_a_changed_declared_file_reruns_what_declares_it(bench: Bench) -> None:
    bench.write(
        steps="""
        from sampan import File, step
        RATES = File("rates.csv")

        @step
        def rate() -> float:
            return float(RATES.read_text())

        @step
        def other() -> int:
            return 1
        """
    )
    bench.file("rates.csv", "1.5")
    assert bench.ran() == ["other", "rate"]
    bench.file("rates.csv", "2.5")
    assert bench.why("rate") == "file rates.csv changed"
    assert bench.ran() == ["rate"]
    (bench.root / "rates.csv").unlink()
    with pytest.raises(BadStep, match=r"rates\.csv"):
        bench.plan()


def test_a_file_as_a_default_counts_as_declared(bench: Bench) -> None:
    bench.write(
        steps="""
        from sampan import File, step

        @step
        def first(path=File("input.txt")) -> int:
            return int(open(path).read())
        """
    )
    bench.file("input.txt", "41")
    bench.ran()
    assert bench.value("first") == 41
    bench.file("input.txt", "42")
    assert bench.ran() == ["first"]


def test_what_a_package_outside_of_the_installation_says_of_itself_is_no_undeclared_read(bench: Bench) -> None:
    bench.write(
        steps="""
        from pathlib import Path
        from sampan import step

        @step
        def plugins() -> str:
            return Path("site/sails-1.0.dist-info/entry_points.txt").read_text()
        """
    )
    (bench.folder.root / "site" / "sails-1.0.dist-info").mkdir(parents=True)
    bench.file("site/sails-1.0.dist-info/entry_points.txt", "[console_scripts]")
    assert not bench.run().steps[0].warnings


def test_an_undeclared_read_is_warned_of_and_looked_at_by_the_next_plan(bench: Bench) -> None:
    bench.write(
        steps="""
        from sampan import step

        @step
        def rate() -> str:
            return open("rates.csv").read()
        """
    )
    bench.file("rates.csv", "1.5")
    result = bench.run()
    assert "rates.csv was read (steps.py:5) without being declared" in result.steps[0].warnings[0]
    assert bench.ran() == []
    bench.file("rates.csv", "2.5")
    assert bench.why("rate") == "file rates.csv changed (it was read without being declared)"
    assert bench.ran() == ["rate"]


def test_a_network_connection_is_warned_of(bench: Bench) -> None:
    bench.write(
        steps="""
        import socket
        from sampan import step

        @step
        def asked() -> str:
            with socket.socket() as one:
                try:
                    one.connect(("127.0.0.1", 9))
                except OSError:
                    pass
            return "no"
        """
    )
    assert "it connected to 127.0.0.1:9 (steps.py:8)" in bench.run().steps[0].warnings[0]


def test_a_changed_parameter_reruns_its_step_and_a_default_means_its_value(bench: Bench) -> None:
    bench.write(
        steps="""
        from sampan import step

        @step
        def scored(weight: float = 0.5, name: str = "x", deep: bool = False) -> list:
            return [weight, name, deep]
        """
    )
    bench.ran()
    assert bench.ran(scored__weight="0.7", scored__deep="true") == ["scored"]
    assert bench.value("scored") == [0.7, "x", True]
    assert bench.ran() == [], "the first result is still there"
    bench.edit("steps.py", "weight: float = 0.5", "weight: float = 0.7")
    assert bench.ran(scored__deep=True) == [], "the same values, however given"
    assert "parameter weight: 0.7 → 0.9" in bench.why("scored", scored__weight=0.9, scored__deep=True)


def test_an_unknown_parameter_or_a_wrong_value_is_wrong_usage(bench: Bench) -> None:
    bench.write(steps="from sampan import step\n@step\ndef scored(weight: float = 0.5) -> float:\n    return weight\n")
    with pytest.raises(Usage, match="It has: weight"):
        bench.plan(scored__wait=1)
    with pytest.raises(Usage, match="Did you mean scored"):
        bench.plan(score__weight=1)
    with pytest.raises(Usage, match="'much' is no float"):
        bench.plan(scored__weight="much")


def test_a_changed_declared_environment_variable_reruns_and_is_not_written_down(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write(
        steps="""
        import os
        from sampan import step

        @step(env="REGION")
        def where() -> str:
            return dict(os.environ)["REGION"]
        """
    )
    monkeypatch.setenv("REGION", "a-secret-place")
    bench.ran()
    assert bench.value("where") == "a-secret-place"
    assert bench.ran() == []
    monkeypatch.setenv("REGION", "elsewhere")
    assert bench.why("where") == "environment variable REGION changed"
    assert bench.ran() == ["where"]
    result = bench.engine.runs.latest("where")
    assert result is not None
    assert "elsewhere" not in str(result.parts)


def test_a_changed_package_reruns_what_reaches_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "lib" / "site-packages"
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    install(site, "outer", "1.0", requires="inner>=1 ; python_version > '3'")
    install(site, "inner", "1.0")
    bench.write(
        steps="""
        import outer
        from sampan import step

        @step
        def uses() -> str:
            return outer.NAME

        @step
        def spares() -> int:
            return 1
        """
    )
    assert bench.ran() == ["spares", "uses"]
    assert bench.ran() == []
    install(site, "inner", "1.1")
    assert bench.why("uses") == "package inner: 1.0 → 1.1"
    assert bench.ran() == ["uses"]


def install(site: Path, name: str, version: str, requires: str = "") -> None:
    for old in site.glob(f"{name}-*.dist-info"):
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    need = f"Requires-Dist: {requires}\n" if requires else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{need}\n")
    (info / "RECORD").write_text(f"{name}.py,,\n")
    (site / f"{name}.py").write_text(f"NAME = {name!r}\n")


def test_a_deleted_artifact_turns_the_hit_into_a_rerun(bench: Bench) -> None:
    bench.write(
        steps="""
        import pandas as pd
        from sampan import step

        @step
        def numbers() -> pd.DataFrame:
            return pd.DataFrame({"x": [1, 2]})

        @step
        def big() -> bytes:
            return b"x" * 100_000
        """,
        tables__doubled="SELECT x * 2 AS y FROM numbers",
    )
    bench.ran()
    files = [file for file in (bench.folder.data / "lake").rglob("*") if file.is_file()]
    patch = bench.engine.runs.get("last").manifest["patch"]  # the code, which is in no repository
    files += [file for file in (bench.folder.data / "blobs").rglob("*") if file.is_file() and file.name != patch[2:]]
    assert len(files) == 3
    for file in files:
        file.unlink()
    assert "is missing" in bench.why("big")
    assert bench.ran() == ["big", "doubled", "numbers"]
    assert bench.rows("doubled") == [{"y": 2}, {"y": 4}]


def test_planning_never_imports_the_users_modules(bench: Bench) -> None:
    bench.write(
        steps="""
        import pathlib
        from sampan import step
        pathlib.Path("imported").write_text("")

        @step
        def one() -> int:
            return 1
        """
    )
    bench.plan()
    assert bench.engine.why("one").state == "ran"
    assert not (bench.root / "imported").exists()
    bench.ran()
    assert (bench.root / "imported").exists()


def test_a_target_runs_with_what_it_needs_and_nothing_else(bench: Bench) -> None:
    bench.write(**CHAIN)
    assert bench.ran("second") == ["first", "second"]
    with pytest.raises(NotFound, match="Did you mean second"):
        bench.run("secnd")


def test_the_json_forms_are_those_of_the_interface(bench: Bench) -> None:
    bench.write(**CHAIN)
    planned = bench.plan().json()
    ran = bench.run().json()
    for found in (planned, ran):
        assert {"run", "state", "commit", "git", "steps"} <= set(found)
        for step in found["steps"]:
            assert {"name", "kind", "state", "why", "digest", "seconds"} <= set(step)
    assert planned["run"] is None
    assert ran["state"] == "succeeded"
    assert {step["state"] for step in ran["steps"]} == {"ran"}
    assert [step["name"] for step in planned["steps"]] == [step["name"] for step in ran["steps"]]


def test_a_run_records_its_manifest(bench: Bench) -> None:
    os.system(
        f"git init -q {bench.root} && git -C {bench.root} config user.email a@b && git -C {bench.root} config user.name n"
    )
    bench.write(**CHAIN)
    os.system(f"git -C {bench.root} add -A . && git -C {bench.root} commit -qm one")
    bench.edit("deep.py", "x + 1", "x + 5")
    (bench.root / "sampan.toml").write_text("[prices]\nthis_machine_per_hour = 3600.0\n")
    result = bench.run()
    run = bench.engine.runs.get(result.run)
    manifest = run.manifest
    assert len(run.git or "") == 40
    patch = (bench.folder.data / "blobs" / manifest["patch"][:2] / manifest["patch"][2:]).read_text()
    assert "x + 5" in patch
    assert manifest["packages"]["msgspec"]
    assert {"python", "os", "cpu", "lock", "sampan"} <= set(manifest)
    second = manifest["steps"]["second"]
    assert second["inputs"] == {"first": manifest["steps"]["first"]["output"]}
    assert second["seconds"] > 0
    assert second["memory"] > 1_000_000
    assert isinstance(second["seed"], int)
    assert result.cost > 0
    assert result.cost == pytest.approx(run.cost)


def test_random_numbers_repeat(bench: Bench) -> None:
    bench.write(
        steps="""
        import random
        import numpy as np
        from sampan import step

        @step
        def drawn() -> list:
            return [random.random(), float(np.random.rand()), list({"a", "b", "c", "d"})]

        @step(seed=7)
        def declared() -> float:
            return random.random()
        """
    )
    first = bench.run()
    with bench.db.transaction() as records:
        records.execute("DELETE FROM results")
    again = bench.run()
    assert [step.digest for step in first.steps] == [step.digest for step in again.steps]
    assert all(step.state == "ran" for step in again.steps)
    assert bench.engine.runs.get(again.run).manifest["steps"]["declared"]["seed"] == 7


@pytest.mark.parametrize(
    ("files", "error", "said"),
    [
        ({"steps": "def f(:\n"}, BadWorkspace, "steps.py: line 1"),
        (
            {"steps": "from sampan import step\n@step\ndef one(ordrs): return 1\n", "tables__orders": "SELECT 1 AS x"},
            BadStep,
            "Did you mean orders",
        ),
        (
            {"tables__orders": "SELECT * FROM custmers", "tables__customers": "SELECT 1 AS x"},
            BadStep,
            "Did you mean customers",
        ),
        (
            {"steps": "from sampan import step\n@step\ndef a(b): return 1\n@step\ndef b(a): return 1\n"},
            BadStep,
            "a (steps.py:3) → b (steps.py:5) → a (steps.py:3)",
        ),
        (
            {"steps": "from sampan import step\n@step\ndef a(): return 1\n", "tables__a": "SELECT 1 AS x"},
            BadStep,
            "the name 'a' is taken by tables/a.sql",
        ),
        ({"tables__a": "SELECT now() AS x"}, BadQuery, "tables/a.sql"),
        ({"tables__a": "SELEC 1"}, BadQuery, "tables/a.sql"),
        (
            {"steps": "from sampan import step\n@step(each='city')\ndef a(city): return 1\n"},
            BadStep,
            "each='city'",
        ),
        (
            {"checks__fine": "SELECT 1 WHERE false", "tables__a": "SELECT * FROM fine"},
            BadStep,
            "a check has no result",
        ),
        ({"tables__outcome": "SELECT 1 AS x"}, BadStep, "that of a type of event"),
    ],
    ids=["syntax", "parameter", "FROM", "cycle", "twice", "now()", "SQL syntax", "each", "a check", "an event's name"],
)
def test_a_wrong_workspace_is_one_message(bench: Bench, files: dict[str, str], error: type, said: str) -> None:
    bench.write(**files)
    with pytest.raises(error) as caught:
        bench.plan()
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_table_that_leaves_the_flow_leaves_main(bench: Bench) -> None:
    bench.write(tables__a="SELECT 1 AS x", tables__b="SELECT 2 AS x")
    bench.ran()
    assert set(bench.lake.tables()) == {"a", "b"}
    (bench.root / "tables/b.sql").unlink()
    bench.ran()
    assert set(bench.lake.tables()) == {"a"}


def test_a_run_may_be_driven_by_any_thread(bench: Bench) -> None:
    bench.write(**CHAIN)
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(bench.ran()))
    thread.start()
    thread.join()
    assert found == [["beside", "first", "second", "third"]]
    assert bench.ran() == []


def test_an_interrupt_leaves_a_run_that_can_be_resumed(bench: Bench) -> None:
    bench.write(**CHAIN)

    def interrupt(event: object) -> None:
        if getattr(event, "step", "") == "second" and getattr(event, "state", "") == "ran":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(on_event=interrupt)
    (run,) = bench.engine.runs.list()
    assert run.state == "interrupted"
    assert "sampan resume" in run.error
    result = bench.engine.resume("last")
    assert result.state == "succeeded"
    assert {step.name for step in result.steps if step.state == "cached"} >= {"first", "second"}


NOTHING_TO_DO = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from flow_bench import Bench
bench = Bench(Path({root!r}))
print(len(bench.ran()), sorted({{"duckdb", "sqlglot", "pyarrow", "numpy", "pandas", "steps"}} & set(sys.modules)))
bench.db.close()
"""


def test_a_run_with_nothing_to_do_imports_neither_engines_nor_the_users_code(bench: Bench) -> None:
    bench.write(**CHAIN, tables__a="SELECT 1 AS x", tables__b="SELECT x + 1 AS y FROM a")
    bench.ran()
    bench.db.close()
    code = NOTHING_TO_DO.format(tests=str(Path(__file__).parent), root=str(bench.root))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0 []\n", done.stderr
