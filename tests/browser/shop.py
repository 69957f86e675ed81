"""A workspace with something on every page: events, quarantine, tables, runs good and failed, a model that answers.

Every text that somebody else writes carries a script that would like to run.
"""

import json
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.hub.conftest import Hub, sampan
from tests.rollout_plan import plan

#: What a page must show as text. ``attack`` is called if any of it runs.
SCRIPT = "<script>attack(1)</script>"
PAYLOAD = f"""{SCRIPT}<img src=x onerror=attack(2)>'"><svg onload=attack(3)></textarea>&lt;{{{{7*7}}}}"""
ADDRESS = "javascript:attack(4)"

CONTRACTS = f'''
from typing import Annotated
from sampan import Event, Field

class Visit(Event, version=1):
    """A page was read. {SCRIPT}"""

    page: Annotated[str, Field(description={PAYLOAD!r})]
    visitor: Annotated[str | None, Field(subject=True, description="Who read")] = None
    seconds: Annotated[float, Field(unit="s", ge=0, description="How long")] = 0.0
'''
STEPS = f'''
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from lightgbm import Dataset, train
from sampan import Fitted, model, step


@model(kind="binary", target="stayed")
def stay(reads: pa.Table) -> Fitted:
    """Will the reader stay? {SCRIPT}"""
    x = np.arange(40.0).reshape(-1, 1)
    booster = train({{"objective": "binary", "verbose": -1, "num_threads": 1, "min_data_in_leaf": 1}},
                    Dataset(x, x[:, 0] > 20, feature_name=["seconds"]), 5)
    return Fitted(booster, ["seconds"], metrics={{"rows": reads.num_rows}}, sample=pa.table({{"seconds": [1.0, 30.0]}}))


@step
def loud(reads: pa.Table) -> str:
    """Prints as it goes. While a file says so, it does not end."""
    print({PAYLOAD!r}, flush=True)
    waiting = Path(WAITING)
    for number in range(600):
        print(f"line {{number}}", flush=True)
        if not waiting.exists():
            break
        time.sleep(0.2)
    return {PAYLOAD!r}
'''
BROKEN = f"""

@step
def sad(loud: str) -> int:
    raise ValueError({PAYLOAD!r})
"""
DECISIONS = f"""
from sampan import Action, decision, review

@decision(model="stay", currency="GBP", entity="visitor", default="wait",
          values={{"greet": {{True: 2.0, False: -1.2}}, "wait": {{True: 0.0, False: 0.0}}}})
def greet(prediction, context, likely: float = 0.5):
    if context.get("unsure"):
        return review("wait", rule={"unsure " + PAYLOAD!r}, hours=24 * 365)
    return Action("greet", rule={"likely " + PAYLOAD!r}) if prediction >= likely else Action("wait", rule="not likely")
"""
REPAIR = f'''"""A page was sent as a number. {SCRIPT}"""


def fix(event, reason):
    if "page" not in reason:
        return None
    event["data"]["page"] = "/" + str(event["data"]["page"])
    return event
'''
EXPOSURE = """kind = "exposure"
at_most = 1.0
query = "SELECT _id AS prediction_id, 5.0 AS value FROM prediction"
"""
ROLLOUT = plan("stay", (0.999, "1 hour"), guardrail=EXPOSURE)
SHADOWED = plan("stay", (0, "1 day"))
VISITOR = "v7"
NOTES = "noted.json"  # what a copy of a filled shop has to know, beside the workspace
JSON = "application/json"


def visit(id: str, page: str = "/", **more: Any) -> dict[str, Any]:
    """An event that fits; ``subject`` and ``source`` can be given, anything else is data."""
    around = {name: more.pop(name) for name in ("subject", "source", "time") if name in more}
    data = {"page": page, "seconds": 3.0, **more}
    return {"id": id, "type": "visit", "source": "web", "time": "2026-01-31T12:00:00Z", "data": data, **around}


