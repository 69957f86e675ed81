"""A notebook with a real kernel: tables, answers, runs and comparisons are shown, and nothing in them runs."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from sampan.app.notebook import Answer, load_ipython_extension
from sampan.app.notebook import show as show_page
from sampan.app.notebook import sql as ask
from sampan.app.notebook import table as open_table
from sampan.base.errors import BadQuery, NotFound, StepFailed, Usage
from tests.hub.conftest import environment, make_workspace, sampan, visit

HOSTILE = "<script>alert(1)</script>"
STEPS = """
import sampan
from sampan import Fitted, model


@model(kind="regression", target="y", seed=1)
def slope(pages: list, times: float = 2.0) -> Fitted:
    import numpy as np
    import pyarrow as pa
    from sklearn.linear_model import LinearRegression

    for at in range(4):
        sampan.log(loss=times / (at + 1))
    x = np.arange(8.0).reshape(-1, 1)
    made = LinearRegression().fit(x, times * x[:, 0])
    return Fitted(made, features=["x"], sample=pa.table({"x": x[:, 0]}), metrics={"rmse": times})
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a table, two trainings and what they logged."""
    folder = make_workspace(tmp_path_factory.mktemp("notebook") / "shop")
    (folder / "steps.py").write_text(STEPS)
    file = folder / "visits.ndjson"
    pages = [HOSTILE, *(f"/{number}" for number in range(11))]
    file.write_text("".join(json.dumps(visit(f"v{at}", page=page)) + "\n" for at, page in enumerate(pages)))
    assert sampan(folder, "log", "load", str(file)).returncode == 0
    for times in ("2", "3"):
        done = sampan(folder, "run", "--set", f"slope.times={times}")
        assert done.returncode == 0, done.stderr
    return folder


def runs(folder: Path) -> list[str]:
    """Ids of the flow's runs, the newest first."""
    return [one["run"] for one in json.loads(sampan(folder, "runs", "list", "--json").stdout)["runs"]]


def logged(folder: Path) -> list[str]:
    from sampan.app import App

    app = App(folder)
    try:
        experiment = app.tracking.experiments.named("slope").id
        return [one.id for one in app.tracking.search.runs([experiment]).found]
    finally:
        app.close()


def page_in(shown: Any) -> str:
    """The page within a frame that may run nothing."""
    frame = re.search(r'<iframe [^>]*sandbox="([^"]*)"[^>]*srcdoc="([^"]*)"', shown._repr_html_())
    assert frame is not None and "allow-scripts" not in frame[1] and "allow-same-origin" not in frame[1]
    page = unescape(frame[2])
    assert "<script" not in page and "<form" not in page
    return page


def test_a_table_shows_its_first_rows_types_count_and_digest_and_escapes_them(shop: Path) -> None:
    pages = open_table("pages", workspace=shop)
    html = pages._repr_html_()
    assert "12 rows, the first 10 shown" in html and pages.digest in html and "BIGINT" in html
    assert html.count("<tr") == 11 and "<script" not in html
    assert repr(pages).startswith(f"pages@main: 12 rows, {pages.digest}\n  page  VARCHAR\n  visits  BIGINT")
    assert len(pages) == pages.arrow().num_rows == len(pages.df()) == len(pages.polars()) == 12
    assert pages.relation().aggregate("sum(visits)").fetchall() == [(12,)]


def test_what_follows_at_is_a_branch_or_a_commit(shop: Path) -> None:
    commit = json.loads(sampan(shop, "branch", "list", "--json").stdout)
    head = next(one["head"] for one in commit["branches"] if one["name"] == "main")
    assert open_table(f"pages@{head}", workspace=shop).digest == open_table("pages@main", workspace=shop).digest
    for name, said in {
        "pages@nothing": "'nothing' is neither a branch nor a commit\n  Branches: main.",
        "pages@@nothing": "neither a branch nor a commit",
        "nothing@main": "no table 'nothing' on main",
        "visit": 'visit is a kind of event, and no table\n  `sampan.sql("FROM visit")` gives events.',
    }.items():
        with pytest.raises(NotFound) as raised:
            open_table(name, workspace=shop)
        assert said in str(raised.value)


