"""The project as a whole: its public names, its pages, its wheel, its pins, and code that must never be written."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest

import sampan

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "sampan"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def tracked_files() -> tuple[Path, ...]:
    """What git keeps; from an unpacked archive: whatever lies there, less what .gitignore would leave out."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0 and listed.stdout:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        left_out = {".venv", ".venv-uv", "__pycache__", "dist", ".sampan", "results"}
        paths = [path for path in ROOT.rglob("*") if not left_out & set(path.relative_to(ROOT).parts)]
    return tuple(path for path in paths if path.is_file())


def tracked_text() -> Iterator[tuple[Path, str]]:
    for path in tracked_files():
        try:
            yield path, path.read_text("utf-8")
        except UnicodeDecodeError:
            continue


# -- public names


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(sampan.__all__) == [
        "Action",
        "Architecture",
        "Blob",
        "Cap",
        "EntryPoint",
        "Event",
        "Field",
        "File",
        "Fitted",
        "PREVIOUS",
        "Text",
        "__version__",
        "adapt",
        "check",
        "decision",
        "log",
        "log_params",
        "logged_run",
        "metaflow",
        "metrics",
        "model",
        "review",
        "show",
        "sql",
        "step",
        "table",
        "upcast",
    ]


@pytest.mark.parametrize("name", [name for name in sampan.__all__ if name != "__version__"])
def test_a_public_name_can_be_imported_and_says_what_it_is_for(name: str) -> None:
    assert (getattr(sampan, name).__doc__ or "").strip()


def test_a_name_that_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sampan.nonsense


def test_importing_sampan_imports_nothing_large() -> None:
    code = "import sys, sampan; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    large = {"duckdb", "pyarrow", "pandas", "polars", "numpy", "litestar", "sqlglot", "sklearn", "msgspec", "click"}
    assert not large & set(loaded)


# -- pages


def pages() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".md"]


def heading_ids(text: str) -> set[str]:
    """Anchors as the usual Markdown hosts make them from headings."""
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*$", without_code(text), re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", heading).lower() for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


def without_code(text: str) -> str:
    return re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.MULTILINE | re.DOTALL)


def broken_links(page: Path) -> list[str]:
    """Relative links of a page that lead nowhere."""
    broken = []
    text = re.sub(r"`[^`\n]*`", "", without_code(page.read_text("utf-8")))
    for target in re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)", text):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in heading_ids(there.read_text())):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One heading\n[good](#one-heading) [bad](#none) [gone](gone.md) [far](https://example.org/x)\n")
    assert broken_links(page) == ["#none", "gone.md"]


def test_every_decision_has_its_three_parts_and_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text()
    for page in folder.glob("*.md"):
        if page.name != "README.md":
            assert f"({page.name})" in index, f"{page.name} is not in the list of decisions"
            parts = re.findall(r"^(?:## |\*\*)(\w+)", page.read_text(), re.MULTILINE)
            assert parts[:3] == ["Context", "Decision", "Consequence"], f"{page.name} has {parts}"


