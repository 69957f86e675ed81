"""A small shop: one model version, rules, and endpoints served by real processes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sampan.base.clock import SystemClock
from sampan.base.settings import Folder, Settings
from sampan.flow.declare import Fitted
from sampan.log.contracts import Contracts
from sampan.log.log import Log
from sampan.log.read import StoredEvent
from sampan.models.formats import freeze
from sampan.models.registry import Models
from sampan.serve.endpoints import Endpoints
from sampan.serve.serving import Answer, Serving
from sampan.store.blobs import Blobs
from sampan.store.database import Database

FEATURES = ["orders", "recency", "spend"]
RULES = """
from sampan import Action, decision
from shop.words import LIKELY

@decision(model="reorder", currency="GBP", entity="customer_id", default="wait",
          values={"reserve": {True: 2.0, False: -1.2}, "wait": {True: 0.0, False: 0.0}})
def reserve(prediction, context, likely: float = 0.5):
    if context.get("crash"):
        raise RuntimeError(f"no rule for {context['crash']}")
    if context.get("sleep"):
        import time
        time.sleep(context["sleep"])
    if context.get("die"):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    return Action("reserve", rule=LIKELY) if prediction >= likely else Action("wait", rule="not likely")
"""


class Shop:
    """A workspace with its records open for writing, as the hub has them."""

    def __init__(self, root: Path, settings: dict[str, Any]) -> None:
        self.root = root
        self.folder = Folder(root)
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        (root / "sampan.toml").write_text(f"[settings]\n{lines}")
        self.settings = Settings(settings)
        self.db = Database(self.folder.data / "records.db", writable=True)
        self.blobs = Blobs(self.folder.data / "blobs")
        self.models = Models(self.db, self.blobs, SystemClock())
        self.endpoints = Endpoints(self.db, self.models, SystemClock())

    @classmethod
    def found(cls, root: Path, fitted: Fitted) -> "Shop":
        """A new one, with reorder@1 deployed."""
        (root / "shop").mkdir(parents=True)
        (root / "shop" / "words.py").write_text('LIKELY = "likely to return"\n')
        (root / "decisions.py").write_text(RULES)
        made = cls(root, {})
        made.register(fitted)
        made.deploy()
        return made

    def register(self, fitted: Fitted, name: str = "reorder") -> Any:
        return self.models.register(freeze(fitted, "binary", self.blobs), name)

    def deploy(self, ref: str = "reorder", name: str = "reorder", **more: Any) -> Any:
        return self.endpoints.deploy(name, ref, workspace=self.root, actor="tester", **more)

    @asynccontextmanager
    async def serving(self, *ready: str) -> AsyncIterator[Serving]:
        serving = Serving(self.root, self.endpoints, self.settings)
        await serving.start()
        try:
            for name in ready:
                await serving.ready(name)
            yield serving
        finally:
            await serving.stop()

    def predictions(self, endpoint: str = "reorder") -> list[StoredEvent]:
        """What the log holds of an endpoint, read from the files by another reader."""
        log = Log(self.folder.data / "log", Contracts(), SystemClock(), self.settings)
        try:
            found = log.events(type="prediction", limit=1_000_000)
            return [event for event in found if event.source == f"serve/{endpoint}"]
        finally:
            log.keys.close()

    def close(self) -> None:
        self.db.close()


def record(**more: Any) -> dict[str, Any]:
    """A record that fits, with some fields changed; ``...`` takes one away."""
    full = {"orders": 2, "recency": 0.5, "spend": 10.25, "customer_id": 17850, **more}
    return {name: value for name, value in full.items() if value is not ...}


def body(*records: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"records": list(records), **more}).encode()


def told(answer: Answer) -> Any:
    return json.loads(answer.body)
