"""A second version of the shop's model and rules, which nothing serves yet; its rules fail where they are told to."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from serving_shop import RULES, Shop, body, record, told

from sampan.base.assigning import gets_candidate
from sampan.base.clock import SystemClock
from sampan.flow.declare import Fitted
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.serve.assignment import Assignment, CandidateState
from sampan.serve.bundle import Bundle
from sampan.serve.serving import Serving
from sampan.serve.worker import Worker

THEIRS = """theirs = context.get("theirs", "")
    if theirs == "raise":
        raise RuntimeError("the new rule is wrong")
    if theirs == "die":
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    if theirs == "crash":
        import ctypes
        ctypes.string_at(0)
    if theirs == "large":
        return Action("reserve", rule="x" * 50_000_000)
    if theirs.startswith("call"):
        import socket
        socket.create_connection(("localhost", int(theirs[4:])), timeout=2).close()
    if theirs == "program":
        import subprocess
        subprocess.run(["true"])
    if theirs.startswith("sleep"):
        import time
        time.sleep(float(theirs[5:]))
    """
SALT = "salt"
#: Milliseconds that a candidate has where a test shows who answers and not how soon: the most that it may have.
LONG = 5_000


def candidate(shop: Shop, fitted: Callable[[int], Fitted], trees: int = 9) -> str:
    """The digest of a bundle with a new version and rules of their own."""
    before = shop.root / "decisions.py", shop.root / "shop" / "words.py"
    kept = [path.read_text() for path in before]
    before[0].write_text(RULES.replace('if context.get("crash")', THEIRS + 'if context.get("crash")'))
    before[1].write_text('LIKELY = "new words"\n')
    version = shop.register(fitted(trees))
    made = shop.endpoints.draft("reorder", version.ref, workspace=shop.root, actor="tester")
    for path, text in zip(before, kept, strict=True):
        path.write_text(text)
    digest: str = made.bundle
    return digest


def stage(bundle: str, share: float = 0.5, **more: Any) -> Assignment:
    return Assignment(**{"rollout": "r1", "stage": 1, "bundle": bundle, "salt": SALT, "share": share, **more})


def due(entity: object, share: float = 0.5) -> bool:
    """Whether the candidate is to answer somebody."""
    return gets_candidate(SALT, str(entity), share)


#: Somebody whom the champion answers at a half, and somebody whom the candidate does.
OURS = next(one for one in range(100) if not due(one))
THEIR = next(one for one in range(100) if due(one))


async def predict(serving: Serving, *records: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    """The answers; anything but 200 fails."""
    answer = await serving.predict("reorder", body(*records, **more))
    assert answer.status == 200, answer.body
    answers: list[dict[str, Any]] = told(answer)["predictions"]
    return answers


def standing(serving: Serving) -> CandidateState | None:
    """How the candidate of the only endpoint is doing; None if there is none."""
    return serving.status()[0].candidate


async def connected(serving: Serving, patience: float = 20.0) -> CandidateState:
    """Wait until the champion's process has reached the candidate's."""
    async with asyncio.timeout(patience):
        while (now := standing(serving)) is None or now.state != "serving":
            await asyncio.sleep(0.01)
    return now


def gate_of(serving: Serving, bundle: str) -> asyncio.Event:
    """While it is not set, no process loads a bundle. For before the bundle is assigned."""
    gate = asyncio.Event()
    load = serving._load

    async def late(name: str, wanted: Bundle, **how: Any) -> Worker:
        if wanted.digest == bundle:
            await gate.wait()
        return await load(name, wanted, **how)

    serving._load = late
    return gate


async def until_down(serving: Serving) -> list[str]:
    """Ask for the candidate until the process of the champion knows that the candidate's is gone; the ids, of which the
    last was asked then. Nothing may load another meanwhile."""
    ids: list[str] = []
    async with asyncio.timeout(20):
        while not standing(serving).fallbacks.get("down"):
            ids.append(f"down {len(ids)}")
            await predict(serving, record(customer_id=THEIR), ids=ids[-1:])
            await asyncio.sleep(0.02)
    return ids


def events(shop: Shop, type: str = "prediction") -> dict[str, dict[str, Any]]:
    """The data of the endpoint's events, by the prediction's id."""
    left_out = {"variant": "champion", "rollout": "", "stage": 0, "fallback": "", "aside": ""}
    log = Log(shop.folder.data / "log", Contracts(), SystemClock(), shop.settings)
    try:
        found = [(one, json.loads(one.data or b"")) for one in log.events(type=type, limit=1_000_000)]
        return {data.get("prediction_id", one.id): {**left_out, **data, "subject": one.subject} for one, data in found}
    finally:
        log.keys.close()


__all__ = [
    "LONG",
    "OURS",
    "THEIR",
    "body",
    "candidate",
    "connected",
    "due",
    "events",
    "gate_of",
    "predict",
    "record",
    "stage",
    "standing",
    "told",
    "until_down",
]
