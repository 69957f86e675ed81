"""The study behind docs/design/evidence.md: its sums are those of the functions that decide, its rollouts end."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.fixture(scope="module")
def study() -> ModuleType:
    spec = importlib.util.spec_from_file_location("evidence_study", DOCS / "evidence.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_sums_of_all_looks_at_once_are_those_of_each_look(study: ModuleType) -> None:
    rows = study.requests(np.random.default_rng(1), study.Scenario("money", 0.1, weeks=1, delay=2))
    looks = np.array([500, 1_000, 2_000, 3_360])
    at_once = study.path(rows, [0, 900, 1_800], looks)
    for at, look in enumerate(looks.tolist()):
        one, other = at_once.contrast(at), study.clustered(rows, [0, 900, 1_800], look)
        assert one.units == other.units
        assert (one.information, one.sum, one.variance, one.champion) == pytest.approx(
            (other.information, other.sum, other.variance, other.champion)
        )


def test_a_large_gain_is_promoted_a_large_loss_rolled_back_and_again_the_same(study: ModuleType) -> None:
    gains = [study.rollout(study.Scenario("money", 0.5, weeks=4), seed) for seed in range(5)]
    assert {one.phase for one in gains} == {"full"}
    assert {study.rollout(study.Scenario("money", -0.5, weeks=4), seed).phase for seed in range(5)} == {"reverted"}
    assert gains == [study.rollout(study.Scenario("money", 0.5, weeks=4), seed) for seed in range(5)]


def test_no_look_that_could_say_something_is_left_out(study: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = study.Scenario("binary", 0.3, weeks=2)
    some = [study.rollout(scenario, seed) for seed in range(4)]
    monkeypatch.setattr(study, "SURE", 0.0)
    assert [study.rollout(scenario, seed) for seed in range(4)] == some


@pytest.fixture(scope="module")
def beside() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("evidence_beside")
    sys.path.remove(str(DOCS))


def test_a_broken_candidate_is_stopped_by_the_guardrail_that_it_breaks(beside: ModuleType) -> None:
    for rail, broken in (
        ("error rate", {"errors": 0.2}),
        ("latency", {"slow": 0.2}),
        ("kept", {"kept": -0.6}),
        ("floor", {"money": -0.8}),
    ):
        found = [beside.guarded(beside.Candidate(**broken), seed) for seed in range(4)]
        assert {one.rail for one in found} == {rail}
        assert found == [beside.guarded(beside.Candidate(**broken), seed) for seed in range(4)]
    assert [beside.guarded(beside.Candidate(), seed) for seed in range(4)] == [None] * 4


def test_no_reading_that_could_stop_a_candidate_is_left_out(
    beside: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = beside.Candidate(kept=-0.6, money=-0.5)
    some = [beside.guarded(broken, seed, 2) for seed in range(3)]
    monkeypatch.setattr(beside, "SURER", 0.0)
    assert [beside.guarded(broken, seed, 2) for seed in range(3)] == some


def test_pairs_are_what_paired_makes_of_their_rows(beside: ModuleType) -> None:
    from sampan.release.evidence import Lines, judge, paired

    one, seed = beside.Pair(0.1, 0.5, weeks=2), 3
    ended = beside.shadow(one, seed)
    chance, count = np.random.default_rng((seed, 55)), one.weeks * beside.WEEK
    old = beside.outcomes(chance, "money", 0.0, count)
    other = beside.outcomes(chance, "money", one.gain / one.differ, count)
    value = (np.where(chance.random(count) < one.differ, other, old) - old)[: ended.requests]
    units = np.arange(ended.requests)
    lines = Lines(units, units >= 0, np.zeros(len(units), dtype=np.int64), np.ones(len(units)), value)
    found = judge(paired(lines, float(old[: ended.requests].mean())), beside.SHADOWED.terms)
    assert (ended.phase, found.verdict) == ("full", "better")


def test_the_page_has_figures_within_what_is_declared() -> None:
    page = (DOCS / "design" / "evidence.md").read_text("utf-8")
    found = re.findall(r"^\| (A/A[^|]*) \| ([\d,]+) \| \d+ \| ([\d.]+)% [^|]*\| ([\d.]+)% ", page, re.MULTILINE)
    assert len(found) == 6
    assert all(float(promoted) <= 5 and float(reverted) <= 5 for _, _, promoted, reverted in found)
    stopped = re.search(r"^\| sound: [^|]*\| [\d,]+ \| ([\d.]+)% ", page, re.MULTILINE)
    assert stopped is not None and float(stopped[1]) <= 5
    idle = re.findall(r"requests \| nothing \| [\d,]+ \| ([\d.]+)% [^|]*\| ([\d.]+)% ", page)
    assert len(idle) == 2 and all(float(share) <= 5 for pair in idle for share in pair)
    charts = ("band", "weeks", "guardrails", "shadow")
    for name in (f"evidence-{one}.svg" for one in charts):
        assert name in page
        assert (DOCS / "images" / name).read_text("utf-8").startswith("<svg")
