"""What a change of data is worth to a model: measured on branches of a real workspace, by real trainings."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from flow_bench import Bench

from sampan.base.clock import SystemClock
from sampan.base.errors import NotFound, SampanError, StepFailed, Usage
from sampan.flow.heldout import chosen, units
from sampan.flow.job import HeldOut, Stored
from sampan.flow.outcome import Progress
from sampan.lake.rowkey import row_key
from sampan.models.paired import compare, estimate
from sampan.runs.impacts import Impact, ImpactFigure, ImpactRequest, Impacts, sentence
from sampan.runs.records import SUCCEEDED

STEPS = """
    import itertools
    import lightgbm
    import numpy as np
    import pyarrow as pa
    from sampan import Fitted, model, step

    @step
    def visits(
        rows: int = 900, wrong: float = 0.35, again: int = 0, extra: bool = False, named: bool = True, last: int = 0,
        number: str = "int64", timed: str = "", turned: bool = False,
    ) -> pa.Table:
        chance = np.random.default_rng(3)
        spent, hour = chance.normal(size=(2, rows))
        returned = spent + 0.3 * chance.normal(size=rows) > 0
        broken = np.random.default_rng(again).random(rows) < wrong  # a till out of order tells the opposite
        shop = np.where(np.arange(rows) % 2 == 0, "north", "south")
        shop[:30] = "kiosk"
        columns = {"visit": np.arange(rows).astype(number), "shop": shop, "spent": spent, "hour": hour}
        columns["returned"] = np.where(broken, ~returned, returned)
        if extra:
            columns["weather"] = chance.normal(size=rows)
        if timed:
            columns[timed] = np.datetime64("2026-01-01T00:00", "us") + np.arange(rows).astype("timedelta64[h]")
        if turned:  # whoever spent much came back, until some day; from then on whoever spent little
            columns["returned"] = np.where(np.arange(rows) < rows // 2, columns["returned"], ~columns["returned"])
        if not named:
            del columns["visit"], columns["shop"]
        return pa.table(columns).slice(last)

    @step
    def parcels(heavy: bool = True, shift: float = 0.0) -> pa.Table:
        weight = np.random.default_rng(5).uniform(0, 3, 300)
        kind = np.array(["letter", "box", "crate"])[weight.astype(int)]
        price = [None if at % 10 == 0 else 2 * w + shift * (at % 2) for at, w in enumerate(weight)]
        late = np.where(weight > 1.5, "yes", "no")
        made = pa.table({"parcel": np.arange(300), "weight": weight, "kind": kind, "price": price, "late": late})
        return made if heavy else made.filter(pa.array(kind != "crate"))

    def learned(kind: str, parcels: pa.Table, target: str) -> Fitted:
        from sklearn.linear_model import LinearRegression, LogisticRegression
        rows = parcels.filter(parcels[target].is_valid())
        x, y = rows["weight"].to_numpy().reshape(-1, 1), np.array(rows[target].to_pylist())
        estimator = LinearRegression() if kind == "regression" else LogisticRegression(C=100)
        return Fitted(estimator.fit(x, y), features=["weight"], sample=rows.select(["weight"]))

    @model(kind="multiclass", target="kind")
    def sorts(parcels: pa.Table) -> Fitted:
        return learned("multiclass", parcels, "kind")

    @model(kind="regression", target="price")
    def prices(parcels: pa.Table) -> Fitted:
        return learned("regression", parcels, "price")

    @model(kind="binary", target="late")
    def comes_late(parcels: pa.Table) -> Fitted:
        return learned("binary", parcels, "late")

    @step
    def offers(wrong: float = 0.9) -> pa.Table:
        chance = np.random.default_rng(8)
        fits, price = chance.normal(size=(2, 720))
        told = np.clip(np.round(fits + 1), 0, 3).astype(int)
        broken = np.random.default_rng(9).random(720) < wrong
        told = np.where(broken, chance.integers(0, 4, 720), told)
        query = np.repeat(np.arange(120), 6)
        told[query == 0] = 0  # nothing is relevant there
        return pa.table({"query": query, "item": np.arange(720), "fits": fits, "price": price, "relevance": told})

    @model(kind="ranking", target="relevance", group="query")
    def orders_offers(offers: pa.Table) -> Fitted:
        sizes = [len(list(same)) for _, same in itertools.groupby(offers["query"].to_pylist())]
        x = np.column_stack([offers["fits"].to_numpy(), offers["price"].to_numpy()])
        data = lightgbm.Dataset(x, offers["relevance"].to_numpy(), group=sizes, feature_name=["fits", "price"])
        options = {"objective": "lambdarank", "num_leaves": 4, "num_threads": 1, "verbose": -1, "deterministic": True}
        return Fitted(lightgbm.train(options, data, 20), features=["fits", "price"],
                      sample=offers.select(["fits", "price"]))

    @step
    def rates(bonus: int = 1) -> pa.Table:
        return pa.table({"visit": [1, 2], "bonus": [bonus, bonus]})

    @step
    def shops(visits: pa.Table) -> int:
        return 2

    def fitted(visits: pa.Table, seed: int = 1) -> Fitted:
        names = [name for name in ("spent", "hour", "weather") if name in visits.column_names]
        x = np.column_stack([visits[name].to_numpy() for name in names])
        data = lightgbm.Dataset(x, visits["returned"].to_numpy(zero_copy_only=False).astype(float), feature_name=names)
        options = {"objective": "binary", "num_leaves": 4, "num_threads": 1, "verbose": -1, "seed": seed,
                   "bagging_fraction": 0.8, "bagging_freq": 1}
        return Fitted(lightgbm.train(options, data, 15), features=names, sample=visits.select(names))

    @model(kind="binary", target="returned")
    def comes_back(visits: pa.Table, seed: int = 1) -> Fitted:
        return fitted(visits, seed)

    @model(target="returned")
    def with_rates(visits: pa.Table, rates: pa.Table) -> Fitted:
        return fitted(visits)

    @model(target="returned")
    def tells(visits: pa.Table) -> Fitted:
        made = fitted(visits)
        made.metrics = {"seen": visits["visit"].to_pylist()}
        return made

    @model(target="returned", time="at")
    def tells_timed(visits: pa.Table) -> Fitted:
        made = fitted(visits)
        made.metrics = {"seen": visits["visit"].to_pylist()}
        return made

    @model(target="returned")
    def fails(visits: pa.Table) -> Fitted:
        raise RuntimeError(f"{visits.num_rows} rows are too few")

    @model
    def aimless(visits: pa.Table) -> Fitted:
        return fitted(visits)

    @model(target="sold")
    def astray(visits: pa.Table) -> Fitted:
        return fitted(visits)

    @model(kind="ranking", target="returned")
    def ranks(visits: pa.Table) -> Fitted:
        return fitted(visits)

    @model(target="returned")
    def with_a_value(visits: pa.Table, shops: int) -> Fitted:
        return fitted(visits)

    @model(target="returned")
    def with_nothing(trees: int = 3) -> Fitted:
        return fitted(None)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A shop on whose main a third of the labels are wrong. No test moves main."""
    root = tmp_path_factory.mktemp("impact") / "shop"
    root.mkdir()
    made = Bench(root)
    made.write(steps=STEPS)
    for target in ("visits", "rates", "parcels", "offers"):
        assert made.run(target).state == SUCCEEDED
    head = made.lake.head()
    yield made
    assert made.lake.head() == head
    assert made.models.list() == [], "a measurement registers no version"
    made.db.close()


def branch(bench: Bench, name: str, table: str = "visits", **sets: Any) -> str:
    """A branch with the table that other parameters give."""
    if name not in bench.lake.branches():
        bench.lake.branch(name)
        made = bench.engine.run(table, {f"{table}.{k}": v for k, v in sets.items()}, branch=name)
        assert made.state == SUCCEEDED, made.error
    return name


def measure(bench: Bench, candidate: str, told: list[Progress] | None = None, **asked: Any) -> Impact:
    found = ask(bench, candidate, told, **asked)
    assert found is not None
    return found


def ask(bench: Bench, candidate: str, told: list[Progress] | None = None, **asked: Any) -> Impact | None:
    given = {"step": "comes_back", "seeds": 2, **asked}
    request = ImpactRequest(candidate=candidate, **given)
    return bench.engine.measure(request, on_event=None if told is None else told.append, actor="ada")


def figure(found: Impact, metric: str) -> ImpactFigure:
    return next(one for one in found.report.judged.figures if one.metric == metric)


def test_labels_put_right_make_the_model_better(shop: Bench) -> None:
    found = measure(shop, branch(shop, "mended", wrong=0.0), seeds=5, reason="the till was repaired")
    for metric in ("auc", "log_loss"):
        one = figure(found, metric)
        assert one.low is not None and one.high is not None and one.gain is not None
        assert one.verdict == "better" and one.gain > 0 and not one.low <= 0 <= one.high
    assert "comes_back is better with the data of mended" in sentence(found)
    (table,) = found.report.tables
    assert (table.changed, table.added, table.removed) == (table.targets, 0, 0) and table.targets > 200
    assert (found.base, found.candidate, found.actor, found.reason) == (
        "main",
        "mended",
        "ada",
        "the till was repaired",
    )
    assert found.candidate_commit == shop.lake.head("mended")
    assert Impacts(shop.db).get(found.id) == found


def test_judged_by_the_wrong_labels_the_same_models_are_told_apart_less_well(shop: Bench) -> None:
    found = measure(shop, branch(shop, "mended", wrong=0.0))
    right, wrong = (one.figures[0].candidate for one in (found.report.judged, found.report.other))
    assert found.report.other.side == "base" and right is not None and wrong is not None and right - wrong > 0.1


@pytest.mark.slow
def test_other_labels_wrong_instead_show_no_difference(shop: Bench) -> None:
    found = measure(shop, branch(shop, "elsewhere", again=9), seeds=5)
    for one in found.report.judged.figures:
        assert one.verdict == "no difference shown", one
        assert one.low is not None and one.high is not None and one.low < 0 < one.high
    assert "includes 0. No difference is shown." in sentence(found)


def test_a_seed_holds_out_the_same_rows_on_both_sides_and_others_than_the_next(shop: Bench) -> None:
    ids = np.random.default_rng(1).integers(0, 1 << 63, 20_000).astype(np.uint64)
    first, again, second = (chosen(ids, HeldOut(("visit",), 0.25, seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    for one in (first, second):
        assert one.mean() == pytest.approx(0.25, abs=0.02)
    assert (first & second).mean() == pytest.approx(0.0625, abs=0.01), "as if drawn independently"


@pytest.mark.slow
def test_a_training_sees_exactly_the_rows_that_are_not_held_out(shop: Bench) -> None:
    found = measure(shop, branch(shop, "mended", wrong=0.0), step="tells")
    rows = shop.db.rows("SELECT value FROM results WHERE step LIKE 'tells %' AND kind = 'model'")
    models = [msgspec.msgpack.decode(row["value"], type=Stored).model for row in rows]
    seen = [tuple(model.metrics["seen"]) for model in models if model is not None]
    number = units(pa.table({"visit": np.arange(900)}), ["visit"])
    held = [chosen(number, HeldOut(("visit",), 0.25, seed)) for seed in (1, 2)]
    assert len(seen) == 4 and set(seen) == {tuple(np.flatnonzero(~one)) for one in held}
    assert found.report.judged.rows == np.mean([one.sum() for one in held]), "and it is judged on all others"


@pytest.mark.slow
def test_slices_are_told_one_by_one_and_small_ones_marked(shop: Bench) -> None:
    found = measure(shop, branch(shop, "mended", wrong=0.0), seeds=5)
    slices = {(one.column, one.value): one for one in found.report.judged.slices}
    assert set(slices) == {("shop", "north"), ("shop", "south"), ("shop", "kiosk")}, "text columns with few values"
    assert slices["shop", "kiosk"].few and not slices["shop", "north"].few
    loss = next(one for one in slices["shop", "north"].figures if one.metric == "log_loss")
    assert loss.verdict == "better"
    asked = measure(shop, "mended", slices=("visit",))
    assert [one.value for one in asked.report.judged.slices][-1] == "all others"
    assert found.report.other.slices == ()


def test_asked_again_nothing_is_trained_and_one_measurement_is_kept(shop: Bench) -> None:
    first = measure(shop, branch(shop, "mended", wrong=0.0))
    told: list[Progress] = []
    again = measure(shop, "mended", told)
    assert {event.state for event in told if event.step} == {"cached"}
    assert (again.id, again.created, again.report) == (first.id, first.created, first.report)
    assert again.seconds == pytest.approx(first.seconds)
    assert [one.id for one in Impacts(shop.db).list()].count(first.id) == 1


def test_of_the_step_s_own_results_nothing_changes(shop: Bench) -> None:
    before = shop.engine.runs.latest("comes_back")
    measure(shop, branch(shop, "mended", wrong=0.0))
    assert shop.engine.runs.latest("comes_back") == before
    assert not [run for run in shop.engine.runs.list() if run.target == "comes_back"]


@pytest.mark.slow
def test_every_training_is_told_with_its_ref_and_seed(shop: Bench) -> None:
    told: list[Progress] = []
    measure(shop, branch(shop, "elsewhere", again=9), told, share=0.3)
    done = [event.step for event in told if event.state == "ran"]
    assert set(done) >= {f"{ref}, seed {seed}" for ref in ("main", "elsewhere") for seed in (1, 2)}
    assert told[0].state == "started" and "trained 4 times" in told[0].message and told[-1].state == "succeeded"


@pytest.mark.slow
def test_a_new_column_is_judged_where_both_can_be(shop: Bench) -> None:
    found = measure(shop, branch(shop, "wider", extra=True))
    assert found.report.tables[0].new_columns == ("weather",)
    assert found.report.judged.figures[0].verdict == "no difference shown"
    said = "the model of wider takes 'weather', and the rows of main have no such column"
    assert found.report.other.obstacle == said
    with pytest.raises(Usage) as refused:
        measure(shop, "wider", judge="base")
    assert refused.value.obstacle == said and "--judge candidate" in refused.value.advice


@pytest.mark.night
def test_rows_that_are_gone_and_another_input_that_changed(shop: Bench) -> None:
    found = measure(shop, branch(shop, "shorter", last=500))
    assert (found.report.tables[0].removed, found.report.tables[0].rows_after) == (500, 400)
    dearer = measure(shop, branch(shop, "dearer", "rates", bonus=2), step="with_rates")
    assert [one.name for one in dearer.report.tables] == ["rates"]
    assert dearer.report.judged.figures[0].difference == 0
    assert dearer.report.notes == ("rates has visit, too: nothing is held out of it.",)


@pytest.mark.night
def test_a_class_that_one_side_never_saw_counts_against_it(shop: Bench) -> None:
    light = branch(shop, "light", "parcels", heavy=False)
    found = measure(shop, light, step="sorts", judge="base")
    accuracy = figure(found, "accuracy")
    assert accuracy.base is not None and accuracy.candidate is not None
    assert accuracy.base > 0.9 and accuracy.candidate < 0.75, "a third of the parcels are crates"
    assert found.report.other.figures[0].candidate is not None, "on rows without crates both can be judged, too"


@pytest.mark.slow
def test_numbers_are_judged_by_their_errors_and_rows_without_a_target_left_out(shop: Bench) -> None:
    found = measure(shop, branch(shop, "dearer-parcels", "parcels", shift=1.0), step="prices", judge="base")
    assert [one.metric for one in found.report.judged.figures] == ["rmse", "mae", "r2"]
    rmse = figure(found, "rmse")
    assert rmse.verdict == "worse" and rmse.gain is not None and rmse.gain < -0.3
    assert "have no price, and are not judged" in found.report.notes[0]
    number, priced = units(pa.table({"parcel": np.arange(300)}), ["parcel"]), np.arange(300) % 10 > 0
    held = [chosen(number, HeldOut(("parcel",), 0.25, seed)) & priced for seed in (1, 2)]
    assert found.report.judged.rows == np.mean([one.sum() for one in held])


@pytest.mark.slow
def test_a_ranking_is_judged_within_its_groups(shop: Bench) -> None:
    mended = branch(shop, "offers-mended", "offers", wrong=0.0)
    found = measure(shop, mended, step="orders_offers", seeds=3)
    assert found.report.key == ("query",) and [one.metric for one in found.report.judged.figures] == ["ndcg@10", "map"]
    gained = figure(found, "ndcg@10")
    assert gained.verdict == "better" and gained.candidate is not None and gained.candidate > 0.95
    assert found.report.judged.rows % 6 == 0 or found.report.judged.rows * 3 % 6 == 0, "whole groups are held out"
    with pytest.raises(Usage, match="are ranked within, query"):
        measure(shop, mended, step="orders_offers", key=("item",))


def test_figures_of_a_ranking_are_means_over_groups_that_have_anything_relevant() -> None:
    truth, unit = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), np.array([4, 4, 2, 2, 0, 0])
    right, wrong = np.array([2.0, 1.0, 1.0, 2.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0, 2.0, 1.0, 2.0])
    (pairs,) = compare("ranking", truth, wrong, right, unit, 5, [np.ones(6, dtype=bool)])
    assert pairs["map"].base == pytest.approx((0.5 + 1.0) / 2) and pairs["map"].candidate == 1.0
    assert set(np.round(pairs["map"].draws[~np.isnan(pairs["map"].draws)], 3)) <= {
        round(0.5 * n / (n + m), 3) for n in range(6) for m in range(6) if n + m
    }, "each group counts as often as it was drawn"
    (none,) = compare("ranking", truth, wrong, right, unit, 5, [unit == 0])
    assert none["ndcg@10"].base is None and estimate([none["ndcg@10"]] * 2).difference is None


@pytest.mark.night
def test_labels_may_be_texts(shop: Bench) -> None:
    found = measure(shop, branch(shop, "dearer-parcels", "parcels", shift=1.0), step="comes_late")
    auc = figure(found, "auc")
    assert auc.base is not None and auc.base > 0.95 and auc.difference == 0
    assert {one.column for one in found.report.judged.slices} == {"kind"}, "not the target itself"


def test_the_same_snapshots_leave_nothing_to_measure(shop: Bench) -> None:
    shop.lake.branch("like-main")
    known = len(Impacts(shop.db).list())
    assert ask(shop, "like-main") is None
    assert ask(shop, branch(shop, "dearer", "rates", bonus=2)) is None, "a table that changed, and it does not need"
    assert len(Impacts(shop.db).list()) == known


@pytest.mark.parametrize(
    ("asked", "kind", "said"),
    [
        ({"step": "come_back"}, NotFound, "no step 'come_back'"),
        ({"step": "visits"}, Usage, "visits is a step, not a model"),
        ({"step": "aimless"}, Usage, "aimless does not say what it predicts"),
        ({"step": "astray"}, Usage, "none of its tables on main has the target 'sold'"),
        ({"step": "ranks"}, Usage, "ranks is a ranking model"),
        ({"step": "with_nothing"}, Usage, "with_nothing needs no table"),
        ({"step": "with_a_value"}, NotFound, "main has no table 'shops'"),
        ({"base": "nowhere"}, NotFound, "no branch 'nowhere'"),
        ({"base": "@0000000"}, NotFound, "no commit '0000000'"),
        ({"slices": ("age",)}, Usage, "no column 'age' to slice by"),
        ({"key": ("age",)}, Usage, "no column 'age'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_trained(
    shop: Bench, asked: dict[str, Any], kind: type[SampanError], said: str
) -> None:
    told: list[Progress] = []
    with pytest.raises(kind) as refused:
        ask(shop, branch(shop, "mended", wrong=0.0), told, **asked)
    assert said in refused.value.obstacle and refused.value.advice
    assert not [event for event in told if event.step]


@pytest.mark.slow
def test_rows_without_a_key_need_one_to_be_named(shop: Bench) -> None:
    bare, other = branch(shop, "bare", named=False), branch(shop, "bare-too", named=False, wrong=0.0)
    with pytest.raises(Usage) as refused:
        measure(shop, other, base=bare)
    assert "tell the rows of visits apart" in refused.value.obstacle and "--key COLUMN" in refused.value.advice
    assert measure(shop, other, base=bare, key=("spent", "hour")).report.key == ("spent", "hour")


@pytest.mark.slow
def test_a_key_of_another_type_on_either_side_is_no_key(shop: Bench) -> None:
    floats = branch(shop, "floats", wrong=0.0, number="float64")
    before, after = (shop.lake.source("visits", ref) for ref in ("main", floats))
    assert row_key(before, before, "returned") == ("visit",)
    assert row_key(before, after, "returned") == ()
    with pytest.raises(Usage, match="tell the rows of visits apart"):
        measure(shop, floats)
    for key in (("visit",), ("shop", "visit")):
        with pytest.raises(Usage) as refused:
            measure(shop, floats, key=key)
        said = "the key column 'visit' of visits is BIGINT on main and DOUBLE on floats"
        assert refused.value.obstacle == said and "Cast it" in refused.value.advice


def test_a_training_that_fails_says_which_and_why(shop: Bench) -> None:
    with pytest.raises(StepFailed) as failed:
        measure(shop, branch(shop, "mended", wrong=0.0), step="fails")
    assert failed.value.attempted in ("fails, main, seed 1", "fails, mended, seed 1")
    assert "rows are too few" in failed.value.obstacle and ".sampan/runs/" in failed.value.advice


# -- later rows held out


HOUR = 3_600_000_000


def timed(shop: Bench, name: str, time: str = "at", **more: Any) -> str:
    return branch(shop, name, timed=time, **more)


def seen(shop: Bench, since: int) -> list[tuple[int, ...]]:
    """What each training of ``tells_timed`` saw that was made since then."""
    sql = "SELECT value FROM results WHERE step LIKE 'tells_timed %' AND kind = 'model' AND created >= ?"
    models = [msgspec.msgpack.decode(row["value"], type=Stored).model for row in shop.db.rows(sql, (since,))]
    return [tuple(model.metrics["seen"]) for model in models if model is not None]


@pytest.mark.slow
def test_where_a_time_is_declared_each_seed_learns_from_what_came_before_all_that_it_is_judged_on(shop: Bench) -> None:
    before, began = timed(shop, "timed"), SystemClock().micros()
    found = measure(shop, timed(shop, "timed-mended", wrong=0.0), base=before, step="tells_timed", seeds=3)
    assert found.report.time == "at" and len(found.report.periods) == 3
    start = int(np.datetime64("2026-01-01", "us").astype(np.int64))
    hours = [((since - start) // HOUR, (until - start) // HOUR) for since, until in found.report.periods]
    assert hours == [(674, 899), (562, 787), (449, 674)], "a quarter of 900 each, rolling back"
    assert set(seen(shop, began)) == {tuple(range(last + 1)) for last, _ in hours}
    assert found.report.judged.rows == 225
    assert figure(found, "log_loss").verdict == "better"


@pytest.mark.night
def test_a_column_may_be_named_and_random_rows_be_asked_for(shop: Bench) -> None:
    before, after = timed(shop, "timed"), timed(shop, "timed-mended", wrong=0.0)
    assert measure(shop, after, base=before).report.time == "", "comes_back declares none"
    assert measure(shop, after, base=before, time="at").report.time == "at"
    plain = measure(shop, after, base=before, step="tells_timed", time="")
    assert (plain.report.time, plain.report.periods) == ("", ())


@pytest.mark.night
def test_the_event_time_of_a_table_counts_without_being_named(shop: Bench) -> None:
    before, after = timed(shop, "events", "_time"), timed(shop, "events-mended", "_time", wrong=0.0)
    assert measure(shop, after, base=before).report.time == "_time"


@pytest.mark.slow
def test_what_turned_in_the_meantime_is_seen_by_time_and_hidden_by_chance(shop: Bench) -> None:
    before = timed(shop, "turned", turned=True, wrong=0.0)
    after = timed(shop, "turned-otherwise", turned=True, wrong=0.01)
    by_time, by_chance = (figure(measure(shop, after, base=before, time=one), "auc").base for one in ("at", ""))
    assert by_time is not None and by_chance is not None
    assert by_time < 0.4 < by_chance - 0.05, "random rows of the second half tell what it is like"


@pytest.mark.slow
def test_a_time_that_is_none_or_tells_nothing_apart_is_refused_before_training(shop: Bench) -> None:
    before, after = timed(shop, "timed"), timed(shop, "timed-mended", wrong=0.0)
    told: list[Progress] = []
    for asked, said in (
        ({"time": "spent"}, "visits on main is to be held out by time, and spent is DOUBLE there"),
        ({"time": "nothing"}, "there is no column 'nothing'"),
        ({"step": "tells_timed"}, "there is no column 'at'"),
    ):
        with pytest.raises(Usage) as refused:
            measure(shop, branch(shop, "mended", wrong=0.0), told, **asked)
        assert said in refused.value.obstacle and "--at-random" in refused.value.advice
    with pytest.raises(Usage) as refused:
        measure(shop, timed(shop, "late-only", last=880), told, base=after, time="at", judge="base")
    assert "tells too few rows of visits on late-only apart" in refused.value.obstacle
    assert before and not [event for event in told if event.step]
