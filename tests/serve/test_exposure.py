"""The cap on what decisions may put at risk in a day: kept to the penny, over restarts, by whoever answers."""

import asyncio
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
from serving_shop import Shop, record

from sampan import Action, Cap, decision
from sampan.base.errors import BadWorkspace, Usage
from sampan.serve.bundle import facts_of
from sampan.serve.exposure import Ledger, risk_of

VALUES = {"reserve": {True: 2.0, False: -1.2}, "wait": {True: 0.0, False: 0.0}}
RULES = """
from sampan import Action, Cap, decision

@decision(model="reorder", currency="GBP", entity="customer_id", default="wait", cap={cap},
          values={{"reserve": {{True: 2.0, False: -1.2}}, "wait": {{True: 0.0, False: 0.0}}}})
def reserve(prediction, context):
    return Action("reserve", rule="always") if context.get("amount") is not None else Action("wait", rule="never")
"""


def declared(cap: Cap | None, default: str | None = "wait", values: Any = VALUES) -> Any:
    @decision(model="reorder", values=values, default=default, cap=cap)
    def reserve(prediction: float, context: dict[str, Any]) -> Action:
        return Action("wait")

    return reserve


def test_an_action_risks_what_it_can_lose_unless_more_is_said() -> None:
    assert declared(Cap(100)).cap.risks == {"reserve": 1.2, "wait": 0.0}
    assert declared(Cap(100, risks={"reserve": "amount"})).cap.risks == {"reserve": "amount", "wait": 0.0}
    assert facts_of(declared(Cap(5, over="stop"))).cap.over == "stop"


@pytest.mark.parametrize(
    ("cap", "default", "words"),
    [
        (Cap(-1), "wait", "its amount is -1"),
        (Cap(float("nan")), "wait", "its amount is nan"),
        (Cap(1, over="panic"), "wait", "over='panic'"),
        (Cap(1, hours=0), "wait", "0 hours"),
        (Cap(1), None, "no safe action"),
        (Cap(1), "reserve", "puts 1.2 at risk itself"),
        (Cap(1, risks={"sell": 1.0}), "wait", "'sell', which is not in values"),
        (Cap(1, risks={"reserve": -1.0}), "wait", "the risk of 'reserve' is -1.0"),
    ],
)
def test_a_cap_that_could_not_be_kept_is_refused(cap: Cap, default: str | None, words: str) -> None:
    with pytest.raises(BadWorkspace, match=words):
        declared(cap, default)


def test_what_a_record_says_is_at_risk_must_be_an_amount() -> None:
    cap = facts_of(declared(Cap(100, risks={"reserve": "amount"}))).cap
    assert cap is not None
    assert risk_of(cap, "reserve", {"amount": 12}, None) == (12.0, "")
    for odd in (None, "12", True, -1, float("inf"), float("nan")):
        assert "no amount" in risk_of(cap, "reserve", {"amount": odd}, None).said
    assert risk_of(cap, "another's", {}, {"outcomes": {"true": 3.0, "false": -7.0}}).amount == 7.0


class Nothing:
    def exposed(self, day: str) -> float:
        return 0.0


def test_whatever_comes_the_cap_is_never_passed_and_each_day_begins_anew() -> None:
    chance, ledger, day = random.Random(7), Ledger(Nothing()), 86_400_000_000
    for number in range(3):
        taken = 0.0
        for _ in range(2_000):
            ledger.day(number * day + 5)
            amount = chance.choice([0.0, 0.1, 3.0, 40.0, 250.0])
            if ledger.take(amount, 1_000.0):
                taken += amount
            assert ledger.total == taken <= 1_000.0
        assert taken > 990


def capped(shop: Shop, cap: str) -> None:
    (shop.root / "decisions.py").write_text(RULES.format(cap=cap))
    shop.deploy()


def ask(amount: Any, id: str = "") -> bytes:
    one = {"records": [record(amount=amount)], **({"ids": [id]} if id else {})}
    return json.dumps(one).encode()


async def answers(serving: Any, bodies: list[bytes]) -> list[dict[str, Any]]:
    found = await asyncio.gather(*(serving.predict("reorder", body) for body in bodies))
    assert {one.status for one in found} <= {200}, found
    return [json.loads(one.body)["predictions"][0] for one in found]


