"""What a question to the log has found is given again: to who asks soon, or before anything has come."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from sampan.app import App
from sampan.hub import kept
from sampan.hub.kept import Kept
from tests.hub.conftest import make_workspace


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(make_workspace(tmp_path))


def visit(app: App, number: int) -> None:
    when = "2026-01-01T00:00:00Z"
    data = {"page": "/", "visitor": f"v{number}"}
    event = {"id": f"e{number}", "type": "visit", "source": "shop", "time": when, "subject": f"v{number}", "data": data}
    with app.writing("Send"):
        writer = app.log.writer("told")

        async def submit() -> str:
            return (
                (await writer.submit(writer.checker.batch([msgspec.json.encode(event)]), "shop")).verdicts()[0].verdict
            )

        assert asyncio.run(submit()) == "accepted"
        writer.close()


def test_what_is_quick_is_found_anew_once_something_has_come_and_not_before(app: App) -> None:
    answers: Kept[int] = Kept()
    asked = iter(range(100))
    visit(app, 1)
    assert [answers.ask(app.log, "one", lambda: next(asked)) for _ in range(3)] == [0, 0, 0]
    assert answers.ask(app.log, "another", lambda: next(asked)) == 1
    visit(app, 2)
    assert [answers.ask(app.log, "one", lambda: next(asked)) for _ in range(2)] == [2, 2]
    answers.clear()
    assert answers.ask(app.log, "one", lambda: next(asked)) == 3


def test_what_took_long_is_told_for_a_while_but_not_once_a_key_is_destroyed(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_OLDEST", 3600.0)
    monkeypatch.setattr(kept, "_PATIENCE", 1e9)
    answers: Kept[int] = Kept()
    asked = iter(range(100))

    def slowly() -> int:
        time.sleep(kept._QUICK)
        return next(asked)

    for number, (found, why) in enumerate(((0, "first"), (1, "that may be why it took long"), (1, "a moment old"))):
        visit(app, number)
        assert answers.ask(app.log, "one", slowly) == found, why
    with app.writing("Destroy"):
        app.log.keys.make("v1")
        app.log.keys.flush()
        assert app.log.keys.destroy("v1")
    assert answers.ask(app.log, "one", lambda: next(asked)) == 2


def test_a_question_that_fails_is_asked_again_and_old_answers_make_room(app: App) -> None:
    answers: Kept[int] = Kept()
    with pytest.raises(ZeroDivisionError):
        answers.ask(app.log, "one", lambda: 1 // 0)
    assert answers.ask(app.log, "one", lambda: 7) == 7
    for number in range(kept._KEPT):
        answers.ask(app.log, number, lambda: 8)
    assert answers.ask(app.log, "one", lambda: 9) == 9