def test_every_page_of_the_docs_can_be_reached_from_their_index() -> None:
    seen: set[Path] = set()
    waiting = [ROOT / "docs" / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in seen or not page.exists():
            continue
        seen.add(page)
        waiting += [page.parent / link for link in re.findall(r"\]\(([^)#\s:]+\.md)", page.read_text())]
    assert {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - seen == set()


# -- what is handed out


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    ours = {str(path.relative_to(ROOT / "src")) for path in tracked_files() if path.is_relative_to(SOURCE)}
    assert ours - inside == set()
    assert "sampan/py.typed" in inside
    assert any(name.endswith("licenses/LICENSE") for name in inside)
    assert not [name for name in inside if "__pycache__" in name or name.startswith(("tests/", "bench/"))]


def test_the_licence_is_there_in_full() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text


MACHINE = re.compile(
    r"""(?<![\w.~-])/(?:root|work|home/[a-z]\w*|Users/\w+|opt/(?:pypi|wheels))(?:/|\b)   # a place on somebody's machine
      | \.\./shared/ | /tmp/plan                                                 # notes that are not in the project
      | (?:extra-)?index-url\s*= | find-links | \[\[tool\.uv\.index\]\]           # a registry of somebody's own
      | file:///(?!\w*\.\.\.)""",
    re.VERBOSE,
)


def test_no_tracked_file_names_a_machine_or_a_registry() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path, text in tracked_text()
        if path != Path(__file__)
        for match in MACHINE.finditer(text)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text", ["see /root/notes", "../shared/x", "index-url = x", "[[tool.uv.index]]", "/home/ann/x"]
)
def test_a_machine_or_registry_is_found(text: str) -> None:
    assert MACHINE.search(text)


# -- the environment


def pins() -> dict[str, str]:
    """Name to version; of the range that the extra `dbt` makes necessary, the version that is used without it."""
    lines = PYPROJECT["tool"]["uv"]["constraint-dependencies"]
    return dict(re.split(r"==|>=[^,]*,<=", line, maxsplit=1) for line in lines)


def plain(requirement: str) -> str:
    return re.split(r"[\[<>=!~; (]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def needed() -> set[str]:
    """Everything that is installed because the project asks for it, directly or not."""
    asked = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["dependency-groups"]["dev"]]
    asked += [each for extra in PYPROJECT["project"]["optional-dependencies"].values() for each in extra]
    waiting, found = [plain(each) for each in asked], set()
    while waiting:
        name = waiting.pop()
        if name in found or name == "sampan":
            continue
        try:
            version(name)
        except PackageNotFoundError:  # for another platform or Python
            continue
        found.add(name)
        waiting += [plain(each) for each in requires(name) or [] if "extra ==" not in each]
    return found


def test_every_package_that_is_needed_is_pinned() -> None:
    assert needed() - set(pins()) == set()


def test_the_tests_run_with_the_pinned_versions() -> None:
    assert {name: version(name) for name in needed()} == {name: pins()[name] for name in needed()}


def test_the_readme_shows_the_commands_that_continuous_integration_runs() -> None:
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    for shown in ("pip install uv && uv run pytest", "pip install uv && uv run sampan demo", "pipx install uv"):
        assert shown in readme
    assert "pip install uv" in script
    for verb in ("pytest", "ruff check", "ruff format --check", "mypy", "lint-imports", "sampan demo --once --json"):
        assert f"step uv run {verb}" in script


def marked(node: ast.AST, name: str) -> bool:
    return any(isinstance(one, ast.Attribute) and one.attr == name for one in ast.walk(node))


def test_most_tests_of_each_folder_are_quick() -> None:
    """Those of the night aside. A test of which only some cases are slow is quick."""
    found: dict[str, list[bool]] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text())
        whole = [one for one in tree.body if isinstance(one, ast.Assign) and "pytestmark" in ast.dump(one)]
        for test in ast.walk(tree):
            if not isinstance(test, ast.FunctionDef) or not test.name.startswith("test_"):
                continue
            marks = [*whole, *(one for one in test.decorator_list if not isinstance(one, ast.Call))]
            if not any(marked(one, "night") for one in marks):
                found.setdefault(path.parent.name, []).append(not any(marked(one, "slow") for one in marks))
    assert {folder: (sum(quick), len(quick)) for folder, quick in found.items() if 2 * sum(quick) < len(quick)} == {}


# -- code that must never be written (ROBUSTNESS: standing gates)

ALLOWED = {
    ("log/contracts.py", "exec"): "workspace-code.md",
    ("log/quarantine.py", "exec"): "workspace-code.md",
}
"""(file below src/sampan, offence) → the decision page that allows it."""