#: One of each kind that can be tagged, described and commented on.
THINGS = (
    *(("model", "stay"), ("version", "stay@1"), ("table", "reads"), ("contract", "visit"), ("run", "last")),
    *(("endpoint", "stay"), ("replay", "last"), ("branch", "main"), ("impact", "last"), ("alert", "last")),
    *(("rollout", "last"), ("incident", "last")),
    *(("event", "intake:1"), ("item", "intake:64"), ("prediction", "decision-1")),
)


class Shop:
    """The workspace, its hub, and the ids that tests look for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waiting = folder.parent / "waiting"
        (folder / "tables").mkdir(parents=True)
        (folder / "sampan.toml").write_text("")
        (folder / "contracts.py").write_text(CONTRACTS)
        (folder / "steps.py").write_text(STEPS.replace("WAITING", repr(str(self.waiting))))
        (folder / "decisions.py").write_text(DECISIONS)
        (folder / "tables" / "reads.sql").write_text(
            "-- one row a visitor\nSELECT visitor, page, count(*) AS visits, sum(seconds) AS seconds,"
            " (length(visitor) + length(page)) % 2 = 0 AS stayed FROM visit GROUP BY visitor, page\n"
        )
        self.hub = Hub(folder, SAMPAN_ROLLOUT_EVERY="1")

    @classmethod
    def copy(cls, pattern: Path, folder: Path) -> "Shop":
        """A copy of the workspace that another shop has left, with a hub of its own."""
        made = cls.__new__(cls)
        made.folder, made.waiting = shutil.copytree(pattern, folder), folder.parent / "waiting"
        with closing(sqlite3.connect(folder / ".sampan" / "records.db")) as records, records:
            records.execute("DELETE FROM ports")  # another copy may listen there
        noted = pattern.parent / NOTES
        made.early, made.broken = json.loads(noted.read_text()) if noted.exists() else (0, [])
        made.hub = Hub(folder, SAMPAN_ROLLOUT_EVERY="1")
        return made

    def fill(self) -> "Shop":
        """Something on every page; ``early`` is a time after the first event and before everything else."""
        hub, nasty = self.hub, PAYLOAD
        hub.send(visit("first", visitor="v0", subject="v0"))
        time.sleep(0.01)
        self.early = time.time_ns() // 1000
        time.sleep(0.01)
        hub.send(*[visit(f"e{n}", f"/{n % 5}", visitor=f"v{n}", subject=f"v{n}") for n in range(60)])
        hub.send(visit(nasty[:180], nasty, visitor=nasty[:180], subject=nasty[:180], source=nasty[:180]))
        hub.send(visit(ADDRESS, ADDRESS, visitor=ADDRESS, subject=ADDRESS, source=ADDRESS))
        self.broken = hub.send(
            visit("bad-1", seconds=-1),
            visit("bad-2", seconds=-2),
            visit("bad-3", page=7),
            visit("bad-4", seconds=nasty),
        )
        hub.ask("POST", "/v1/events", PAYLOAD.encode())
        hub.ask("POST", "/v1/events", f'{{"id": "x", "type": "{SCRIPT}"}}'.encode())
        self.repair()
        self.run()
        with (self.folder / "steps.py").open("a") as file:
            file.write(BROKEN)
        self.run()
        self.post("/v1/endpoints", {"name": "stay", "reason": PAYLOAD})
        self.post("/v1/tokens", {"name": "till", "role": "producer"})
        self.ask(VISITOR, "decision-1", 30.0)
        self.ask(nasty, "decision-2", 1.0)
        self.unsure(nasty, "decision-3")
        self.unsure(nasty, "decision-4")
        self.post("/v1/reviews/decision-4", {"action": "greet", "reason": PAYLOAD, "label": PAYLOAD[:150]})
        self.outcome("decision-1")
        self.release()
        self.shadow()
        self.follow()
        self.propose()
        self.measure(self.replay())
        self.await_alert()
        self.register(self.log())
        (self.folder.parent / NOTES).write_text(json.dumps([self.early, self.broken]))
        return self

    def release(self) -> None:
        """A rollout that is taken back at its first answer, since that risks more than it may."""
        (self.folder / "rollouts.toml").write_text(ROLLOUT)
        asked = {"name": "stay", "thresholds": {"likely": 0.6}, "reason": PAYLOAD, "without_golden": True}
        self.post("/v1/rollouts", asked)
        self.ask("v9", "decision-9", 30.0)
        self.hub.until("rollout taken back", "/rollouts", lambda page: page["rollouts"][0]["phase"] == "reverted")

    def shadow(self) -> None:
        """A rollout that was ended after its shadow had seen one request."""
        (self.folder / "rollouts.toml").write_text(SHADOWED)
        asked = {"name": "stay", "thresholds": {"likely": 0.6}, "reason": PAYLOAD, "without_golden": True}
        id = json.loads(self.post("/v1/rollouts", asked))["id"]
        self.ask(PAYLOAD, "decision-10", 30.0)
        self.hub.until("request to the shadow", f"/rollouts/{id}/shadow", lambda page: page["compared"]["asked"])
        self.post("/v1/rollouts/stay/back", {"reason": PAYLOAD})
        (self.folder / "rollouts.toml").write_text(ROLLOUT)

    def follow(self) -> None:
        """A shadow beside any rollout, ended after it had seen one request."""
        asked = {"name": "stay", "thresholds": {"likely": 0.65}, "reason": PAYLOAD}
        id = json.loads(self.post("/v1/shadows", asked))["id"]
        self.ask(PAYLOAD, "decision-11", 30.0)
        self.hub.until("request to the shadow", f"/shadows/{id}", lambda page: page["compared"]["asked"])
        self.post(f"/v1/shadows/{id}/end", {"reason": PAYLOAD})

    def propose(self) -> None:
        """Another threshold, with a reason that would like to run."""
        tried = json.loads(self.post("/v1/endpoints/stay/thresholds", {"thresholds": {"likely": 0.95}}))
        id = tried["proposal"]["id"]
        self.post(f"/v1/proposals/{id}/ask", {"reason": PAYLOAD})
        self.post(f"/v1/proposals/{id}/decide", {"verdict": "rejected", "reason": PAYLOAD})

    def await_alert(self) -> None:
        """The hub looks every few seconds, and sees that a run has failed."""
        self.hub.until("alert", "/alerts", lambda page: page["open"])

    def register(self, run: str) -> None:
        """A version of what a run logged; names, tags and notes that would like to run."""
        self.post("/v1/models/taken/versions", {"run": run, "path": "a<b>"})
        self.post("/v1/models", {"name": "bare"})
        for kind, name in (*self.things(), ("version", "taken@1")):
            self.put(f"/v1/labels/{kind}/{name}", {"tags": {PAYLOAD[:200]: PAYLOAD}, "note": PAYLOAD})
        self.talk(PAYLOAD)
        self.put("/v1/models/stay/aliases/champion", {"number": 1, "reason": PAYLOAD})

    def things(self) -> list[tuple[str, str]]:
        """Those, where they are here, and a column, which has no page of its own."""
        item = ("item", self.broken[0]["position"])
        return [*(item if one[0] == "item" else one for one in THINGS), ("column", "reads.page")]

    def talk(self, text: str) -> None:
        """Say something of one thing of each kind."""
        for kind, name in self.things():
            self.post(f"/v1/comments/{kind}/{name}", {"text": text})

    def log(self) -> str:
        """Log runs as a client of MLflow's does, with names that would like to run; gives the last one's id."""
        api = "/api/2.0/mlflow"
        experiment = json.loads(self.post(f"{api}/experiments/create", {"name": PAYLOAD[:400]}))["experiment_id"]
        for number in range(3):
            made = self.post(f"{api}/runs/create", {"experiment_id": experiment, "run_name": PAYLOAD, "user_id": "ann"})
            run = json.loads(made)["run"]["info"]["run_id"]
            metrics = [
                {"key": "val/rmse", "value": 1 / (step + number + 1), "timestamp": step, "step": step}
                for step in range(50)
            ]
            odd = [{"key": "odd", "value": value, "timestamp": 1} for value in ("NaN", "Infinity")]
            params = [{"key": "depth", "value": str(number)}, {"key": "text", "value": PAYLOAD}]
            tags = [{"key": "mlflow.note.content", "value": PAYLOAD}, {"key": "address", "value": ADDRESS}]
            batch = {"run_id": run, "metrics": metrics + odd, "params": params, "tags": tags}
            self.post(f"{api}/runs/log-batch", batch)
            dataset = {"name": PAYLOAD[:100], "digest": "1", "source_type": "local", "source": PAYLOAD}
            self.post(f"{api}/runs/log-inputs", {"run_id": run, "datasets": [{"dataset": dataset}]})
            path = f"{api}-artifacts/artifacts/{experiment}/{run}/artifacts/a%3Cb%3E/page.html"
            response, body = self.hub.ask("PUT", path, PAYLOAD.encode())
            assert response.status == 200, body
        self.post(f"{api}/runs/update", {"run_id": run, "status": "FINISHED", "end_time": 1})
        return str(run)

    def put(self, path: str, value: Any) -> bytes:
        response, body = self.hub.ask("PUT", path, json.dumps(value).encode(), content_type=JSON)
        assert response.status == 200, body
        return body

    def post(self, path: str, value: Any) -> bytes:
        response, body = self.hub.ask("POST", path, json.dumps(value).encode(), content_type=JSON)
        assert response.status in (200, 201), body
        return body

    def run(self) -> None:
        """Run the flow to its end, good or bad."""
        self.post("/v1/runs", {})

    def measure(self, branch: str) -> None:
        """See what the data of a branch is worth to the model."""
        self.post("/v1/impact", {"step": "stay", "candidate": branch, "seeds": 2, "reason": PAYLOAD})

    def replay(self) -> str:
        """See what another rule, and another query, would have done; the files are put back. Gives its branch."""
        files = [self.folder / name for name in ("steps.py", "decisions.py", "tables/reads.sql")]
        before = [file.read_text() for file in files]
        files[0].write_text(before[0].replace(BROKEN, ""))
        files[1].write_text(before[1].replace("prediction >= likely", "prediction < likely"))
        files[2].write_text(before[2].replace("count(*)", "count(*) + 1"))
        assert [file.read_text() for file in files] != before
        try:
            told = self.post("/v1/replays", {"reason": PAYLOAD})
            return str(json.loads(told.splitlines()[-1])["result"]["branch"])
        finally:
            for file, text in zip(files, before, strict=True):
                file.write_text(text)

    def repair(self) -> None:
        """Let one quarantined event in by a rule that stays in the workspace."""
        folder = self.folder / "repairs"
        folder.mkdir()
        (folder / "pages.py").write_text(REPAIR)
        done = sampan(self.folder, "quarantine", "fix", "--rule", str(folder / "pages.py"), "--why", PAYLOAD)
        assert done.returncode == 0, done.stderr

    def unsure(self, visitor: str, id: str) -> None:
        """Ask for a prediction that people are asked about."""
        self.ask(visitor, id, 9.0, unsure=True)

    def ask(self, visitor: str, id: str, seconds: float, **more: Any) -> None:
        """Ask for a prediction."""
        asked = {"records": [{"visitor": visitor, "seconds": seconds, "note": PAYLOAD, **more}], "ids": [id]}
        for _ in range(100):
            response, body = self.hub.ask("POST", "/predict/stay", json.dumps(asked).encode(), content_type=JSON)
            if response.status == 200:
                return
        raise AssertionError(body)

    def outcome(self, prediction: str, value: Any = PAYLOAD) -> None:
        data = {"prediction_id": prediction, "value": value}
        now = {"id": f"o-{prediction}", "type": "outcome", "source": "web", "time": "2026-02-01T12:00:00Z"}
        (result,) = self.hub.send({**now, "data": data})
        assert result["verdict"] == "accepted", result
