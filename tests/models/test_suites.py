"""A suite is read strictly: what is wrong in it is told with the line and the key, and nothing is passed over."""

from importlib.resources import files

import pytest

from sampan.base.errors import BadWorkspace
from sampan.models.suites import parse

GOOD = """# What reorder must hold.
table = "orders"
where = "goods > 0"

[minimum]
auc = 0.8
brier = 0.2

[[slice]]
name = "new"
where = "orders_before = 0"
minimum = { auc = 0.6 }
min_rows = 20

[[perturbation]]
name = "prices"
set = { goods = "goods * 1.01", export = 0 }
max_change = 0.05
share = 0.99

[[invariance]]
name = "spelling"
set = { country = "upper(country)" }

[[direction]]
name = "more"
set = { orders = "orders + 1" }
must_not = "fall"

[[case]]
reason = "an incident"
features = { orders = 3, last = nan, "days since" = 2.5 }
at_least = 0.5
when = 2026-11-26

[[case]]
reason = "another"
class = "yes"
[case.features]
orders = 1
"""


def wrong(text: str) -> tuple[str, str]:
    with pytest.raises(BadWorkspace) as raised:
        parse(text.encode(), "suites/m.toml")
    assert raised.value.attempted == "Read suites/m.toml"
    return raised.value.obstacle, raised.value.advice


def replaced(before: str, after: str) -> str:
    assert GOOD.count(before) == 1
    return GOOD.replace(before, after)


def test_a_good_suite_says_what_it_says() -> None:
    suite = parse(GOOD.encode(), "suites/m.toml")
    assert (suite.table, suite.where, suite.minimum) == ("orders", "goods > 0", {"auc": 0.8, "brier": 0.2})
    assert (suite.slice[0].min_rows, suite.min_rows) == (20, 50)
    assert suite.perturbation[0].set == {"goods": "goods * 1.01", "export": 0}
    assert suite.direction[0].must_not == "fall"
    assert suite.case[0].features["last"] != suite.case[0].features["last"], "nan is a missing value"
    assert suite.case[1].class_ == "yes"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('table = "orders"', 'tabel = "orders"', "line 2: tabel: this key is not known"),
        ("auc = 0.8", "auk = 0.8", "line 6: [minimum], auk: it is no metric that says better or worse"),
        ("auc = 0.8", "auc = '0.8'", "line 6: [minimum], auc: '0.8' is no number"),
        ("auc = 0.8", "auc = nan", "line 6: [minimum], auc: nan is no bound"),
        ("auc = 0.8", "base_rate = 0.8", "line 6: [minimum], base_rate: it is no metric that says better or worse"),
        ('name = "new"', "", "line 9: [[slice]] 1, name: it is missing"),
        ('name = "new"', "name = 7", "line 10: [[slice]] 1, name: expected `str`, got `int`"),
        ('name = "new"', 'name = " "', "line 10: [[slice]] 1, name: it is empty"),
        ('name = "new"', 'name = "more"', "line 26: [[direction]] 1, name: 'more' is also the name of a [[slice]]"),
        ('where = "orders_before = 0"', 'where = ""', "line 11: [[slice]] 1, where: it is empty"),
        ("minimum = { auc = 0.6 }", "minimum = {}", "line 12: [[slice]] 1, minimum: it names no metric"),
        ("min_rows = 20", "min_rows = 0", "line 13: [[slice]] 1, min_rows: 0 rows show nothing"),
        ("share = 0.99", "share = 99", "line 19: [[perturbation]] 1, share: 99.0 is no share of the rows"),
        ("max_change = 0.05", "max_change = -1", "line 18: [[perturbation]] 1, max_change: -1.0 is no distance"),
        ("max_change = 0.05", "", "line 15: [[perturbation]] 1, max_change: it is missing"),
        ('set = { orders = "orders + 1" }', "set = {}", "line 27: [[direction]] 1, set: it changes nothing"),
        ('must_not = "fall"', 'must_not = "sink"', "line 28: [[direction]] 1, must_not: invalid enum value 'sink'"),
        ('must_not = "fall"', 'must_fall = "no"', "line 28: [[direction]] 1, must_fall: this key is not known"),
        ("at_least = 0.5", "", "line 32: [[case]] 1, features: nothing is expected of this case"),
        ("at_least = 0.5", "at_least = 1\nat_most = 0", "line 33: [[case]] 1, at_least: 1.0 is more than at_most, 0.0"),
        ('reason = "another"', 'reason = ""', "line 37: [[case]] 2, reason: it is empty"),
        ('reason = "another"', "", "line 36: [[case]] 2, reason: it is missing"),
        ("[case.features]\norders = 1", "[case.features]\norders = [1]", "line 40: [[case]] 2, features, orders: [1]"),
        ("when = 2026-11-26", "when = 3", "line 34: [[case]] 1, when: 3 is no date"),
        ("[[invariance]]", "[invariance]", "invariance: it is no list"),
        ("[[invariance]]", "[weights]\na = 1\n[[invariance]]", "line 21: weights: this key is not known"),
        ("[[invariance]]", "[[invariance", "at line 21"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(before: str, after: str, said: str) -> None:
    assert said in wrong(replaced(before, after))[0]


def test_what_may_be_written_instead_is_told() -> None:
    assert wrong(replaced('name = "new"', 'nmae = "new"'))[1] == "Known: name, where, minimum, min_rows."
    assert "At most: brier" in wrong(replaced("brier = 0.2", "briar = 0.2"))[1]


def test_a_file_without_tests_is_no_suite() -> None:
    assert "there is no test in it" in wrong('table = "orders"\n')[0]


def test_a_file_that_is_no_text_is_told_so() -> None:
    with pytest.raises(BadWorkspace, match="no UTF-8 text at byte 2"):
        parse(b"# \xff\xfe", "suites/m.toml")


def test_the_suite_of_the_example_reads_and_speaks_of_features_that_its_case_has() -> None:
    path = files("sampan") / "examples" / "retail" / "suites" / "reorder.toml"
    suite = parse(path.read_bytes(), "suites/reorder.toml")
    (case,) = suite.case
    assert all(set(one.set) <= set(case.features) for one in suite.changes)
    assert suite.minimum and suite.slice and suite.perturbation and suite.invariance and suite.direction
