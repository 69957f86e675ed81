"""The how-to pages of reviews, thresholds and value: their rules can be declared and do what is said of them."""

import re
from pathlib import Path
from typing import Any

import pytest

from sampan import Action
from sampan.release.policy import read_policy

PAGES = Path(__file__).parent.parent.parent / "docs" / "how-to"


def block(page: str, kind: str = "python") -> str:
    return str(re.findall(rf"```{kind}\n(.*?)```", (PAGES / f"{page}.md").read_text("utf-8"), re.DOTALL)[0])


def test_the_rule_that_asks_people_does_what_is_safe_until_they_answer() -> None:
    names: dict[str, Any] = {}
    exec(block("reviews"), names)
    asked = names["reserve"](0.9, {"basket": 501.0})

    assert (asked.name, asked.rule) == ("wait", "basket too costly to decide alone")
    assert asked.question.seconds == 4 * 3600 and asked.question.choices == ("reserve", "wait")
    assert names["reserve"](0.9, {"basket": 500.0}) == Action("reserve", "likely to return")


def test_the_cap_counts_the_amount_of_each_record() -> None:
    names: dict[str, Any] = {}
    exec(block("value").replace("    ...", '    return Action("approve")'), names)

    assert names["approve"].cap.risks == {"approve": "amount", "decline": 0.0}
    assert (names["approve"].cap.amount, names["approve"].cap.over) == (100_000.0, "review")


def test_the_policy_asks_for_approvals_of_thresholds(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(block("thresholds", "toml"))
    demand = read_policy(tmp_path).demanded("reorder", "thresholds")
    assert demand is not None and (demand.approvals, demand.groups, demand.author_counts) == (2, {"risk": 1}, False)


@pytest.mark.parametrize("page", ["reviews", "thresholds", "value"])
def test_each_page_is_listed(page: str) -> None:
    assert f"how-to/{page}.md" in (PAGES.parent / "README.md").read_text("utf-8")
