"""A version is asked what its suite demands, with a hub and without, and the answer is kept; incidents become cases."""

import json
import math
import shutil
import threading
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sampan.app import App
from sampan.base.errors import BadWorkspace, NotFound, Usage
from sampan.models.tests import SuiteResults
from tests.browser.shop import Shop, visit
from tests.cli.conftest import Here
from tests.hub.conftest import Hub

SUITE = """# What stay must hold.
min_rows = 10

[minimum]
auc = 0.5

[[slice]]
name = "the first pages"
where = "page IN ('/0', '/1')"
minimum = { brier = 1.0 }

[[direction]]
name = "longer"
set = { seconds = "seconds + 30" }
must_not = "fall"

[[case]]
name = "long"
reason = "thirty seconds are long"
features = { seconds = 30.0 }
at_least = 0.5
"""
FAILING = SUITE.replace("auc = 0.5", "auc = 0.5\nbrier = 0.0").replace("at_least = 0.5", "at_most = 0.5")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that answers, and a decision of it; the hub is down again."""
    shop = Shop(tmp_path_factory.mktemp("suites") / "shop")
    shop.hub.send(*[visit(f"e{n}", f"/{n % 5}", visitor=f"v{n}", seconds=42 - n * 0.7) for n in range(60)])
    shop.run()
    shop.post("/v1/endpoints", {"name": "stay"})
    shop.ask("v1", "decision-1", 30.0)
    assert shop.hub.stop() == 0
    (shop.folder / "suites").mkdir()
    (shop.folder / "suites" / "stay.toml").write_text(SUITE)
    return shop.folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Here:
    shutil.copytree(made, tmp_path / "shop")
    return Here(tmp_path / "shop")


def write(shop: Here, suite: str) -> None:
    (shop.folder / "suites" / "stay.toml").write_text(suite)


def state(shop: Here) -> tuple[str, tuple[str, ...]]:
    app = App(shop.folder)
    try:
        found = app.test_state("stay")
        return found.state, found.names
    finally:
        app.close()


def kept(shop: Here) -> int:
    app = App(shop.folder)
    try:
        return len(SuiteResults(app.db).list("stay", 1))
    finally:
        app.close()


def test_a_version_that_holds_ends_with_0_and_is_kept(shop: Here) -> None:
    assert state(shop) == ("untested", ())
    found = shop.json("model", "test", "stay@1")
    report = found["report"]
    assert (found["passed"], found["model"], found["number"]) == (True, "stay", 1)
    assert (report["table"], report["target"], report["rows"]) == ("reads", "stayed", 60)
    assert (report["seen"], list(report["data"])) == (60, ["reads"]), "it was trained on these very rows"
    assert [one["name"] for one in report["outcomes"]] == ["minimum auc", "the first pages brier", "longer", "long"]
    assert state(shop) == ("passed", ())


@pytest.mark.slow
def test_a_version_that_does_not_hold_ends_with_1_and_shows_why(shop: Here) -> None:
    write(shop, FAILING)
    said = shop("model", "test", "stay", code=1)
    assert "trained on all of them (in-sample" in said
    assert "minimum brier: failed." in said and "at most 0" in said
    assert "is more than 0.5" in said and "seconds 30" in said
    assert "3 of 5 tests hold; 2 failed." in said
    assert state(shop) == ("failed", ("minimum brier", "long"))


def test_too_few_rows_end_with_1_too(shop: Here) -> None:
    write(shop, SUITE.replace("min_rows = 10", "min_rows = 1000"))
    said = shop("model", "test", "stay", code=1)
    assert "1 of 4 tests hold; 3 had not enough evidence." in said
    assert "60 rows whose outcome is known, where 1,000 are wanted" in said
    assert state(shop)[0] == "failed"


@pytest.mark.slow
def test_another_suite_makes_the_result_stale(shop: Here) -> None:
    shop("model", "test", "stay")
    write(shop, SUITE + "# changed\n")
    assert state(shop) == ("stale", ("suite",))
    shop("model", "test", "stay")
    assert state(shop) == ("passed", ())


@pytest.mark.slow
def test_new_data_makes_the_result_stale(shop: Here, tmp_path: Path) -> None:
    shop("model", "test", "stay")
    more = tmp_path / "more.ndjson"
    more.write_text(json.dumps(visit("late", "/9", visitor="v99", seconds=9.0)) + "\n")
    shop("log", "load", str(more))
    assert state(shop) == ("passed", ()), "what is not derived yet has changed no table"
    shop("run", "stay")
    assert state(shop) == ("stale", ("reads",))
    found = shop.json("model", "test", "stay@1")
    assert (found["report"]["rows"], found["report"]["seen"]) == (61, 60), "one row it was not trained on"
    assert state(shop) == ("passed", ())


@pytest.mark.slow
def test_a_version_is_tested_on_the_tables_of_a_branch_which_counts_once_main_has_them(shop: Here) -> None:
    file = shop.folder / "tables" / "reads.sql"
    file.write_text(file.read_text().replace("AS stayed", "AS stayed, 1 AS one"))
    shop("branch", "new", "try", "--reason", "one more column")
    shop("run", "--branch", "try")
    found = shop.json("model", "test", "stay", "--branch", "try")
    assert (found["number"], found["report"]["branch"], found["report"]["seen"]) == (1, "try", 60)
    assert state(shop) == ("stale", ("reads",)), "main has other tables"
    assert " rows of reads on try: " in shop("model", "test", "stay", "--branch", "try")
    shop("branch", "merge", "try")
    assert state(shop) == ("passed", ())
    assert "no branch 'nobody'" in shop.complaint("model", "test", "stay", "--branch", "nobody", code=1)


FRAME = """

