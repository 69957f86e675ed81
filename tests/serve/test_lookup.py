"""Features by key: a request that names a row of a table, and nothing else."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
import uvloop
from rollout_shop import OURS, THEIR, due, events, predict, stage
from serving_shop import FEATURES, RULES, Shop, body, record, told
from test_following import come_to, followed, said

from sampan.base.clock import SharedClock, SystemClock, from_micros
from sampan.lake.lake import MAIN, Lake
from sampan.lake.write import write_arrow
from sampan.serve.answer import Answerer
from sampan.serve.apart import weigh
from sampan.serve.assignment import Assigned
from sampan.serve.bundle import facts_of, open_bundle
from sampan.serve.decisions import decision
from sampan.serve.lookup import serves
from sampan.serve.variants import plan_of

LOOKED_UP = RULES.replace('entity="customer_id"', 'entity="customer_id", features="customers", key="customer_id"')
ROWS = {
    "customer_id": ["17850", "13047", "twice", "twice", "nan"],
    "orders": [2, -2, 1, 1, 1],
    "recency": [0.5, 0.1, 1.0, 2.0, float("nan")],
    "spend": [10.25, 1.0, 1.0, 1.0, 1.0],
    "name": ["ann", "bob", "c", "d", "e"],
}


@pytest.fixture
def known(make_shop: Callable[..., Shop]) -> Shop:
    """A shop whose rules name the table ``customers``, which is on main."""
    return prepared(make_shop())


def prepared(shop: Shop, rules: str = LOOKED_UP) -> Shop:
    (shop.root / "decisions.py").write_text(rules)
    publish(shop, ROWS)
    shop.deploy()
    return shop


def publish(shop: Shop, rows: dict[str, list[Any]], clock: Any = None, table: str = "customers") -> str:
    lake = Lake(shop.db, shop.folder.data / "lake", clock or SystemClock())
    draft = write_arrow(pa.table(rows), lake.folder, name=table)
    lake.add(draft, table)
    lake.commit(MAIN, {table: draft.id}, expected=lake.head())
    return draft.id


def ask(shop: Shop, *bodies: bytes, between: Callable[[], Any] = lambda: None) -> list[Any]:
    async def asking() -> list[Any]:
        async with shop.serving("reorder") as serving:
            found = []
            for one in bodies:
                found.append(await serving.predict("reorder", one))
                between()
            return found

    return uvloop.run(asking())


def test_a_key_alone_is_answered_as_the_features_of_its_row_are(known: Shop) -> None:
    by_key, by_row = ask(known, body({"customer_id": 17850}), body(record()))
    (one,), (other,) = told(by_key)["predictions"], told(by_row)["predictions"]
    assert (one["prediction"], one["action"]) == (other["prediction"], other["action"])
    snapshot = Lake(known.db, known.folder.data / "lake", SystemClock()).table("customers").id
    first, second = (json.loads(event.data) for event in known.predictions())
    assert first["features"] == second["features"] == {"orders": 2, "recency": 0.5, "spend": 10.25}
    assert first["looked_up"] == f"customers {snapshot}" and "looked_up" not in second
    assert first["entity"] == "17850" and first["context"] == {}


def test_several_are_looked_up_at_once_beside_records_that_bring_their_features(known: Shop) -> None:
    (answer,) = ask(known, body({"customer_id": "13047"}, record(), {"customer_id": "17850"}))
    assert [one["action"] for one in told(answer)["predictions"]] == ["wait", "reserve", "reserve"]
    kept = [json.loads(event.data) for event in known.predictions()]
    assert [bool(one.get("looked_up")) for one in kept] == [True, False, True]


def test_what_cannot_be_looked_up_is_refused_by_name(known: Shop) -> None:
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"customer_id": "999"}, "record 0: no row of customers has customer_id '999'", "customer_id"),
        ({"customer_id": "twice"}, "customer_id 'twice' names several rows of customers", "customer_id"),
        ({"customer_id": [1]}, "expected a text or a whole number, got [1]", "customer_id"),
        ({"customer_id": "17850", "orders": 2}, "recency", "recency"),  # who brings some brings all
        ({"customer_id": None}, "orders", "orders"),
    ]
    for (asked, says, field), answer in zip(cases, ask(known, *(body(one) for one, _, _ in cases)), strict=True):
        assert answer.status == 400, asked
        error = told(answer)["error"]
        assert says in error["obstacle"] and error["field"] == field
    assert known.predictions() == []


@pytest.mark.slow
def test_the_newest_commit_is_looked_at_and_what_was_answered_stays(known: Shop) -> None:
    newer = {**ROWS, "orders": [-2, 2, 1, 1, 1]}
    asked = body({"customer_id": 17850}, ids=["first"])
    done: list[str] = []

    def between() -> None:
        if not done:
            done.append(publish(known, newer))

        time.sleep(0.2)  # the newer one is loaded beside what answers

    fresh = body({"customer_id": 17850})
    before, again, *later = ask(known, asked, asked, *[fresh] * 20, between=between)
    actions = [told(one)["predictions"][0]["action"] for one in later]
    assert actions == sorted(actions)  # "reserve" for a moment, then "wait"
    after = later[-1]
    assert told(before)["predictions"][0]["action"] == "reserve"
    assert told(again)["predictions"] == told(before)["predictions"]
    assert told(after)["predictions"][0]["action"] == "wait"
    assert json.loads(known.predictions()[-1].data)["looked_up"] == f"customers {done[0]}"
    (restarted, other) = ask(known, asked, body({"customer_id": 13047}, ids=["first"]))
    assert told(restarted)["predictions"] == told(before)["predictions"]
    assert other.status == 409


def test_a_request_of_another_time_is_answered_as_of_then(tmp_path: Path, make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    (shop.root / "decisions.py").write_text(LOOKED_UP)
    clock = SharedClock.create(tmp_path / "clock", datetime(2026, 1, 1, tzinfo=UTC))
    first = publish(shop, ROWS, clock)
    clock.set(clock.micros() + 86_400_000_000)
    publish(shop, {**ROWS, "orders": [-2, 2, 1, 1, 1]}, clock)
    shop.deploy()
    then, early = (from_micros(clock.micros() - days * 86_400_000_000 + 3_600_000_000) for days in (1, 2))
    answer, never = ask(
        shop, body({"customer_id": 17850}, time=then.isoformat()), body({"customer_id": 1}, time=early.isoformat())
    )
    assert told(answer)["predictions"][0]["action"] == "reserve"
    assert json.loads(shop.predictions()[0].data)["looked_up"] == f"customers {first}"
    assert never.status == 400 and "there is no table 'customers' on main as of 2025-12-31" in never.body.decode()


def test_what_a_row_lacks_is_said(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    (shop.root / "decisions.py").write_text(LOOKED_UP)
    publish(shop, {name: ROWS[name] for name in ("customer_id", "orders")})
    shop.deploy()
    (answer,) = ask(shop, body({"customer_id": 17850}))
    assert answer.status == 400 and "the table customers has no column 'recency'" in answer.body.decode()


def test_a_number_that_is_none_is_sent_as_null(known: Shop) -> None:
    (answer,) = ask(known, body({"customer_id": "nan"}))
    assert answer.status == 200
    assert json.loads(known.predictions()[0].data)["features"]["recency"] is None


def test_what_else_the_rules_read_is_looked_up_where_they_declare_it(make_shop: Callable[..., Shop]) -> None:
    rules = LOOKED_UP.replace('default="wait"', 'default="wait", context=("name",)')
    (answer,) = ask(prepared(make_shop(), rules), body({"customer_id": "13047"}))
    assert answer.status == 200


def test_what_would_be_looked_up_is_loaded_before_anybody_asks(known: Shop) -> None:
    async def mapped() -> str:
        async with known.serving("reorder") as serving:
            return Path(f"/proc/{serving.status()[0].pid}/maps").read_text()

    assert "duckdb" in uvloop.run(mapped())


def test_without_the_table_an_endpoint_comes_up_and_says_so_to_who_asks(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    (shop.root / "decisions.py").write_text(LOOKED_UP)
    shop.deploy()
    (answer,) = ask(shop, body({"customer_id": 17850}))
    assert (answer.status, told(answer)["error"]["field"]) == (400, "customer_id")


ABSENT = next(one for one in range(THEIR + 1, 100) if due(one))
OTHERS = {
    "customer_id": [str(OURS), str(THEIR)],
    "orders": [9, -9],
    "recency": [0.25, 4.0],
    "spend": [99.5, 1.25],
}
CUSTOMERS = {
    "customer_id": [str(OURS), str(THEIR), str(ABSENT)],
    "orders": [2, 3, 4],
    "recency": [0.5, 0.1, 1.0],
    "spend": [10.25, 1.0, 1.0],
}


def row(rows: dict[str, list[Any]], id: int) -> dict[str, Any]:
    at = rows["customer_id"].index(str(id))
    return {name: rows[name][at] for name in ("orders", "recency", "spend")}


def rollout_of(shop: Shop, table: str) -> str:
    """The digest of a candidate whose rules look features up in a table; the champion's are in ``customers``."""
    (shop.root / "decisions.py").write_text(LOOKED_UP)
    publish(shop, CUSTOMERS)
    shop.deploy()
    (shop.root / "decisions.py").write_text(LOOKED_UP.replace('features="customers"', f'features="{table}"'))
    try:
        digest: str = shop.endpoints.draft("reorder", "reorder@1", workspace=shop.root, actor="tester").bundle
        return digest
    finally:
        (shop.root / "decisions.py").write_text(LOOKED_UP)