def test_beyond_the_cap_people_decide_and_a_new_process_goes_on_where_the_old_one_was(shop: Shop) -> None:
    capped(shop, 'Cap(100.0, hours=2, risks={"reserve": "amount"})')

    async def play() -> None:
        async with shop.serving("reorder") as serving:
            told = await answers(serving, [ask(30.0) for _ in range(5)])
            assert sorted(one["action"] for one in told) == ["reserve"] * 3 + ["wait"] * 2
            held = [one for one in told if one["action"] == "wait"]
            assert all(
                one["rule"] == "cap: 100 GBP a day" and one["review"]["choices"] == ["reserve", "wait"] for one in held
            )
            (small,) = await answers(serving, [ask(10.0, "small")])
            assert small["action"] == "reserve", "what still fits is done"
            again = await answers(serving, [ask(10.0, "small")])
            assert again == [small], "asked again, nothing is counted twice"
        async with shop.serving("reorder") as serving:
            told = await answers(serving, [ask(0.5), ask(None), ask("much")])
            assert [one["action"] for one in told] == ["wait", "wait", "wait"]
            assert "review" in told[0] and "error" not in told[1]
            assert "no amount" in told[2]["error"] and told[2]["rule"] == "safe default: the risk is not known"

    asyncio.run(play())
    events = [json.loads(event.data) for event in shop.predictions()]
    assert sum(one["exposure"]["risk"] for one in events) == 100.0
    assert max(one["exposure"]["total"] for one in events) == 100.0
    assert [one["exposure"]["held"] for one in events if "held" in one["exposure"]] == ["reserve"] * 4
    assert all(one["value"]["outcomes"]["true"] == 0.0 for one in events if "held" in one["exposure"])


def test_a_cap_that_stops_asks_nobody(shop: Shop) -> None:
    capped(shop, 'Cap(3.0, over="stop")')

    async def play() -> None:
        async with shop.serving("reorder") as serving:
            told = await answers(serving, [ask(1.0) for _ in range(4)])
            assert sorted(one["action"] for one in told) == ["reserve"] * 2 + ["wait"] * 2  # 1.20 each can be lost
            assert not any("review" in one for one in told)

    asyncio.run(play())


def test_the_champions_cap_counts_what_a_candidate_says(shop: Shop) -> None:
    from sampan.base.clock import SystemClock
    from sampan.serve.answer import Answerer
    from sampan.serve.bundle import open_bundle
    from sampan.serve.verdict import Arm, Author, Verdict

    capped(shop, "Cap(10.0)")
    bundle = shop.endpoints.bundle(shop.endpoints.get("reorder").bundle)
    answerer = Answerer("reorder", open_bundle(bundle, shop.blobs), SystemClock())
    answerer.resume(Nothing())
    asked = answerer.read(json.dumps({"records": [record(amount=1.0) for _ in range(3)]}).encode())
    theirs = {"currency": "GBP", "outcomes": {"true": 9.0, "false": -4.0}, "expected": None}
    verdicts = [Verdict(0.5, "splurge", "new rule", theirs) for _ in range(3)]
    told = answerer.tell(asked, verdicts, [Arm(Author("reorder@2", "b", ("orders",)), {"variant": "candidate"})] * 3)
    assert [one["action"] for one in told.answers] == ["splurge", "splurge", "wait"]
    assert told.answers[2]["review"]["choices"] == ["splurge", "reserve", "wait"]


def rival(shop: Shop, fitted: Any, cap: str, currency: str = "GBP") -> str:
    """A candidate with a cap of its own, whose safe action is another; nothing serves it yet."""
    text = RULES.format(cap=cap).replace('"wait"', '"hold"').replace('"GBP"', f'"{currency}"')
    before = (shop.root / "decisions.py").read_text()
    (shop.root / "decisions.py").write_text(text)
    version = shop.register(fitted(9))
    digest: str = shop.endpoints.draft("reorder", version.ref, workspace=shop.root, actor="tester").bundle
    (shop.root / "decisions.py").write_text(before)
    return digest


def asks(people: list[int], amount: float, **more: Any) -> list[bytes]:
    bodies = [{"records": [record(customer_id=one, amount=amount, **more)]} for one in people]
    return [json.dumps(one).encode() for one in bodies]


