"""How long steps take side by side."""

from hypothesis import given
from hypothesis import strategies as st

from sampan.flow.forecast import span


def test_steps_wait_for_what_they_need_and_for_a_free_worker() -> None:
    seconds = {"a": 1.0, "b": 2.0, "c": 3.0}
    assert span(seconds, {"a": (), "b": ("a",), "c": ("b",)}, 4) == 6.0
    assert span(seconds, {"a": (), "b": (), "c": ()}, 1) == 6.0
    assert span(seconds, {"a": (), "b": (), "c": ()}, 2) == 4.0
    assert span(seconds, {"a": ("somebody else",), "b": (), "c": ()}, 3) == 3.0
    assert span({}, {}, 2) == 0.0


@given(
    st.lists(st.floats(0.0, 9.0), min_size=1, max_size=8),
    st.integers(1, 4),
    st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7))),
)
def test_it_lies_between_what_no_crowd_can_beat_and_one_after_the_other(took, workers, edges) -> None:  # type: ignore[no-untyped-def]
    seconds = {str(n): one for n, one in enumerate(took)}
    needs = {str(n): [str(a) for a, b in edges if b == n and a < n] for n in range(len(took))}
    found = span(seconds, needs, workers)
    assert max(sum(took) / workers, max(took)) - 1e-9 <= found <= sum(took) + 1e-9
