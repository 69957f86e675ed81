"""Models and rules that take too long: there is an answer in time, as is declared, and another process serves on."""

import asyncio
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import tensor_models
from serving_shop import RULES, Shop, body, record, told
from test_direct import begin
from tests.hub.conftest import Hub, sampan

from sampan.serve.alarm import MODEL, Alarm

PATIENCE = 2
BODY = body(record())
NO_DEFAULT = RULES.replace(', default="wait"', "")
#: One rule for each way to hang.
HANGS = """
    how = context.get("hangs", "")
    while how == "loops":
        pass
    while how == "catches":
        try:
            import time
            time.sleep(60)
        except Exception:
            pass
    while how == "holds on":
        try:
            import time
            time.sleep(60)
        except BaseException:
            pass
    if how == "waits":
        import threading
        threading.Event().wait()
    if how == "listens":
        import socket
        socket.create_server(("127.0.0.1", 0)).accept()
    if context.get("crash")"""


def hanging(text: str = RULES) -> str:
    return text.replace(
        """
    if context.get("crash")""",
        HANGS,
    )


async def asked(shop: Shop, *records: dict[str, Any]) -> tuple[list[Any], Any]:
    """The answers, how long each took, and the answer to another request afterwards; all through the hub's side."""
    async with shop.serving("reorder") as serving:
        begun = time.monotonic()
        answers = [await serving.predict("reorder", body(one)) for one in records]
        took = (time.monotonic() - begun) / len(records)
        assert took < PATIENCE, "the answer came too late"
        pid = serving.status()[0].pid
        await asyncio.sleep(0.2)
        async with asyncio.timeout(20):
            while (state := await serving.ready("reorder")).pid == pid and state.restarts == 0:
                await asyncio.sleep(0.02)
        return answers, await serving.predict("reorder", BODY)


def test_a_call_that_has_just_begun_is_not_interrupted_where_the_one_before_it_was_meant() -> None:
    before = signal.getsignal(signal.SIGUSR2)
    try:
        alarm = Alarm()
        alarm.start(60)
        late = alarm.guard(lambda: signal.raise_signal(signal.SIGUSR2) or "answered", MODEL)
        with alarm:
            assert late() == "answered"
        assert not alarm.rang
    finally:
        signal.signal(signal.SIGUSR2, before)


@pytest.mark.parametrize(
    "how", ["loops", *(pytest.param(one, marks=pytest.mark.slow) for one in ("waits", "listens", "catches"))]
)
def test_a_rule_that_hangs_takes_its_safe_default_in_time_and_the_process_is_replaced(make_shop: Any, how: str) -> None:
    shop = make_shop(predict_timeout=PATIENCE)
    (shop.root / "decisions.py").write_text(hanging())
    shop.deploy()
    [answer], after = asyncio.run(asked(shop, record(hangs=how)))
    (one,) = told(answer)["predictions"]
    assert (answer.status, one["action"], one["rule"]) == (200, "wait", "safe default: the rule failed")
    assert one["error"] == "no answer in 1.2 s"
    assert after.status == 200 and "error" not in told(after)["predictions"][0]
    kept = {event.id: json.loads(event.data or b"") for event in shop.predictions()}
    assert kept[one["id"]]["error"] == "no answer in 1.2 s" and len(kept) == 2


@pytest.mark.slow
def test_without_a_safe_default_it_is_503_in_time_and_others_of_the_same_moment_are_answered(make_shop: Any) -> None:
    shop = make_shop(predict_timeout=PATIENCE)
    (shop.root / "decisions.py").write_text(hanging(NO_DEFAULT))
    shop.deploy()
    answers, after = asyncio.run(asked(shop, record(hangs="loops")))
    assert (answers[0].status, answers[0].retry_after, after.status) == (503, 1, 200)
    assert "no answer in 1.2 s" in told(answers[0])["error"]["obstacle"]
    assert len(shop.predictions()) == 1


@pytest.mark.slow
def test_a_rule_that_cannot_be_interrupted_is_503_in_time_and_ended(make_shop: Any) -> None:
    shop = make_shop(predict_timeout=PATIENCE)
    (shop.root / "decisions.py").write_text(hanging())
    shop.deploy()

    async def ask() -> tuple[Any, Any]:
        async with shop.serving("reorder") as serving:
            hung = await serving.predict("reorder", body(record(hangs="holds on")))
            await serving.ready("reorder")
            return hung, await serving.predict("reorder", BODY)

    hung, after = asyncio.run(ask())
    assert (hung.status, hung.retry_after, after.status) == (503, 1, 200)
    assert "no answer in 2 s" in told(hung)["error"]["obstacle"]