@pytest.mark.parametrize("champions", ['Cap(1000.0, risks={"reserve": "amount"})', "None"])
def test_in_a_canary_the_lower_cap_holds_for_what_either_decides(shop: Shop, fitted: Any, champions: str) -> None:
    from rollout_shop import due, stage

    capped(shop, champions)
    bundle = rival(shop, fitted, 'Cap(100.0, hours=2, risks={"reserve": "amount"})')
    people = list(range(40))
    kinds = {one: "candidate" if due(one) else "champion" for one in people}

    async def play() -> list[dict[str, Any]]:
        async with shop.serving("reorder") as serving:
            await answers(serving, asks(people[:2], 20.0))  # before the rollout
            await serving.assign("reorder", stage(bundle, share=0.0, shadow=True))
            await answers(serving, asks(people[2:4], 5.0))  # a shadow decides nothing
            await serving.assign("reorder", stage(bundle))
            found = await answers(serving, asks(people, 10.0))
            os.kill(serving.status()[0].pid or 0, signal.SIGKILL)  # another process goes on where this one was
            await asyncio.sleep(0.1)
            await serving.ready("reorder")
            found += await answers(serving, asks(people[:4], 10.0))
            await serving.assign("reorder", None)
            found += await answers(serving, asks(people[:1], 10.0))
        return found

    told = asyncio.run(play())
    *during, after = told
    held = [one for one in during if one["action"] != "reserve"]
    assert len(held) == len(during) - (10 if champions == "None" else 5)
    assert {(one["action"], one["rule"]) for one in held} == {("hold", "cap: 100 GBP a day")}
    assert {one["variant"] for one in held} == {"champion", "candidate"} == set(kinds.values())
    assert after["action"] == "reserve", "with the rollout the candidate's cap ends"
    events = [json.loads(event.data) for event in shop.predictions()]
    shared = [one["exposure"] for one in events if one.get("exposure") and one["exposure"]["cap"] == 100.0]
    assert len(shared) == len(during) and max(one["total"] for one in shared) == 100.0
    assert sum(one["risk"] for one in shared) == (100.0 if champions == "None" else 50.0)


def test_a_champions_decision_whose_risk_only_a_candidates_cap_cannot_read_counts_with_its_worst(
    shop: Shop, fitted: Any
) -> None:
    from rollout_shop import OURS, THEIR, stage

    capped(shop, "None")
    bundle = rival(shop, fitted, 'Cap(2.0, over="stop", risks={"reserve": "stake"})')

    async def play() -> list[dict[str, Any]]:
        async with shop.serving("reorder") as serving:
            await serving.assign("reorder", stage(bundle))
            ours = [(await answers(serving, asks([OURS], 1.0)))[0] for _ in range(2)]
            theirs = await answers(serving, asks([THEIR], 1.0))
            return [*ours, *theirs]

    first, second, theirs = asyncio.run(play())
    assert (first["action"], second["action"]) == ("reserve", "hold"), "1.20 each can be lost, of 2.00"
    assert theirs["rule"] == "safe default: the risk is not known" and "'stake'" in theirs["error"]


def test_caps_in_two_currencies_cannot_be_held_together(shop: Shop, fitted: Any) -> None:
    from rollout_shop import stage

    capped(shop, "Cap(10.0)")
    bundle = rival(shop, fitted, "Cap(10.0)", currency="EUR")

    async def play() -> None:
        async with shop.serving("reorder") as serving:
            with pytest.raises(Usage, match="one caps what is at risk in GBP, the other in EUR"):
                await serving.assign("reorder", stage(bundle))

    asyncio.run(play())


def test_scoring_and_golden_requests_count_nothing(shop: Shop, tmp_path: Path) -> None:
    from sampan.base.clock import SystemClock
    from sampan.serve.answer import Answerer
    from sampan.serve.bundle import open_bundle
    from sampan.serve.scoring import answer_batch

    capped(shop, "Cap(1.0)")
    bundle = shop.endpoints.bundle(shop.endpoints.get("reorder").bundle)
    answerer = Answerer("reorder", open_bundle(bundle, shop.blobs), SystemClock())
    answerer.resume(Nothing())
    found = answer_batch(answerer, json.dumps([record(amount=1.0) for _ in range(3)]).encode())
    assert [one["action"] for one in found.answers] == ["reserve"] * 3
