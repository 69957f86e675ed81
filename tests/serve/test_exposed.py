"""What caps hold back by the day, asked of the log."""

from tests.release.test_looking import Looked, looked

from sampan.serve.exposed import days

__all__ = ["looked"]


def told(held: bool, cap: float, day: str = "2026-03-01") -> dict[str, object]:
    return {"risk": 0.0, "day": day, "total": cap, "cap": cap, **({"held": "reserve", "rule": ""} if held else {})}


def test_what_a_raised_cap_would_not_hold_back_is_the_days_but_not_held_any_more(looked: Looked) -> None:
    def answer(number: int, held: bool, cap: float) -> None:
        looked.send(looked.answered(number, False, exposure=told(held, cap)), stream="serve-reorder")

    def seen() -> tuple[int, int, float | None]:
        (one,) = days(looked.app.log, "reorder", 0)
        return one.held, one.holding, one.cap

    answer(1, True, 100.0)
    assert seen() == (1, 1, 100.0)
    answer(2, False, 500.0)
    assert seen() == (1, 0, 500.0)
    answer(3, True, 50.0)
    assert seen() == (2, 2, 50.0), "a lower one would have held both"
    assert days(looked.app.log, "reorder", looked.app.clock.micros() + 60_000_000) == []
