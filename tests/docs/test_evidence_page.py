"""The study behind docs/design/evidence.md: its sums are those of the functions that decide, its rollouts end."""

import importlib.util
import re
import sys
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
    monkeypatch.setattr(study, "_SURE", 0.0)
    assert [study.rollout(scenario, seed) for seed in range(4)] == some


def test_the_page_has_figures_within_what_is_declared() -> None:
    page = (DOCS / "design" / "evidence.md").read_text("utf-8")
    found = re.findall(r"^\| (A/A[^|]*) \| ([\d,]+) \| \d+ \| ([\d.]+)% [^|]*\| ([\d.]+)% ", page, re.MULTILINE)
    assert len(found) == 6
    assert all(float(promoted) <= 5 and float(reverted) <= 5 for _, _, promoted, reverted in found)
    for name in ("evidence-band.svg", "evidence-weeks.svg"):
        assert name in page
        assert (DOCS / "images" / name).read_text("utf-8").startswith("<svg")
