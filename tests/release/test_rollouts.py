"""``rollouts.toml``: what it may say, what follows from it, and how a wrong one is told."""

from pathlib import Path

import pytest

from sampan.base.errors import BadSetting
from sampan.release.rollouts import Floor, Latency, Metric, Rollout, read_rollouts

WHOLE = """
[reorder]
patience = "8 weeks"
patience_over = "roll back"
urgent = ["replay", "golden"]
false_rollbacks = 0.06

[reorder.kpi]
query = "SELECT prediction_id, earned AS value FROM earned"
minimum_effect = "2 %"

[[reorder.guardrail]]
kind = "error_rate"
at_most = 0.01

[[reorder.guardrail]]
kind = "latency"
at_most_ms = 50

[[reorder.guardrail]]
kind = "floor"
at_least = 0.2

[[reorder.guardrail]]
kind = "metric"
name = "brier"
query = "SELECT prediction_id, brier AS value FROM scored"
direction = "down"
at_most_worse = 0.01

[[reorder.guardrail]]
kind = "exposure"
query = "SELECT prediction_id, amount AS value FROM bought"
at_most = 100_000

[[reorder.stage]]
shadow = true
at_least = "3 days"

[[reorder.stage]]
share = 0.05
at_least = "36 hours"
units = 50

[[reorder.stage]]
share = 0.5
needs = "better"

[[reorder.stage]]
share = 1.0
"""
LEAST = """
[reorder.kpi]
query = "SELECT * FROM earned"
minimum_effect = 0.05
[[reorder.stage]]
share = 0.5
at_least = "1 day"
[[reorder.stage]]
share = 1.0
"""


def read(folder: Path, text: str) -> Rollout:
    (folder / "rollouts.toml").write_text(text, "utf-8")
    return read_rollouts(folder).of["reorder"]


def test_without_a_file_there_are_none(tmp_path: Path) -> None:
    found = read_rollouts(tmp_path)
    assert (found.of, found.digest) == ({}, "")


def test_the_whole_file_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert [stage.shown for stage in found.stage] == ["shadow", "5 % of traffic", "50 % of traffic", "100 % of traffic"]
    sampled = read(tmp_path, WHOLE.replace("shadow = true", "shadow = true\nsample = 0.2"))
    assert sampled.stage[0].shown == "shadow of 20 % of traffic" and sampled.level == found.level
    assert [stage.micros for stage in found.stage] == [259_200_000_000, 129_600_000_000, 0, 0]
    assert [one.name for one in found.guardrail] == ["error rate", "latency", "floor", "brier", "exposure"]
    assert isinstance(found.guardrail[1], Latency)
    assert isinstance(found.guardrail[2], Floor)
    assert found.guardrail[1].quantile == 0.99
    assert (found.terms.minimum, found.terms.relative, found.terms.higher) == (0.02, True, True)
    assert len(read_rollouts(tmp_path).digest) == 64


