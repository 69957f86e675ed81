"""The whole set of commands: help, version, exit codes, one message for a mistake."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

from sampan.cli.root import SECTIONS, load, root
from tests.cli.conftest import Here, Shell
from tests.hub.conftest import environment

ENTRIES = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


def verbs(name: str, command: click.Command) -> list[str]:
    if isinstance(command, click.Group):
        return [f"{name} {verb}" for verb in command.commands]
    return [name]


@pytest.mark.parametrize("name", ENTRIES)
def test_the_line_in_the_list_is_the_commands_own(name: str) -> None:
    command = load(ENTRIES[name])
    assert command.name == name
    assert (command.help or "").splitlines()[0].startswith(ENTRIES[name].help.rstrip("."))


def test_there_are_25_of_them_and_more() -> None:
    assert len([verb for name, entry in ENTRIES.items() for verb in verbs(name, load(entry))]) >= 25


def test_every_listing_takes_json() -> None:
    for name, entry in ENTRIES.items():
        command = load(entry)
        if isinstance(command, click.Group):
            for verb, one in command.commands.items():
                if verb in ("list", "show", "stats", "tail", "verify"):
                    assert "--json" in [text for option in one.params for text in option.opts], (name, verb)


def test_help_imports_no_command_and_none_of_the_heavy_libraries() -> None:
    script = (
        "import sys; sys.argv = ['sampan', '--help']\n"
        "from sampan.app import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'duckdb', 'pyarrow', 'litestar', 'rich', 'msgspec', 'numpy', 'sqlglot', 'asyncio', 'http.client'}\n"
        "print(sorted(m for m in sys.modules if m in heavy or m.startswith('sampan.cli.')), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "['sampan.cli.edge', 'sampan.cli.root']"
    assert all(name in done.stdout for name in ENTRIES)


def test_the_version(shell: Shell) -> None:
    from sampan import __version__

    assert shell("--version") == f"sampan {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["rum"], 2, "Did you mean 'run'?"),
        (["run", "--colour"], 2, "No such option"),
        (["runs", "show", "nothing"], 1, "Find the run 'nothing'"),
        (["table", "show", "nothing"], 1, "no table 'nothing' on main"),
        (["model", "show", "nothing"], 1, "there is none"),
        (["contract", "show", "nothing"], 1, "Known: outcome, prediction, review, shadow, visit."),
        (["endpoint", "show", "nothing"], 1, "none of that name"),
        (["endpoint", "show", "nothing", "--address"], 1, "none of that name"),
        (["endpoint", "deploy", "nothing"], 1, "there is none"),
        (["token", "revoke", "nothing"], 1, "no living token 'nothing'"),
        (["token", "create", "x", "--role", "king"], 2, "unknown role 'king'"),
        (["token", "link"], 1, "no hub is up"),
        (["log", "load", "nothing.csv"], 1, "no such file"),
        (["log", "load", "sampan.toml"], 2, "no form of file that is known"),
        (["log", "tail", "--type", "nothing"], 1, "There are: outcome, prediction, review, shadow, visit."),
        (["quarantine", "show", "intake:1"], 1, "is not in the log"),
        (["run", "nothing"], 1, "nothing"),
        (["run", "--set", "nothing"], 2, "STEP.PARAM=VALUE"),
        (["why", "nothing"], 1, "no table, step, model or check 'nothing'"),
        (["resume", "nothing"], 1, "Find the run 'nothing'"),
        (["lineage", "nothing"], 1, "no prediction, version, table, step or run"),
        (["sql", "select * from nothing"], 1, "no table or event 'nothing'"),
        (["sql", "selec 1"], 2, "selec"),
    ],
)
def test_a_mistake_gets_one_message_and_its_exit_code(here: Here, arguments: list[str], code: int, said: str) -> None:
    complaint = here.complaint(*arguments, code=code)
    assert said in complaint


@pytest.mark.parametrize(("arguments", "code"), [(["rum"], 2), (["why", "nothing"], 1), (["sql", "FROM pages"], 1)])
def test_a_whole_process_ends_with_the_code_and_says_no_more(shell: Shell, arguments: list[str], code: int) -> None:
    done = shell.run(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Error: ") == 1


def test_outside_of_a_workspace_it_says_how_to_make_one(tmp_path: Path) -> None:
    assert "sampan init NAME" in Here(tmp_path).complaint("runs", "list", code=1)


def test_a_workspace_can_be_named(here: Here, tmp_path: Path) -> None:
    assert Here(tmp_path)("-C", str(here.folder), "runs", "list").startswith("Nothing has run yet")


def test_a_broken_settings_file_names_the_line(here: Here) -> None:
    (here.folder / "sampan.toml").write_text("[settings\n")
    assert "line 1" in here.complaint("runs", "list", code=2)


def test_an_unknown_setting_lists_the_known_ones(here: Here) -> None:
    (here.folder / "sampan.toml").write_text("[settings]\nprot = 1\n")
    assert "Known: " in here.complaint("runs", "list", code=2)


def test_data_of_a_newer_sampan_is_left_alone(here: Here) -> None:
    here("run")
    mark = here.folder / ".sampan" / "format"
    mark.write_text("2\n")
    before = sorted(path.stat().st_mtime_ns for path in (here.folder / ".sampan").rglob("*"))
    for command in (["run"], ["up", "--port", "0"], ["sql", "select 1"], ["log", "stats"]):
        complaint = here.complaint(*command, code=2)
        assert "it has format 2" in complaint
        assert "nothing was changed" in complaint
    assert before == sorted(path.stat().st_mtime_ns for path in (here.folder / ".sampan").rglob("*"))


def test_records_of_a_newer_sampan_are_left_alone(here: Here) -> None:
    import sqlite3
    from contextlib import closing

    here("run")
    with closing(sqlite3.connect(here.folder / ".sampan" / "records.db")) as records:
        records.execute("INSERT INTO format VALUES (999)")
        records.commit()
    assert "they have format 999" in here.complaint("run", code=2)


def test_what_nobody_foresaw_is_one_message_and_a_file(shell: Shell) -> None:
    script = (
        "import sys; sys.argv = ['sampan', 'runs', 'list']\n"
        "from sampan import app\n"
        "def view(*_, **__): raise ZeroDivisionError('by zero')\n"
        "app.App.view = view\n"
        "app.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=shell.folder, env=environment(), check=False
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    file = Path(done.stderr.partition("The details are in ")[2].partition(";")[0])
    assert "ZeroDivisionError: by zero" in file.read_text()
    file.unlink()
    loud = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=shell.folder,
        env=environment(SAMPAN_DEBUG="1"),
        check=False,
    )
    assert "Traceback" in loud.stderr


def test_a_reader_that_goes_away_is_no_error(shell: Shell) -> None:
    done = subprocess.run(
        f"{sys.executable} -m sampan sql 'select * from range(200000)' --csv | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        cwd=shell.folder,
        env=environment(),
        check=False,
    )
    assert done.stdout == "range\n"
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_root_command_has_no_command_that_is_not_in_the_list() -> None:
    assert root.list_commands(click.Context(root)) == list(ENTRIES)


def test_what_goes_wrong_while_a_stopped_command_cleans_up_is_a_stop(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(**_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise NameError("name 'coroutines' is not defined")  # a module that was being imported is half there

    monkeypatch.setattr(root, "main", stopped)
    told = here.run("runs")
    assert (told.returncode, told.stderr) == (130, "Stopped.\n")