def test_a_candidate_is_asked_with_the_features_that_its_own_rules_name(make_shop: Callable[..., Shop]) -> None:
    shop = make_shop()
    first = publish(shop, OTHERS, table="others")
    bundle = rollout_of(shop, "others")
    publish(shop, {**OTHERS, "orders": [8, -8]}, table="others")
    brought = record(customer_id=THEIR)

    async def asking() -> list[Any]:
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            keys = [{"customer_id": OURS}, {"customer_id": THEIR}, brought, {"customer_id": ABSENT}]
            one = await predict(serving, *keys, ids=["ours", "theirs", "brought", "absent"])
            await serving.assign("reorder", stage(bundle, 0.0, stage=2, shadow=True))
            return one + await predict(serving, *keys[:2], ids=["seen", "seen too"])

    answers = uvloop.run(asking())
    newer = {**OTHERS, "orders": [8, -8]}
    model = shop.models.load("reorder@1")
    kept = events(shop)
    snapshot = kept["theirs"]["looked_up"].removeprefix("others ")
    assert snapshot != first and kept["ours"]["looked_up"].startswith("customers ")
    wanted = {"ours": row(CUSTOMERS, OURS), "theirs": row(newer, THEIR), "absent": row(CUSTOMERS, ABSENT)}
    wanted |= {"seen": row(CUSTOMERS, OURS), "seen too": row(CUSTOMERS, THEIR)}
    for answer in answers:
        features = wanted.get(answer["id"], {name: brought[name] for name in FEATURES})
        assert kept[answer["id"]]["features"] == features
        assert [answer["prediction"]] == model.predict([features]) == [kept[answer["id"]]["prediction"]]
    assert [kept[id]["variant"] for id in ("ours", "theirs", "brought", "absent")] == ["champion", *["candidate"] * 3]
    assert "looked_up" not in kept["brought"] and kept["theirs"]["entity"] == str(THEIR)
    assert "no row of others has customer_id" in kept["absent"]["fallback"] and answers[3]["version"] == "reorder@1"
    seen = {one["prediction_id"]: one["prediction"] for one in events(shop, "shadow").values()}
    assert [seen["seen"], seen["seen too"]] == model.predict([row(newer, OURS), row(newer, THEIR)])
    for id, whom in (("seen", OURS), ("seen too", THEIR)):
        one = next(one for one in events(shop, "shadow").values() if one["prediction_id"] == id)
        assert (one["features"], one["context"]) == (row(newer, whom), {}) and one["looked_up"] == f"others {snapshot}"
    assert model.predict([row(newer, THEIR)]) != model.predict([row(CUSTOMERS, THEIR)])