def test_an_answer_in_sql_is_shown_and_handed_on(shop: Path) -> None:
    found = ask("SELECT page, visits FROM pages ORDER BY page DESC", workspace=shop)
    html = found._repr_html_()
    assert "&lt;script&gt;alert(1)" in html and "<script" not in html and "12 rows" in html
    assert len(found.df()) == len(found.polars()) == len(found) == 12
    assert repr(found) == "12 rows: page, visits"
    assert ">VARCHAR<" in html and ">BIGINT<" in html, "types as those of tables"
    twice = ask("SELECT 1 AS a, 'x' AS a", workspace=shop)._repr_html_()
    assert ">1<" in twice and ">x<" in twice, "two columns of one name"
    with pytest.raises(BadQuery):
        ask("SELECT nothing", workspace=shop)


def test_runs_versions_and_comparisons_are_pages_of_the_hub_in_a_frame(shop: Path) -> None:
    newest, first = runs(shop)[:2]
    page = page_in(show_page(workspace=shop))
    assert newest in page and "Run again" not in page
    assert "slope" in page_in(show_page("slope@1", workspace=shop))
    assert "What differs" in page_in(show_page(first, newest, workspace=shop))
    one, other = logged(shop)
    assert "loss" in page_in(show_page(one, workspace=shop))
    compared = show_page(one, other, workspace=shop)
    assert "<svg" in page_in(compared) and repr(compared) == "runs slope, slope, compared"
    with pytest.raises(Usage):
        show_page(first, one, workspace=shop)
    with pytest.raises(NotFound):
        show_page("nobody", workspace=shop)


def test_the_extension_needs_no_ipython_to_be_imported(shop: Path) -> None:
    class Shell:
        """As much of a shell as the extension asks for."""

        def __init__(self) -> None:
            self.user_ns: dict[str, Any] = {}
            self.magics: dict[str, Any] = {}

        def register_magic_function(self, function: Any, kind: str, name: str) -> None:
            self.magics[name] = function

        def set_custom_exc(self, kinds: Any, handler: Any) -> None:
            self.mistake = handler

    shell = Shell()
    load_ipython_extension(shell)
    assert sorted(shell.magics) == ["sampan", "sampan_sql"]
    with pytest.raises(Usage):
        shell.magics["sampan_sql"]("two words", "SELECT 1")
    with pytest.raises(Usage, match="No closing quotation"):
        shell.magics["sampan_sql"]("'never closed", "SELECT 1")
    assert shell.magics["sampan"]("'never closed") is None
    with pytest.raises(StepFailed, match="`%sampan run --nothing` ended with 2"):
        shell.magics["sampan"]("run --nothing")


CELLS = [
    "%load_ext sampan\nimport sampan",
    "sampan.table('pages')",
    "%%sampan_sql busy\nSELECT count(*) AS n FROM pages",
    "busy",
    "%sampan run --set slope.times=5",
    "%sampan diff nobody last",
    "%sampan run --set slope.nothing=1",
    "sampan.show('slope@1')",
    "sampan.table('nothing')",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what a kernel's client warns of is its own affair
def test_a_notebook_runs_in_a_real_kernel(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    for name, value in environment(IPYTHONDIR=str(tmp_path), JUPYTER_CONFIG_DIR=str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in CELLS])
    client = nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(shop)}}
    )
    client.execute()
    said = [cell.outputs for cell in notebook.cells]
    html = ["".join(one.get("data", {}).get("text/html", "") for one in outputs) for outputs in said]
    text = ["".join(one.get("text", "") for one in outputs) for outputs in said]
    assert said[0] == [] and "12 rows" in html[1]
    assert said[2] == [] and ">n<" in html[3] and "1 row<" in html[3] and ">12<" in html[3]
    assert "slope" in text[4] and "<iframe" in html[4]
    assert "there is none" in text[5] and "Traceback" not in text[5] and html[5] == ""
    assert "`%sampan run --set slope.nothing=1` ended with 2" in text[6] and "Traceback" not in text[6]
    assert "<iframe" in html[7]
    wrong = json.dumps(said[8])
    assert "no table" in wrong and "Traceback" not in wrong and "notebook.py" not in wrong
    assert isinstance(ask("SELECT 1 AS one", workspace=shop), Answer)
