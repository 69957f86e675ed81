"""What was in force: written down when it changes, with what the hub's environment overrides apart."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sampan.app import App
from sampan.base.clock import SharedClock
from sampan.hub.in_force import first, keep, then
from tests.hub.conftest import make_workspace

START = datetime(2026, 1, 10, tzinfo=UTC)
HOUR = 3_600_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = make_workspace(tmp_path / "shop")
    SharedClock.create(folder / "clock", START)
    return folder


def write(folder: Path, text: str = "", *, hub: bool = False, hours: int = 0) -> int:
    """Write sampan.toml, and let a process see it so many hours after the start; gives the time of that."""
    (folder / "sampan.toml").write_text(f'[settings]\nclock = "clock"\n{text}')
    app = App(folder)
    SharedClock(folder / "clock").set(START + timedelta(hours=hours))
    with app.writing("Test"):
        keep(app, hub=hub)
        at = app.clock.micros()
    app.close()
    return at


def seen(folder: Path, by: int, *names: str) -> list[tuple[str, str]] | None:
    app = App(folder)
    found = then(app, by)
    app.close()
    if found is None:
        return None
    every = {**found.settings, **found.limits, **found.others}
    return [(every[name].shown, every[name].origin) for name in names]


def test_a_value_holds_until_a_process_sees_another(folder: Path) -> None:
    began = write(folder)
    write(folder, hours=1)
    changed = write(folder, "port = 8000\n[retention]\nruns = '7 days'\n", hours=2)
    names = ("port", "retention.runs")
    assert seen(folder, began - 1, *names) is None
    assert seen(folder, changed - 1, *names) == [("7267", "default"), ("90 days", "default")]
    assert seen(folder, changed, *names) == [("8000", "sampan.toml"), ("7 days", "sampan.toml")]
    app = App(folder)
    assert (first(app), [one.since for one in (then(app, changed - 1), then(app, changed)) if one]) == (
        began,
        [began, changed],
    )
    assert len(app.db.rows("SELECT 1 FROM states WHERE kind = 'settings'")) == 2
    app.close()


def test_only_a_hub_says_what_its_environment_overrides(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_WORKERS", "3")
    command = write(folder)
    assert seen(folder, command, "workers") == [("0", "default")]
    hub = write(folder, hub=True, hours=1)
    monkeypatch.delenv("SAMPAN_WORKERS")
    assert seen(folder, hub, "workers") == [("3", "SAMPAN_WORKERS")]
    run = write(folder, "workers = 2\n", hours=2)
    assert seen(folder, run, "workers") == [("3", "SAMPAN_WORKERS")]
    again = write(folder, "workers = 2\n", hub=True, hours=3)
    assert seen(folder, again, "workers") == [("2", "sampan.toml")]


def test_what_is_secret_is_not_written_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPAN_TOKEN", "smp_very-secret")
    hook = '[[alerts.webhooks]]\nname = "pager"\nurl = "https://example.org/hook/very-secret"\n'
    hook += 'secret = "very-secret, and long enough to sign"\n'
    at = write(folder, hook, hub=True)
    assert seen(folder, at, "token") == [("••••••", "SAMPAN_TOKEN")]
    for file in (folder / ".sampan").glob("records.db*"):
        assert b"very-secret" not in file.read_bytes()


def test_what_cannot_be_read_is_in_force_nowhere(folder: Path) -> None:
    at = write(folder)
    assert write(folder, "port = 'high'\n", hours=1) > at
    assert write(folder, "[prices]\nper_hour = 1\n", hours=2) > at
    assert seen(folder, at + 9 * HOUR, "port") == [("7267", "default")]