@step
def data(size: int = 400) -> pa.Table:
    x = np.linspace(-1, 1, size)
    return pa.table({"x": x, "y": (x + 0.5 * np.sin(40 * x)) > 0})


@model(kind="binary", target="y")
def line(data: pa.Table) -> Fitted:
    x, y = data["x"].to_numpy().reshape(-1, 1), data["y"].to_numpy().astype(float)
    options = {"objective": "binary", "verbose": -1, "num_threads": 1}
    return Fitted(train(options, Dataset(x, y, feature_name=["x"]), 5), ["x"], sample=data.select(["x"]))
"""


@pytest.mark.slow
def test_a_frame_of_a_step_is_a_table_like_any_other(shop: Here) -> None:
    with (shop.folder / "steps.py").open("a") as file:
        file.write(FRAME)
    (shop.folder / "suites" / "line.toml").write_text("[minimum]\nauc = 0.8\nf1 = 0.5\n")
    shop("run", "line")
    report = shop.json("model", "test", "line")["report"]
    assert (report["table"], report["target"], report["rows"], report["seen"]) == ("data", "y", 400, 400)
    shop("run", "data", "--set", "data.size=500")
    report = shop.json("model", "test", "line@1")["report"]
    assert (report["rows"], report["seen"]) == (500, 2), "the first and the last are where they were"


def test_a_model_without_a_suite_is_told_where_it_would_be(shop: Here) -> None:
    (shop.folder / "suites" / "stay.toml").unlink()
    assert "there is no suites/stay.toml" in shop.complaint("model", "test", "stay", code=1)
    assert state(shop) == ("none", ())


def test_a_suite_of_a_model_that_there_is_not_is_asked_of_nothing(shop: Here) -> None:
    (shop.folder / "suites" / "ghost.toml").write_text(SUITE)
    assert "Find the version 'ghost'" in shop.complaint("model", "test", "ghost", code=1)
    assert "Find the version 'stay@7'" in shop.complaint("model", "test", "stay@7", code=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "error", "said"),
    [
        (SUITE.replace("min_rows", "minrows"), BadWorkspace, "line 2: minrows: this key is not known"),
        (SUITE.replace("page IN", "pages IN"), BadWorkspace, 'column "pages" not found'),
        (SUITE.replace("page IN ('/0', '/1')", "now() > now()"), BadWorkspace, "the first pages: now()"),
        (SUITE.replace("page IN ('/0', '/1')", "1=1) OR (1=1"), BadWorkspace, "the first pages:"),
        (SUITE.replace("seconds + 30", "(SELECT 1 FROM '/etc/passwd')"), BadWorkspace, "'/etc/passwd' is a file"),
        (SUITE.replace("auc = 0.5", "mae = 0.5"), Usage, "mae is not measured of a binary model"),
        ('table = "nowhere"\n' + SUITE, NotFound, "there is no such table on main"),
        (SUITE.replace("page IN", "page IN (SELECT a FROM gone) OR page IN"), NotFound, "reads 'gone'"),
        ('target = "visitor"\n' + SUITE, Usage, "the target visitor holds 'v"),
        ('table = "reads"\ntarget = "gone"\n' + SUITE, BadWorkspace, "lacks the target 'gone'"),
    ],
)
def test_a_suite_that_cannot_be_asked_is_told_once_and_leaves_nothing(
    shop: Here, suite: str, error: type[Any], said: str
) -> None:
    write(shop, suite)
    complaint = shop.complaint("model", "test", "stay", code=error.exit_code)
    assert said in complaint
    assert kept(shop) == 0


@pytest.mark.slow
def test_the_running_hub_asks_and_keeps_it(shop: Here) -> None:
    hub = Hub(shop.folder)
    try:
        shop("model", "alias", "stay@1", "champion")
        found = shop.json("model", "test", "stay@champion")
        assert (found["passed"], found["number"], found["actor"]) == (True, 1, "owner")
        write(shop, FAILING)
        assert not shop.json("model", "test", "stay", code=1)["passed"]
        assert kept(shop) == 2
        response, body = hub.ask("POST", "/v1/tests", b'{"ref": "stay@7"}', content_type="application/json")
        assert response.status == 404, body
        (shop.folder / "suites" / "stay.toml").unlink()
        assert "there is no suites/stay.toml" in shop.complaint("model", "test", "stay", code=1)
    finally:
        assert hub.stop() == 0


@pytest.mark.slow
def test_a_hub_elsewhere_is_asked_by_its_address(shop: Here, tmp_path: Path) -> None:
    hub = Hub(shop.folder)
    try:
        away = Here(tmp_path)
        away.extra = {"SAMPAN_URL": hub.url, "SAMPAN_TOKEN": hub.token}
        assert away.json("model", "test", "stay")["passed"]
    finally:
        assert hub.stop() == 0


@pytest.mark.slow
def test_a_hub_that_is_stopped_does_not_wait_for_a_long_suite(shop: Here) -> None:
    long = "seconds > (SELECT count(*) FROM range(100000000) a, range(100000) b)"
    write(shop, SUITE.replace("page IN ('/0', '/1')", long))
    hub = Hub(shop.folder)
    answers: list[int] = []

    def ask() -> None:
        body = b'{"ref": "stay"}'
        answers.append(hub.ask("POST", "/v1/tests", body, content_type="application/json")[0].status)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(3)
    assert asking.is_alive(), "it takes long"
    assert hub.stop() == 0
    asking.join(10)
    assert answers in ([503], [])
    assert kept(shop) == 0


# -- cases

CASE = ("--reason", "they left", "--expect", "at most 0.1")


def suite(shop: Here) -> str:
    return (shop.folder / "suites" / "stay.toml").read_text()


def test_a_prediction_becomes_a_case_and_the_file_stays_as_it_was(shop: Here) -> None:
    write(shop, SUITE.rstrip("\n") + "  # no newline at the end")
    before = suite(shop)
    made = shop.json("model", "case", "decision-1", *CASE)
    assert made["case"]["features"] == {"seconds": 30.0}
    assert suite(shop).startswith(before)
    added = tomllib.loads(suite(shop))["case"][-1]
    assert added["features"] == {"seconds": 30.0}
    assert (added["name"], added["reason"], added["at_most"]) == ("prediction decision-1", "they left", 0.1)
    assert added["source"].startswith("prediction decision-1 of endpoint stay: stay@1 said 0.6")
    assert added["by"] and added["when"].endswith("Z")
    assert shop.json("model", "test", "stay", code=1)["failing"] == ["prediction decision-1"]


def test_the_same_prediction_is_added_once(shop: Here) -> None:
    shop("model", "case", "decision-1", *CASE)
    before = suite(shop)
    assert "'prediction decision-1' already" in shop.complaint("model", "case", "decision-1", *CASE, code=1)
    assert suite(shop) == before
    shop("model", "case", "decision-1", *CASE, "--name", "again")


@pytest.mark.slow
def test_features_by_hand_make_a_suite_where_there_is_none(shop: Here) -> None:
    (shop.folder / "suites" / "stay.toml").unlink()
    by_hand = ("--model", "stay", "--features", '{"seconds": null}')
    shop("model", "case", *by_hand, "--reason", "nobody\u007fknows", "--expect", ">= 0.2", "--expect", "class false")
    (added,) = tomllib.loads(suite(shop))["case"]
    assert math.isnan(added["features"]["seconds"])
    assert (added["at_least"], added["class"], added["reason"]) == (0.2, "false", "nobody\u007fknows")
    found = shop.json("model", "test", "stay")
    assert (found["data"], found["report"]["table"]) == ({}, ""), "cases alone need no table"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("decision-1", "--reason", "r", "--expect", "sure 3"), 2, "'sure 3' says no bound"),
        (("decision-1", "--reason", "r", "--expect", "at least x"), 2, "'x' in 'at least x' is no number"),
        (("decision-1", "--reason", "r", "--expect", "at least nan"), 2, "at_least: nan is no bound"),
        (("decision-1", "--reason", " ", "--expect", "at least 1"), 2, "reason: it is empty"),
        (("decision-1", "--reason", "r", "--expect", "at least 1", "--expect", ">= 2"), 2, "says at_least again"),
        (("nothing", *CASE), 1, "none has the id 'nothing'"),
        (CASE, 2, "name a prediction or give features"),
        (("--features", '{"seconds": 1}', *CASE), 2, "nothing says which model they are for"),
        (("--model", "ghost", "--features", '{"seconds": 1}', *CASE), 1, "there is no model 'ghost'"),
        (("--model", "stay", "--features", '{"second": 1}', *CASE), 1, "the model takes no 'second'"),
        (("--model", "stay", "--features", "{seconds}", *CASE), 2, "--features is no JSON"),
        (("--model", "stay", "--features", '{"seconds": [1]}', *CASE), 2, "which is no plain value"),
        (("--model", "other", "decision-1", *CASE), 2, "stay@1 made it, not other"),
    ],
)
def test_what_makes_no_case_is_told_and_changes_nothing(shop: Here, words: Any, code: int, said: str) -> None:
    assert said in shop.complaint("model", "case", *words, code=code)
    assert suite(shop) == SUITE


def test_a_suite_that_does_not_read_is_left_alone(shop: Here) -> None:
    write(shop, SUITE + "nonsense\n")
    assert "Read suites/stay.toml" in shop.complaint("model", "case", "decision-1", *CASE, code=2)
    assert suite(shop) == SUITE + "nonsense\n"


@pytest.mark.slow
def test_an_incident_becomes_a_case_while_the_hub_runs(shop: Here) -> None:
    hub = Hub(shop.folder)
    try:
        body = json.dumps({"records": [{"visitor": "v2", "seconds": 2.0}], "ids": ["bad"]}).encode()
        assert hub.predict("stay", body)[0] == 200
        shop("model", "case", "bad", "--reason", "r", "--expect", "at least 0.99")
        assert shop.json("model", "test", "stay", code=1)["failing"] == ["prediction bad"]
        page = hub.ask("GET", "/predictions/bad", accept="text/html")[1].decode()
        assert "sampan model case bad --expect" in page
    finally:
        assert hub.stop() == 0
