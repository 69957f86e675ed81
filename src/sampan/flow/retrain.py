"""One model step on pinned inputs, in whatever environment this process was started in.

``python -m sampan.flow.retrain FOLDER`` reads what to do from ``training.json`` in the folder, and writes what came of
it to ``trained.json`` beside it. Code is read and run as in any run: by the same workers, with the seed of the time.
"""

import os
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.clock import SystemClock
from sampan.base.errors import SampanError
from sampan.base.settings import Folder
from sampan.flow.job import Input, Stored
from sampan.flow.jobs import Jobs
from sampan.flow.key import differences
from sampan.flow.pool import Lost, Pool
from sampan.flow.slots import Slots
from sampan.flow.state import Means, Order
from sampan.flow.workspace import Workspace
from sampan.lake.lake import Lake
from sampan.models.version import VersionDraft
from sampan.runs.records import Runs
from sampan.store.database import Database

TRAINING: Final = "training.json"
TRAINED: Final = "trained.json"
_ID: Final = "rebuild"
_LINES: Final = 12


class Training(msgspec.Struct, frozen=True):
    """What to do. ``code``: the workspace's code; ``inputs``: where each argument lies, as MessagePack;
    ``digests``: what they were known by; ``recorded``: the recipe of the time; ``seed``: that of the time."""

    step: str
    code: str
    inputs: bytes
    digests: dict[str, str]
    sets: dict[str, Any]
    recorded: dict[str, Any]
    seed: int | None


class Trained(msgspec.Struct, frozen=True):
    """What came of it: a frozen model, or why there is none, with the last lines that its step wrote."""

    model: VersionDraft | None = None
    differs: tuple[str, ...] = ()
    error: str = ""
    log: str = ""


def main(arguments: list[str]) -> int:
    home = Path(arguments[0]).resolve()
    training = msgspec.json.decode((home / TRAINING).read_bytes(), type=Training)
    try:
        trained = retrain(training, home)
    except SampanError as error:
        trained = Trained(error=f"{error.attempted}: {error.obstacle}")
    (home / TRAINED).write_bytes(msgspec.json.encode(trained))
    return 0


def retrain(training: Training, home: Path) -> Trained:
    """Run the step; its files lie below ``.sampan`` in the home. Raises SampanError for code that does not read."""
    folder = Folder(Path(training.code), home)
    for name in ("tmp", "cache"):
        (folder.data / name).mkdir(parents=True, exist_ok=True)
    workspace = Workspace(folder, training.sets)
    node = workspace.graph.nodes.get(training.step)
    if node is None:
        raise SampanError(f"Train {training.step}", "no step of this name is in the code", "")
    if node.each:
        raise SampanError(f"Train {training.step}", "it fans out, which no rebuild knows to do yet", "")
    parts = workspace.parts(node, training.digests)
    differs = tuple(differences(training.recorded, {**msgspec.to_builtins(parts), "inputs": {}}))
    clock, settings = SystemClock(), folder.settings()
    db = Database(folder.data / "records.db", writable=True)
    pool = Pool(folder.root, folder.data / "runs" / _ID / "workers.log")
    try:
        means = Means(folder, db, Lake(db, folder.data / "lake", clock), None, None, clock, settings, Runs(db))
        jobs = Jobs(means, Order(_ID, training.step, workspace, logging=False), {}, Slots(settings))
        job = jobs.job(node, msgspec.msgpack.decode(training.inputs, type=list[Input]), parts.key())
        if training.seed is not None:
            job = msgspec.structs.replace(job, seed=training.seed)
        pool.preload(jobs.modules(node))
        pool.submit(pool.spawn(), jobs.task(node, job))
        stored, error = _answer(pool)
    finally:
        pool.close()
        db.close()
    log = Path(job.log)
    said = "\n".join(log.read_text("utf-8", "replace").splitlines()[-_LINES:]) if error and log.exists() else ""
    return Trained(stored.model if stored is not None else None, differs, error, said)


def _answer(pool: Pool) -> tuple[Stored | None, str]:
    while True:
        for _, _, answer in pool.wait(None):
            if isinstance(answer, Lost):
                return None, answer.reason
            if answer.stored is None or answer.stored.model is None:
                return None, answer.error[1] if answer.error is not None else "it gave no model"
            return answer.stored, ""


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))
