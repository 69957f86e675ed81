"""A version made anew from what is kept of it: code, environment and inputs, in an empty folder, in a fresh process.

Nothing of the workspace is written. The code comes from git and the patch of the run, the environment from the list of
packages that it recorded, the inputs are those that its step was given, by digest.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sampan.app.environments import NotRebuilt, apart, elsewhere, rebuild, unlike
from sampan.base.digests import digest_file
from sampan.base.errors import NotFound, SampanError
from sampan.flow.job import Input, Stored
from sampan.flow.plan import stored_of
from sampan.flow.retrain import TRAINED, TRAINING, Trained, Training
from sampan.lake.query import TableSource
from sampan.log.position import Position
from sampan.models.rebuilds import DIFFERENT, FAILED, IDENTICAL, WITHIN, Figure, Rebuilt
from sampan.models.version import Version
from sampan.runs.records import Run
from sampan.store.blobs import Blobs

if TYPE_CHECKING:
    from sampan.app.workplace import Workplace

_LINES = 12
_GONE = "Clean-up removes what nothing keeps: `sampan pin add MODEL@NUMBER` keeps what a version was made of."


class Reproduction:
    """One attempt. ``home`` is an empty folder; ``here``: in the running environment, if it is the recorded one."""

    def __init__(
        self,
        app: "Workplace",
        version: Version,
        home: Path,
        *,
        here: bool,
        tolerance: float,
        tell: Callable[[str], Any],
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        """``ended``: whether whoever wanted it does not any more."""
        self._app, self._version, self._home = app, version, home
        self._here, self._tolerance, self._tell, self._ended = here, tolerance, tell, ended
        self._left: list[str] = []

    def attempt(self) -> Rebuilt:
        """What came of it. Raises nothing for what is not there any more: that is the answer."""
        began = time.monotonic()
        version = self._version
        common: dict[str, Any] = {
            "ref": version.ref,
            "tolerance": self._tolerance,
            "environment": "running" if self._here else "rebuilt",
        }
        try:
            trained = self._train()
        except NotRebuilt as error:
            said = f"{error.said}\n  {error.advice}" if error.advice else error.said
            return Rebuilt(level=FAILED, cause=error.cause, said=said, seconds=time.monotonic() - began, **common)
        assert trained.model is not None
        metrics = _metrics(version.metrics, trained.model.metrics)
        return Rebuilt(
            level=self._level(trained.model.digest, metrics),
            digest=trained.model.digest,
            differences=(*self._left, *trained.differs),
            metrics=metrics,
            seconds=time.monotonic() - began,
            **common,
        )

    def _level(self, digest: str, metrics: Mapping[str, tuple[Figure, Figure]]) -> str:
        if digest == self._version.digest:
            return IDENTICAL
        near = all(_near(then, now, self._tolerance) for then, now in metrics.values())
        return WITHIN if metrics and near else DIFFERENT

    # -- step by step

    def _train(self) -> Trained:
        run = self._run()
        made: dict[str, Any] = run.manifest["steps"][self._version.model]
        self._tell(f"code: {f'commit {run.git[:12]}' if run.git else 'no commit'}"
                   f"{', with the patch of its run' if run.manifest['patch'] else ''}")  # fmt: skip
        code = self._code(run)
        self._left += elsewhere(run.manifest)
        self._tell(f"inputs: {', '.join(made['inputs']) or 'none'}")
        inputs = [self._input(run, name, digest, code) for name, digest in made["inputs"].items()]
        python = self._python(run, code)
        self._tell(f"training {self._version.model}")
        training = Training(
            self._version.model,
            str(code),
            msgspec.msgpack.encode(inputs),
            made["inputs"],
            run.manifest.get("sets", {}),
            run.manifest["recipes"][self._version.model],
            made.get("seed"),
        )
        (self._home / TRAINING).write_bytes(msgspec.json.encode(training))
        unset = {"VIRTUAL_ENV"} if self._here else {"VIRTUAL_ENV", "PYTHONPATH"}
        environment = {name: value for name, value in os.environ.items() if name not in unset}
        command = [str(python), "-P", "-m", "sampan.flow.retrain", str(self._home)]
        done = apart(command, self._home, environment, self._ended)
        try:
            trained = msgspec.json.decode((self._home / TRAINED).read_bytes(), type=Trained)
        except (OSError, msgspec.DecodeError):
            last = "\n    ".join(done.stderr.strip().splitlines()[-_LINES:])
            raise NotRebuilt("training", f"its process ended with {done.returncode}: {last}") from None
        if trained.model is None:
            told = f"\n    {trained.log}".replace("\n", "\n    ") if trained.log else ""
            changed = f"\n  What is not as it was: {'; '.join(trained.differs)}" if trained.differs else ""
            raise NotRebuilt("training", f"{self._version.model} failed: {trained.error}{told}{changed}")
        return trained

    def _run(self) -> Run:
        version = self._version
        try:
            run = self._app.runs.get(version.run or "")
        except NotFound:
            raise NotRebuilt("run", f"no run made {version.ref}; it was registered from outside") from None
        made = run.manifest.get("steps", {}).get(version.model, {})
        if "prefix" not in run.manifest or version.model not in run.manifest.get("recipes", {}) or "inputs" not in made:
            raise NotRebuilt(
                "manifest",
                f"run {run.id}, of Sampan {run.manifest.get('sampan', 'unknown')}, did not record all it was made from",
                "Train it once more: `sampan run` records everything.",
            )
        return run

    def _code(self, run: Run) -> Path:
        to = self._home / "code"
        to.mkdir()
        if run.git is not None:
            self._check_out(run.git, to)
        patch = run.manifest["patch"]
        if patch is not None:
            path = self._app.blobs.path(patch)
            if not path.exists():
                raise NotRebuilt("patch", f"the patch {patch[:12]} of run {run.id} is gone", _GONE)
            if digest_file(path) != patch:
                raise NotRebuilt("patch", f"the patch {patch[:12]} is not as it was written: restore a backup")
            environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(self._home)}
            done = _git(environment, "apply", "--whitespace=nowarn", str(path), where=to)
            if done.returncode:
                raise NotRebuilt("patch", f"the patch {patch[:12]} does not apply: {done.stderr.strip()}")
        return to / str(run.manifest["prefix"])

    def _check_out(self, commit: str, to: Path) -> None:
        root = self._app.folder.root
        environment = {**os.environ, "GIT_INDEX_FILE": str(self._home / "index"), "GIT_OPTIONAL_LOCKS": "0"}

        def git(where: Path | str, *arguments: str) -> str:
            done = _git(environment, *arguments, where=where)
            if done.returncode:
                raise NotRebuilt("commit", f"git cannot check {commit[:12]} out: {done.stderr.strip()}")
            return done.stdout.strip()

        asked = _git({**environment, "LC_ALL": "C"}, "rev-parse", "--git-dir", where=root)
        if "not a git repository" in asked.stderr:
            said = f"{root} is no git repository any more, and {self._version.ref} was made from its commit {commit}"
            raise NotRebuilt("commit", said, "Clone the repository again, and put the folder .sampan into the clone.")
        top = git(root, "rev-parse", "--show-toplevel")
        try:
            git(top, "cat-file", "-e", f"{commit}^{{commit}}")
        except NotRebuilt:
            advice = f"Whoever has it can give it back: `git fetch origin {commit}`."
            raise NotRebuilt("commit", f"the commit {commit} is not in the repository any more", advice) from None
        git(top, "read-tree", commit)
        git(top, "checkout-index", "--all", "--force", f"--prefix={to}/")

    def _input(self, run: Run, name: str, digest: str, code: Path) -> Input:
        if name in run.manifest.get("inputs", {}):
            return self._events(run, name, code)
        result = self._app.runs.with_digest(name, digest)
        if result is not None:
            stored = stored_of(result)
            if stored.table is None:
                self._copy_blobs(name, digest, stored)
                return Input(name, stored=stored)
            files, fields = stored.table.files, stored.table.fields
        else:
            try:
                snapshot = self._app.lake.snapshot(digest)
            except NotFound:
                raise NotRebuilt("input", f"the input {name} ({digest[:16]}) is gone", _GONE) from None
            files, fields = snapshot.files, snapshot.fields
        lake = Blobs(self._app.folder.data / "lake")
        paths = tuple(lake.path(file.sha256) for file in files)
        for path, file in zip(paths, files, strict=True):
            if not path.exists():
                raise NotRebuilt("input", f"a file of the snapshot {digest[:16]} of {name} is gone", _GONE)
            if digest_file(path) != file.sha256:
                raise NotRebuilt("input", f"{path.name[:12]} of {name} is not as it was written: restore a backup")
        format = files[0].format if files else "parquet"
        return Input(name, table=TableSource(name, tuple(str(path) for path in paths), format, fields))

    def _events(self, run: Run, type: str, code: Path) -> Input:
        log, position = self._app.log, Position.parse(run.position)
        then = run.manifest["inputs"][type]
        try:
            state = log.state(type, position)
            source = log.source(type, position, run.manifest.get("known_by"))
        except SampanError as error:
            raise NotRebuilt("input", f"events of {type} cannot be read: {error.obstacle}") from None
        if (state.count, state.digest) != (then["count"], then["digest"]):
            raise NotRebuilt(
                "input", f"of {type} there are {state.count:,} events up to {position}, not the ones of then"
            )
        source = msgspec.structs.replace(source, contracts=str(code / "contracts.py"))
        return Input(type, log=msgspec.Raw(msgspec.msgpack.encode(source)))

    def _copy_blobs(self, name: str, digest: str, stored: Stored) -> None:
        to = Blobs(self._home / ".sampan" / "blobs")
        files = stored.model.held() if stored.model is not None else ()
        for one in (*([stored.blob] if stored.blob else ()), *files):
            try:
                to.put(self._app.blobs.get(one))
            except NotFound:
                raise NotRebuilt("input", f"the input {name} ({digest[:16]}) is gone", _GONE) from None

    def _python(self, run: Run, code: Path) -> Path:
        if not self._here:
            self._tell(f"environment: {len(run.manifest['packages'])} packages on {run.manifest['python']}")
            python, left = rebuild(run.manifest, self._home, code, self._ended)
            self._left += left
            return python
        found = unlike(run.manifest)
        if found:
            more = f"\n    and {len(found) - 8} more" if len(found) > 8 else ""
            said = "the running environment is not the one of then:" + "".join(f"\n    {one}" for one in found[:8])
            raise NotRebuilt("environment", said + more, "Without --here the one of then is made anew.")
        self._tell("environment: the running one, which is as it was")
        return Path(sys.executable)


def discard(home: Path) -> None:
    """Remove what an attempt has made."""
    shutil.rmtree(home, ignore_errors=True)


def _git(environment: Mapping[str, str], *arguments: str, where: Path | str) -> "subprocess.CompletedProcess[str]":
    """Ask git in a folder. Raises NotRebuilt where there is no git."""
    command = ["git", *arguments]
    try:
        return subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NotRebuilt("git", "git is not installed, which gives the code of then", "Install git.") from None


def _metrics(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Figure, Figure]]:
    """Figures as they were recorded and as they came out. Those that measure time say nothing of a model."""
    names = [name for name in then if not name.endswith(("seconds", "_time", "_ms"))]
    return {name: (_figure(then[name]), _figure(now.get(name))) for name in names if _figure(then[name]) is not None}


def _figure(value: Any) -> Figure:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _near(then: Figure, now: Figure, tolerance: float) -> bool:
    """Relative to the larger of the two."""
    return then is not None and now is not None and abs(then - now) <= tolerance * max(abs(then), abs(now))
