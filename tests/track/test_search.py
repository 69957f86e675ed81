"""Search finds what plain Python finds, in the same order, on pages that add up; a filter that is wrong says where."""

import math
import operator
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sampan.base.clock import ManualClock
from sampan.base.errors import Usage
from sampan.track.records import Dataset, Input, Metric, Run
from sampan.track.search import MANY
from sampan.track.tracking import Tracking

NUMBERS = st.sampled_from([-math.inf, -1.5, -0.0, 0.0, 0.25, 1.0, 3e300, math.inf, math.nan])
TEXTS = st.sampled_from(["", "a", "A", "ab", "a%b", "a_b", "aXb", "*", "[a]", "é", "it's", '"'])
KEYS = st.sampled_from(["a.b", "val loss"])
RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "name": TEXTS.filter(bool),
            "started": st.integers(0, 5),
            "ended": st.none() | st.integers(0, 5),
            "metrics": st.dictionaries(KEYS, NUMBERS, max_size=3),
            "params": st.dictionaries(KEYS, TEXTS, max_size=3),
            "tags": st.dictionaries(KEYS, TEXTS, max_size=2),
            "dataset": st.none() | st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(["fit", "eval"])),
        }
    ),
    max_size=8,
)


RUN: dict[str, Any] = {
    "name": "a",
    "started": 1,
    "ended": None,
    "metrics": {},
    "params": {},
    "tags": {},
    "dataset": None,
}


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def written(key: str) -> str:
    return f"`{key}`" if " " in key else key


NUMERIC = st.tuples(
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.sampled_from([-1.5, 0, 0.25, 1, 3e300, -9e999])
)
TEXTUAL = st.one_of(
    st.tuples(st.sampled_from(["=", "!=", "LIKE", "ILIKE"]), TEXTS),
    st.tuples(st.sampled_from(["IN", "NOT IN"]), st.lists(TEXTS, min_size=1, max_size=3).map(tuple)),
)
NULLS = st.tuples(st.sampled_from(["IS NULL", "IS NOT NULL"]), st.none())
CLAUSES = st.one_of(
    st.tuples(st.sampled_from(["metrics", "metric"]), KEYS, NUMERIC),
    st.tuples(st.sampled_from(["params", "parameter"]), KEYS, TEXTUAL | NULLS),
    st.tuples(st.sampled_from(["tags", "tag"]), KEYS, TEXTUAL | NULLS),
    st.tuples(st.sampled_from(["attributes", "run"]), st.sampled_from(["start_time", "end_time"]), NUMERIC),
    st.tuples(st.just("attr"), st.just("run_name"), TEXTUAL),
    st.tuples(st.just("datasets"), st.sampled_from(["name", "context"]), TEXTUAL),
)
ORDERS = st.lists(
    st.tuples(
        st.one_of(
            st.tuples(st.sampled_from(["metrics", "params", "tags"]), KEYS),
            st.tuples(st.just("attributes"), st.sampled_from(["start_time", "end_time", "run_name"])),
        ),
        st.booleans(),
    ),
    max_size=3,
)


def clause_text(clause: Any) -> str:
    entity, key, (comparator, value) = clause
    said = ""
    if isinstance(value, tuple):
        said = f"({', '.join(map(quoted, value))})"
    elif isinstance(value, str):
        said = quoted(value)
    elif value is not None:
        said = repr(value) if math.isfinite(value) else "-9e999"
    return f"{entity}.{written(key)} {comparator} {said}"


def like(value: str, pattern: str, flags: int = 0) -> bool:
    expression = "".join(".*" if sign == "%" else "." if sign == "_" else re.escape(sign) for sign in pattern)
    return re.fullmatch(expression, value, flags | re.DOTALL) is not None


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "LIKE": like,
    "ILIKE": lambda value, pattern: like(value, pattern, re.IGNORECASE | re.ASCII),
    "IN": lambda value, many: value in many,
    "NOT IN": lambda value, many: value not in many,
}


def values(run: Run, entity: str, key: str) -> list[Any]:
    """What a run has to be compared."""
    if entity.startswith("metric"):
        return [one.value for one in run.metrics if one.key == key]
    if entity.startswith("param"):
        return [run.params[key]] if key in run.params else []
    if entity.startswith("tag"):
        return [run.tags[key]] if key in run.tags else []
    if entity == "datasets":
        return [one.dataset.name if key == "name" else one.tags["mlflow.data.context"] for one in run.inputs]
    found = {"start_time": run.started, "end_time": run.ended, "run_name": run.name}[key]
    return [] if found is None else [found]