def test_what_can_roll_back_shares_the_error_and_what_can_promote_has_it_whole(tmp_path: Path) -> None:
    found = read(tmp_path, WHOLE)
    assert found.level == pytest.approx(0.06 / 6)  # four guardrails with statistics, the KPI in shadow and in arms
    assert found.terms.false_worse == found.level
    assert found.terms.false_better == 0.05
    brier = found.guardrail[3]
    assert isinstance(brier, Metric)
    assert found.terms_of(brier).false_worse == found.level
    assert not found.terms_of(brier).higher
    assert read(tmp_path, LEAST).level == 0.05


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[reorder]", "[reorder", "it is not TOML"),
        ("[reorder]", "[reorder]\npatients = 1", "line 3, [reorder]: unknown key patients\n  Did you mean patience?"),
        ("[reorder]", '["re order".kpi]\nx = 1\n[reorder]', "'re order' names no endpoint"),
        ('kind = "latency"', 'kind = "luck"', "'luck' is no kind of guardrail"),
        ('kind = "latency"\n', "", "line 16, [reorder]: guardrail 2: kind is missing\n  Known: error_rate"),
        (
            "at_most_ms = 50",
            "at_most_ms = 0",
            "line 18, [reorder]: guardrail 2: at_most_ms is 0; it must be more than 0",
        ),
        ("at_most_ms = 50", "at_most_ms = inf", "guardrail 2: at_most_ms is inf"),
        ("at_least = 0.2", "at_least = nan", "guardrail 3: at_least is nan"),
        ('"2 %"', "nan", "line 10, [reorder]: kpi.minimum_effect is nan"),
        (
            "at_most_ms = 50",
            "at_least = 50",
            "guardrail 2: unknown key at_least\n  Known here: kind, at_most_ms, quantile, name.",
        ),
        ("share = 0.05", "share = 0.0", "line 41, [reorder]: stage 2: share is 0.0"),
        ("share = 0.05", "share = 1.5", "share is 1.5; it must be at most 1\n  A share is a part of 1: 0.05 are 5 %."),
        (
            "share = 0.05",
            "share = 0.6",
            "line 46, [reorder]: stage 3: share is 0.5, that of the stage before it 0.6: shares must grow",
        ),
        ("share = 1.0", "share = 0.9", "the last stage has the share 0.9"),
        ("share = 0.05", "share = 0.05\nshadow = true", "stage 2 needs either"),
        ("shadow = true\n", "", "stage 1 needs either"),
        ("share = 0.05", "share = 0.05\nsample = 0.2", "stage 2: sample is for a shadow"),
        ("shadow = true", "shadow = true\nsample = 0", "stage 1: sample is 0; it must be more than 0"),
        ("share = 0.05", "shadow = true", "only the first stage can be a shadow"),
        ('at_least = "36 hours"', 'at_least = "a while"', "stage 2: at_least is 'a while'"),
        ('at_least = "3 days"', "", "line 36, [reorder]: stage 1: at_least is missing"),
        ('"8 weeks"', '"long"', "patience is 'long'"),
        (
            '"roll back"',
            '"promote"',
            "line 4, [reorder]: patience_over is 'promote'\n  Known: 'wait', 'ask', 'roll back'.",
        ),
        ("false_rollbacks = 0.06", "false_rollbacks = 0", "false_rollbacks is 0; it must be more than 0"),
        ("false_rollbacks = 0.06", "false_promotions = 0.9", "at most 0.25"),
        ("false_rollbacks = 0.06", "units = 2", "units is 2; it must be at least 30"),
        ("false_rollbacks = 0.06", 'keep_warm = ""', "keep_warm is empty"),
        ('"2 %"', '"two"', "kpi.minimum_effect is 'two'"),
        ('"2 %"', '"0 %"', "kpi.minimum_effect is '0 %'"),
        ('"2 %"', "-1", "kpi.minimum_effect"),
        ("SELECT prediction_id, earned AS value", "DELETE", "kpi.query"),
        ("SELECT prediction_id, earned AS value FROM earned", "DROP TABLE earned", "kpi.query"),
        ("SELECT prediction_id, earned AS value FROM earned", "SELEC 1", "kpi.query"),
        ("SELECT prediction_id, earned AS value FROM earned", "SUMMARIZE earned", "is no SELECT"),
        ("SELECT prediction_id, earned AS value FROM earned", "SELECT 1; SELECT 2", "a second statement"),
        ("earned AS value", "earned", "it must give prediction_id and value"),
        ("at_most_worse = 0.01", 'at_most_worse = "much"', "guardrail 4: at_most_worse is 'much'"),
        ("SELECT prediction_id, brier AS value", "SELECT brier", "guardrail 4: query gives brier"),
        ('kind = "latency"', 'kind = "latency"\nname = "floor"', "guardrail 3: another one is called 'floor' too"),
        ('urgent = ["replay", "golden"]', 'urgent = ["luck"]', "luck"),
        ("[reorder.kpi]", "[reorder.kpx]", "Did you mean kpi?"),
        ("at_most = 0.01", 'at_most = "1 %"', "at_most is '1 %'; expected a number\n  Write a part of 1: 0.01 is 1 %."),
        ('at_least = "36 hours"', "at_least = 36", "at_least is 36; expected a text\n  Write a number of seconds"),
        ("share = 0.05", 'share = "5 %"', "stage 2: share is '5 %'; expected a number\n  A share is a part of 1"),
        ('urgent = ["replay", "golden"]', 'urgent = "golden"', "urgent is 'golden'; expected a list"),
        ("[reorder]", "patience = 3\n[reorder]", "[patience]: is 3, where a table is expected"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_never_counts_as_none(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert old in WHOLE
    with pytest.raises(BadSetting) as caught:
        read(tmp_path, WHOLE.replace(old, new, 1))
    assert said in str(caught.value)
    assert str(caught.value).startswith("Read rollouts.toml: ")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rollouts.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadSetting, match="it is not TOML"):
        read_rollouts(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[reorder]\n[reorder.kpi]\nminimum_effect = 1\n",
            "line 1, [reorder]: stage is missing\n  Write a [[reorder.stage]]",
        ),
        (
            "[reorder]\n[reorder.stage]\nshare = 1.0\n",
            "line 2, [reorder]: stage is not a list of tables\n  Write [[reorder.stage]]",
        ),
        ("[[reorder.stage]]\nshare = 1.0\n", "[reorder]: kpi is missing\n  Write [reorder.kpi] with a minimum_effect"),
        (
            "reorder = {kpi = {minimum_effort = 1}}",
            "[reorder]: kpi: unknown key minimum_effort\n  Did you mean minimum_effect?",
        ),
    ],
)
def test_a_file_of_another_form_is_told_what_form_it_has(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadSetting) as caught:
        read(tmp_path, text)
    assert said in str(caught.value)