def test_a_candidates_features_are_as_of_when_the_request_is_asked(
    tmp_path: Path, make_shop: Callable[..., Shop]
) -> None:
    shop = make_shop()
    clock = SharedClock.create(tmp_path / "clock", datetime(2026, 1, 1, tzinfo=UTC))
    publish(shop, CUSTOMERS, clock)
    publish(shop, OTHERS, clock, table="others")
    clock.set(clock.micros() + 86_400_000_000)
    publish(shop, {**OTHERS, "orders": [8, -8]}, clock, table="others")
    then = from_micros(clock.micros() - 3_600_000_000).isoformat()
    bundle = rollout_of(shop, "others")

    async def asking() -> None:
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            await predict(serving, {"customer_id": THEIR}, time=then, ids=["then"])
            await predict(serving, {"customer_id": THEIR}, ids=["now"])

    uvloop.run(asking())
    kept = events(shop)
    assert {kept[id]["variant"] for id in kept} == {"candidate"}
    assert kept["then"]["features"] == row(OTHERS, THEIR) and kept["now"]["features"]["orders"] == -8


def test_a_candidate_that_comes_to_it_late_sees_what_was_known_when_the_champion_was_asked(
    make_shop: Callable[..., Shop],
) -> None:
    shop = make_shop()
    first = publish(shop, OTHERS, table="others")
    digest = rollout_of(shop, "others")
    ours, theirs = (opened(shop, one) for one in (shop.endpoints.get("reorder").bundle, digest))
    assigned = Assigned(
        assignment=stage(digest), version="reorder@1", inputs=tuple(FEATURES), timeout=1.0, queue=9, rules=theirs.facts
    )
    plan = plan_of(assigned, ours)

    def asked() -> list[Any]:
        return list(plan.records(ours.read(body({"customer_id": THEIR})), [0]))

    before = asked()
    newer = {**OTHERS, "orders": [8, -8]}
    second = publish(shop, newer, table="others")
    after, until = asked(), time.monotonic() + 30
    assert weigh(theirs, after)[0].looked_up == f"others {first}"  # nobody waits for the newer one
    while weigh(theirs, after)[0].looked_up != f"others {second}":
        assert time.monotonic() < until
        time.sleep(0.01)
    for unseen in (False, True):
        found = weigh(theirs, [*before, *after, *before], unseen)
        assert [one.looked_up for one in found] == [f"others {one}" for one in (first, second, first)]
        assert [one.record for one in found] == [
            {**row(rows, THEIR), "customer_id": THEIR} for rows in (OTHERS, newer, OTHERS)
        ]
    begun_late = opened(shop, digest)  # what it has loaded is from the future of who asked before
    assert weigh(begun_late, before)[0].looked_up == f"others {first}"


