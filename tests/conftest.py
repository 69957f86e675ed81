"""For all tests."""

import os

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two workers, two processors: who waits must not spin
settings.register_profile("sampan", deadline=None)  # a machine that is busy elsewhere is no failure
settings.load_profile("sampan")

QUICK = 1_100
"""Seconds that the quick tests may take together, so that two workers with nothing beside them need ten minutes."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How long all tests took together, and whether the quick ones have become too many."""
    reports = [one for kind in terminalreporter.stats.values() for one in kind if isinstance(one, pytest.TestReport)]
    seconds = sum(one.duration for one in reports)
    if seconds < 60:
        return
    said = f"{seconds:,.0f} seconds of tests"
    if "not slow" in config.option.markexpr and seconds > QUICK:
        said += f"; on a machine that does nothing else {QUICK:,} is the limit: mark the longest slow (--durations=30)"
    terminalreporter.write_line(said)
