"""The policy file: what it may say, what several rules ask for together, and how a wrong one is told."""

from pathlib import Path

import pytest

from sampan.base.errors import BadSetting, SampanError
from sampan.release.policy import FILE, read_policy

WHOLE = """
[groups]
risk = ["bea", "carl"]
sales = ["dan"]

[[promotion]]
alias = "champion"
approvals = 2
from = { risk = 2 }
evidence = ["tests"]

[[promotion]]
alias = "champion"
models = ["credit*"]
from = { risk = 1, sales = 1 }
evidence = ["replay", "tests"]
shadow = "3 days"
author_counts = false
back = false
"""


def write(folder: Path, text: str) -> Path:
    (folder / "policy.toml").write_text(text)
    return folder


def test_without_a_file_nothing_is_asked_for(tmp_path: Path) -> None:
    policy = read_policy(tmp_path)
    assert policy.demanded("reorder", "champion") is None
    assert policy.digest == ""


def test_a_rule_binds_the_models_that_it_names(tmp_path: Path) -> None:
    policy = read_policy(write(tmp_path, WHOLE))
    plain = policy.demanded("reorder", "champion")
    assert plain is not None
    assert (plain.approvals, plain.groups, plain.evidence, plain.days) == (2, {"risk": 2}, ("tests",), 0)
    assert plain.author_counts
    assert plain.back
    assert policy.demanded("reorder", "challenger") is None
    assert policy.guarded("reorder") == ("champion",)


def test_rules_that_fit_together_ask_for_the_strictest(tmp_path: Path) -> None:
    found = read_policy(write(tmp_path, WHOLE)).demanded("credit_eu", "champion")
    assert found is not None
    assert (found.approvals, found.groups) == (2, {"risk": 2, "sales": 1})
    assert (found.evidence, found.days) == (("tests", "replay"), 3)
    assert not found.author_counts
    assert not found.back


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[promotion]", "it is not TOML"),
        ("[promotions]", "unknown field `promotions`"),
        ('[[promotion]]\nalais = "x"', "alais"),
        ("[[promotion]]\napprovals = 1", "alias"),
        ('[[promotion]]\nalias = "champion"', "it asks for nothing"),
        ('[[promotion]]\nalias = "champion"\napprovals = -1', ">= 0"),
        ('[[promotion]]\nalias = "champion"\napprovals = "two"', "Expected `int`"),
        ('[[promotion]]\nalias = "champion"\nevidence = ["luck"]', "luck"),
        ('[[promotion]]\nalias = "champion"\nshadow = "a while"', "shadow is 'a while'"),
        ('[[promotion]]\nalias = "v3"\napprovals = 1', "reserved"),
        ('[[promotion]]\nalias = "champion"\nmodels = []\napprovals = 1', "models names none"),
        ('[[promotion]]\nalias = "champion"\nfrom = { risk = 1 }', "the group 'risk'"),
        ('[groups]\nrisk = ["bea"]\n[[promotion]]\nalias = "champion"\nfrom = { risk = 2 }', "asks for 2 of risk"),
        ('digest = "0"', "unknown name 'digest'"),
    ],
)
def test_a_wrong_file_is_refused_with_what_is_wrong_and_never_counts_as_none(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(SampanError) as caught:
        read_policy(write(tmp_path, text))
    assert said in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match="it is not TOML"):
        read_policy(tmp_path)


def test_who_approves_thresholds_guards_no_version(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('[[promotion]]\nalias = "thresholds"\napprovals = 1\n')
    policy = read_policy(tmp_path)
    assert policy.guarded("reorder") == ()
    assert policy.demanded("reorder", "thresholds") is not None