def opened(shop: Shop, digest: str) -> Answerer:
    """A bundle in this process, as warm as one that serves."""
    found = Answerer("reorder", open_bundle(shop.endpoints.bundle(digest), shop.blobs), SystemClock(), shop.folder.data)
    found.warm()
    return found


@pytest.mark.slow
def test_a_shadow_that_follows_says_what_it_was_asked_where_the_prediction_does_not(
    make_shop: Callable[..., Shop],
) -> None:
    shop = make_shop()
    first = publish(shop, OTHERS, table="others")
    bundle = rollout_of(shop, "others")
    other = shop.endpoints.draft("reorder", "reorder@1", workspace=shop.root, actor="t", thresholds={"likely": 0.1})

    async def asking() -> None:
        async with shop.serving("reorder") as serving:
            await predict(serving, {"customer_id": THEIR}, record(), ids=["key", "whole"])
            publish(shop, {**OTHERS, "orders": [8, -8]}, table="others")
            await serving.followers.follow([followed(bundle), followed(other.bundle, "s2")])
            await come_to(shop, serving, 2)
            await come_to(shop, serving, 2, "s2")

    uvloop.run(asking())
    theirs, same = said(shop), said(shop, "s2")
    assert (theirs["key"]["features"], theirs["key"]["looked_up"]) == (row(OTHERS, THEIR), f"others {first}")
    assert not any("features" in one or "looked_up" in one for one in (theirs["whole"], same["key"], same["whole"]))


@pytest.mark.parametrize(
    ("theirs", "inputs", "same"),
    [
        ({}, ("orders", "spend"), True),
        ({}, ("orders", "spend", "visits"), False),
        ({"features": "others"}, ("orders",), False),
        ({"key": "basket"}, ("orders",), False),
        ({"context": ("stock",)}, ("orders",), False),
    ],
)
def test_what_the_champion_has_looked_up_serves_a_candidate_that_wants_no_more(
    theirs: dict[str, Any], inputs: tuple[str, ...], same: bool
) -> None:
    rules = decision(model="reorder", entity="customer_id", features="customers", key="customer_id")(lambda p, c: None)
    facts = facts_of(rules)
    other = msgspec.structs.replace(facts, **theirs)
    assert serves(facts, ("orders", "recency", "spend"), other, inputs) is same
    assert not serves(None, ("orders",), facts, ("orders",))