def fulfils(run: Run, clause: Any) -> bool:
    entity, key, (comparator, value) = clause
    found = values(run, entity, key)
    if comparator == "IS NULL":
        return not found
    if comparator == "IS NOT NULL":
        return bool(found)
    return any(COMPARE[comparator](one, value) for one in found)


def in_order(runs: list[Run], orders: list[tuple[tuple[str, str], bool]]) -> list[Run]:
    runs = sorted(runs, key=lambda run: (-run.started, run.id))
    for (entity, key), ascending in reversed(orders):
        has = [run for run in runs if values(run, entity, key)]
        real = [run for run in has if values(run, entity, key)[0] == values(run, entity, key)[0]]
        nan = [run for run in has if run not in real]
        real.sort(key=lambda run: values(run, entity, key)[0], reverse=not ascending)
        runs = [*real, *nan, *[run for run in runs if not values(run, entity, key)]]
    return runs


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracking]:
    """One for many examples, each in an experiment of its own."""
    made = Tracking(tmp_path_factory.mktemp("search") / ".sampan", ManualClock(1_767_225_600_000_000))
    yield made
    made.close()


def fill(tracking: Tracking, runs: list[dict[str, Any]]) -> tuple[int, list[Run]]:
    number = len(tracking.search.experiments(limit=50_000).found)
    experiment = tracking.experiments.create(f"e{number}", {})
    made = []
    for one in runs:
        run = tracking.runs.create(experiment, name=one["name"], started=one["started"], tags=one["tags"]).id
        metrics = [Metric(key, value, 1) for key, value in one["metrics"].items()]
        tracking.logging.log(run, metrics, list(one["params"].items())).result()
        if one["ended"] is not None:
            tracking.runs.update(run, ended=one["ended"], status="FINISHED")
        if one["dataset"] is not None:
            name, context = one["dataset"]
            tags = {"mlflow.data.context": context}
            tracking.logging.inputs(run, [Input(Dataset(name, "d1", "local", "{}"), tags)])
        made.append(tracking.runs.get(run))
    return experiment, made


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example([RUN | {"metrics": {"a.b": math.nan}}], [("metrics", "a.b", (">", 0.25))], [], 1, 0)
@example([RUN | {"metrics": {"a.b": math.nan}}], [("metrics", "a.b", ("!=", 0.25))], [], 1, 0)
@example(
    [RUN | {"metrics": {"a.b": value}} for value in (1.0, math.nan, 0.25)], [], [(("metrics", "a.b"), False)], 1, 0
)
@given(
    runs=RUNS,
    clauses=st.lists(CLAUSES, max_size=3),
    orders=ORDERS,
    size=st.integers(1, 4),
    many=st.sampled_from([0, MANY]),
)
def test_search_finds_what_plain_python_finds_in_the_same_order(
    shared: Tracking, runs: list[dict[str, Any]], clauses: list[Any], orders: list[Any], size: int, many: int
) -> None:
    shared.search.many = many  # from so many runs on pages are read along an index
    experiment, made = fill(shared, runs)
    expected = in_order([run for run in made if all(fulfils(run, one) for one in clauses)], orders)
    filter = " AND ".join(map(clause_text, clauses))
    said = [f"{entity}.{written(key)} {'ASC' if up else 'DESC'}" for (entity, key), up in orders]
    found, token = [], ""
    while True:
        page = shared.search.runs([experiment], filter, orders=said, limit=size, token=token)
        found += page.found
        token = page.next
        assert len(page.found) <= size
        if not token:
            break
    assert [run.id for run in found] == [run.id for run in expected], (filter, said)


BAD = {
    "metrics.m >": "found the end",
    "metrics.m > 'a'": "expected a number for metric 'm', found 'a' at character 13",
    "metrics.m LIKE 'a'": "invalid comparator 'LIKE' for metric 'm'",
    "params.p > '3'": "invalid comparator '>' for param 'p' at character 1",
    "params.p = 3": "expected a text in quotes for param 'p', found '3' at character 12",
    "nothing = 'a'": "invalid attribute key 'nothing' at character 1",
    "thing.a = 'a'": "invalid entity type 'thing' at character 1",
    "metrics.m > 1 OR metrics.m < 0": "expected AND, found 'OR' at character 15",
    "metrics.m > 1; DROP TABLE runs": "at character 14 is no name",
    "params.p = 'a": "at character 12 is no name",
    "run_id IN ()": "expected a text in quotes",
    "run_id IN ('a'": "expected , or )",
    "dataset.size = 'a'": "invalid dataset key 'size'",
    "start_time = 'a'": "expected a number",
    "metrics. > 1": "expected a key",
    "AND": "invalid attribute key 'AND'",
    "start_time IS NULL": "invalid comparator 'IS NULL'",
}