FORBIDDEN_CALLS = {
    "pickle.load": "pickle",
    "pickle.loads": "pickle",
    "pickle.Unpickler": "pickle",
    "cloudpickle.load": "pickle",
    "cloudpickle.loads": "pickle",
    "joblib.load": "pickle",
    "dill.load": "pickle",
    "dill.loads": "pickle",
    "marshal.load": "pickle",
    "marshal.loads": "pickle",
    "shelve.open": "pickle",
    "torch.load": "pickle",
    "yaml.load": "yaml.load",
    "yaml.unsafe_load": "yaml.load",
    "yaml.full_load": "yaml.load",
    "os.system": "shell",
    "os.popen": "shell",
    "eval": "eval",
    "exec": "exec",
    "builtins.eval": "eval",
    "builtins.exec": "exec",
    "tempfile.mktemp": "mktemp",
}


def offences(source: str) -> Iterator[tuple[int, str]]:
    """Line and kind of everything in a module that the gate forbids."""
    tree = ast.parse(source)
    known_as: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            known_as |= {
                each.asname or each.name.split(".")[0]: (each.asname and each.name) or each.name.split(".")[0]
                for each in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            known_as |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from ((node.lineno, kind) for kind in _call_offences(node, known_as))


def _call_offences(call: ast.Call, known_as: dict[str, str]) -> Iterator[str]:
    first, _, rest = ast.unparse(call.func).partition(".")
    name = ".".join(part for part in (known_as.get(first, first), rest) if part)
    said = {each.arg: ast.unparse(each.value) for each in call.keywords}
    if name in FORBIDDEN_CALLS:
        yield FORBIDDEN_CALLS[name]
    if said.get("shell") == "True":
        yield "shell"
    if said.get("verify") == "False":
        yield "verify=False"
    if said.get("allow_pickle") == "True":
        yield "pickle"
    if name.endswith((".extractall", ".extract")) and "zip" not in name and said.get("filter") not in ("'data'", None):
        yield "extract"
    if name.endswith(".extractall") and "filter" not in said:
        yield "extract"
    if name.startswith("subprocess.") and call.args and isinstance(call.args[0], ast.Constant | ast.JoinedStr):
        yield "shell"
    if name.endswith((".strip", ".lstrip", ".rstrip")) and call.args and isinstance(call.args[0], ast.Constant):
        text = call.args[0].value
        if isinstance(text, str) and name.endswith(("lstrip", "rstrip")) and len(text) > 1 and text.isalnum():
            yield "strip of a word"  # strips any of its letters, not the word


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("import pickle\npickle.loads(b'')", "pickle"),
        ("from pickle import loads as read\nread(b'')", "pickle"),
        ("import pickle as p\np.Unpickler(f).load()", "pickle"),
        ("import joblib\njoblib.load(path)", "pickle"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "pickle"),
        ("import yaml\nyaml.load(text)", "yaml.load"),
        ("import subprocess\nsubprocess.run(command, shell=True)", "shell"),
        ("import subprocess\nsubprocess.run(f'rm {name}')", "shell"),
        ("import os\nos.system(text)", "shell"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("archive.extractall(folder)", "extract"),
        ("archive.extractall(folder, filter='fully_trusted')", "extract"),
        ("client.get(url, verify=False)", "verify=False"),
        ("import tempfile\ntempfile.mktemp()", "mktemp"),
        ("token.lstrip('smp')", "strip of a word"),
    ],
)
def test_the_gate_sees_what_it_forbids(code: str, kind: str) -> None:
    assert kind in {found for _, found in offences(code)}


def test_the_gate_lets_the_careful_form_pass() -> None:
    code = "import subprocess\nsubprocess.run(['a', 'b'])\narchive.extractall(folder, filter='data')\ntext.rstrip('/')"
    assert list(offences(code)) == []


def test_the_source_holds_nothing_that_the_gate_forbids() -> None:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = str(path.relative_to(SOURCE))
        for line, kind in offences(path.read_text("utf-8")):
            if (name, kind) not in ALLOWED:
                found.append(f"{name}:{line}: {kind}")
    assert found == []


def test_what_the_gate_allows_has_a_reason() -> None:
    for reason in ALLOWED.values():
        assert (ROOT / "docs" / "decisions" / reason).exists()