@pytest.mark.slow
def test_what_was_in_force_before_answers_for_a_rule_that_hangs_and_has_no_safe_default(
    make_shop: Any, fitted: Any
) -> None:
    shop = make_shop(predict_timeout=3)
    shop.register(fitted(9))
    falls = NO_DEFAULT.replace("@decision(", "@decision(fallback=PREVIOUS, ").replace(
        "import Action, decision", "import PREVIOUS, Action, decision"
    )
    (shop.root / "decisions.py").write_text(hanging(falls))
    shop.deploy()

    async def ask() -> Any:
        async with shop.serving("reorder") as serving:
            async with asyncio.timeout(20):  # what is to answer is loaded after the process has begun to serve
                while told(answer := await serving.predict("reorder", body(record(hangs="loops")))).get("error"):
                    assert answer.status == 503
                    await serving.ready("reorder")
                    await asyncio.sleep(2)
            return answer

    answer = asyncio.run(ask())
    (one,) = told(answer)["predictions"]
    assert (one["version"], one["fallback"]) == ("reorder@1", "no answer in 1.8 s")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["loops", "holds on"])
def test_past_the_hub_it_is_the_same_and_nobody_elses_connection_ends(shop: Shop, how: str) -> None:
    (shop.root / "decisions.py").write_text(hanging())
    shop.deploy()
    shop.close()
    hub = begin(shop.root, SAMPAN_PREDICT_TIMEOUT=str(PATIENCE))
    try:
        idle = HTTPConnection("127.0.0.1", hub.direct, timeout=20)
        assert status_of(hub, idle) == 200
        begun = time.monotonic()
        response, said = hub.ask("POST", "/predict/reorder", body(record(hangs=how)))
        assert time.monotonic() - begun < PATIENCE + 1
        if how == "loops":
            assert response.status == 200 and json.loads(said)["predictions"][0]["action"] == "wait"
        else:
            assert response.status == 503 and response.headers["retry-after"] == "1"
            assert "no answer in 2 s" in json.loads(said)["error"]["obstacle"]
        idle.auto_open = False  # the same connection, or none
        until = time.monotonic() + 20
        while (status := status_of(hub, idle)) != 200:
            assert status == 503 and time.monotonic() < until
        idle.close()
    finally:
        assert hub.stop() == 0


def status_of(hub: Hub, connection: HTTPConnection) -> int:
    connection.request("POST", "/predict/reorder", BODY, {"authorization": f"Bearer {hub.token}"})
    answer = connection.getresponse()
    assert answer.read()
    return answer.status


FALLS = """
from sampan import Action, decision

@decision(model="turns", fallback=0.5)
def say(prediction, context):
    return Action("say", rule="always")
"""


@pytest.mark.slow
@pytest.mark.parametrize("declared", [True, False])
def test_who_waits_for_a_model_that_hangs_in_a_thread_is_answered_without_it(tmp_path: Path, declared: bool) -> None:
    """Of tensors, each request is asked there: one hangs, others wait behind it."""
    root = tmp_path / "shop"
    root.mkdir()
    (root / "sampan.toml").write_text("")
    if declared:
        (root / "decisions.py").write_text(FALLS)
    (root / "m.onnx").write_bytes(tensor_models.turning())
    done = sampan(root, "endpoint", "adopt", "turns", str(root / "m.onnx"), "--kind", "regression")
    assert done.returncode == 0, done.stderr
    hub = Hub(root, SAMPAN_PREDICT_TIMEOUT=str(PATIENCE))

    def ask(*tokens: int) -> tuple[int, Any, float]:
        begun = time.monotonic()
        records = json.dumps({"records": [{"tokens": list(tokens)}]}).encode()
        response, said = hub.ask("POST", "/predict/turns", records)
        return response.status, json.loads(said), time.monotonic() - begun

    try:
        assert hub.predict("turns", b"{}")[0] == 400  # waits until it is there
        assert ask(1, 2)[1]["predictions"][0]["prediction"] == 3
        with ThreadPoolExecutor(4) as clients:
            hangs = clients.submit(ask, 10**15)
            time.sleep(0.3)
            behind = [clients.submit(ask, 4) for _ in range(3)]
            for status, said, took in (one.result() for one in (hangs, *behind)):
                assert took < PATIENCE, "somebody waited for too long"
                if declared:
                    (one,) = said["predictions"]
                    assert (status, one["prediction"], one["fallback"]) == (200, 0.5, "no answer in 1.2 s")
                else:
                    assert status == 503 and "no answer in 1.2 s" in said["error"]["obstacle"]
        until = time.monotonic() + 30
        while (found := ask(1, 2))[0] != 200 or found[1]["predictions"][0]["prediction"] != 3:
            assert time.monotonic() < until, found
            time.sleep(0.1)
    finally:
        assert hub.stop() == 0