@pytest.mark.parametrize("filter", BAD)
def test_a_filter_that_is_wrong_says_where(tracking: Tracking, filter: str) -> None:
    with pytest.raises(Usage) as caught:
        tracking.search.runs([0], filter)
    assert BAD[filter] in caught.value.obstacle


def test_a_filter_may_not_be_endless(tracking: Tracking) -> None:
    with pytest.raises(Usage, match="at most 100 comparisons"):
        tracking.search.runs([0], " AND ".join(["metrics.m > 1"] * 101))
    assert tracking.search.runs([0], " AND ".join(["metrics.m > 1"] * 100)).found == []
    with pytest.raises(Usage, match="it has 100001 characters"):
        tracking.search.runs([0], " " * 100_001)


def test_what_is_said_in_a_filter_is_never_run(tracking: Tracking) -> None:
    run = tracking.runs.create(0, name="x') OR ('1'='1", tags={})
    assert tracking.search.runs([0], "run_name = 'y'' OR ''1''=''1'").found == []
    assert [one.id for one in tracking.search.runs([0], "run_name = 'x'') OR (''1''=''1'").found] == [run.id]


def test_runs_that_begin_meanwhile_move_no_page(tracking: Tracking, clock: ManualClock) -> None:
    first = [tracking.runs.create(0, started=number, tags={}).id for number in range(6)]
    page = tracking.search.runs([0], limit=2)
    tracking.runs.create(0, started=99, tags={})
    rest = tracking.search.runs([0], limit=10, token=page.next)
    assert [run.id for run in (*page.found, *rest.found)] == first[::-1]


def test_a_page_token_of_another_question_is_refused(tracking: Tracking) -> None:
    for _ in range(3):
        tracking.runs.create(0, tags={})
    token = tracking.search.runs([0], limit=1).next
    for ask in (
        lambda: tracking.search.runs([0], "metrics.m > 1", limit=1, token=token),
        lambda: tracking.search.runs([0, 1], limit=1, token=token),
        lambda: tracking.search.runs([0], view="ALL", limit=1, token=token),
        lambda: tracking.search.runs([0], orders=["start_time"], limit=1, token=token),
        lambda: tracking.search.experiments(limit=1, token=token),
    ):
        with pytest.raises(Usage, match="belongs to another search"):
            ask()


@pytest.mark.parametrize("token", ["x", "!!", "eyJvZmZzZXQiOiAxMDB9", "W10", "bnVsbA==", "é"])
def test_what_is_no_page_token_is_refused(tracking: Tracking, token: str) -> None:
    with pytest.raises(Usage, match="invalid page token"):
        tracking.search.runs([0], token=token)


def test_experiments_are_searched_by_name_time_and_tags(tracking: Tracking, clock: ManualClock) -> None:
    for number, name in enumerate(("alpha", "beta", "Alpine")):
        clock.set(1_800_000_000_000_000 + number * 1_000_000)
        tracking.experiments.create(name, {"team": f"t{number % 2}"})
    search = tracking.search.experiments

    def names(filter: str, **more: Any) -> list[str]:
        return [one.name for one in search(filter, **more).found]

    assert names("") == ["Alpine", "beta", "alpha", "Default"]
    assert names("name ILIKE 'alp%'", orders=["name"]) == ["Alpine", "alpha"]
    assert names("name LIKE 'alp%'") == ["alpha"]
    assert names("tags.team = 't0' AND creation_time > 1800000000000") == ["Alpine"]
    assert names("experiment_id IN ('1', '2')", orders=["experiment_id ASC"]) == ["alpha", "beta"]
    tracking.experiments.delete(2)
    assert names("", view="DELETED_ONLY") == ["beta"]
    with pytest.raises(Usage, match="invalid entity type 'metrics'"):
        search("metrics.m > 1")


def test_runs_of_no_experiment_are_no_runs(tracking: Tracking, tmp_path: Path) -> None:
    tracking.runs.create(0, tags={})
    assert tracking.search.runs([]).found == []
    assert tracking.search.runs([77]).found == []
