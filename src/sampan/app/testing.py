"""What commands and the hub ask about a model's suite: running it against a version, and where a version stands."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sampan.app.workplace import Workplace
from sampan.base.errors import BadQuery, Busy, NotFound, StepFailed, Usage, revive

if TYPE_CHECKING:
    from sampan.lake.query import TableSource
    from sampan.models.examine import Errand, Examined
    from sampan.models.suites import Suite
    from sampan.models.tests import SuiteState
    from sampan.models.version import Version

_ONE: Final = threading.Lock()  # one suite at a time: each is a process with a model and a table in it
_PATIENCE: Final = 6 * 3600.0
_LOOK: Final = 0.5  # seconds between two looks whether it is still wanted


class _Trained(NamedTuple):
    """The table that a version was trained on, as it was; no ``source`` where its files are gone."""

    name: str
    digest: str
    source: "TableSource | None"


class Testing(Workplace):
    """Runs suites, and keeps what came of them."""

    def test_state(self, ref: str, by: int | None = None) -> "SuiteState":
        """Where a version stands with the suite of its model, now or ``by`` an instant. Raises NotFound for a version
        that there is not."""
        from sampan.lake.history import MAIN
        from sampan.models.tests import SuiteResults, suite_state

        version, lake = self.models.get(ref), self.lake
        results, root = SuiteResults(self.db), self.folder.root
        return suite_state(results, root, version.ref, lambda: lake.names(lake.ref_at(MAIN, by)), by)

    def test_model(self, ref: str, actor: str, branch: str = "main") -> Any:
        """Run the suite of a version's model on its frozen files and the tables of a branch; keep what came of it.

        Raises NotFound without a version, a suite or a branch, BadWorkspace, BadQuery for a suite that does not read,
        Usage for one that this version cannot be asked.
        """
        import msgspec

        from sampan.base.digests import digest_bytes
        from sampan.models.suites import parse
        from sampan.models.tests import Report, SuiteResults, suite_path

        names = self.lake.names(branch)
        number = self.lake.versions(branch).get(ref)  # a model alone: the version on the branch
        version = self.models.get(ref if number is None else f"{ref}@{number}")
        attempted, path = f"Test {version.ref}", f"suites/{version.model}.toml"
        try:
            text = suite_path(self.folder.root, version.model).read_bytes()
        except FileNotFoundError:
            advice = "Write what the model must hold there: docs/how-to/models.md shows how."
            raise NotFound(attempted, f"there is no {path}", advice) from None
        began, suite = time.monotonic(), parse(text, path)
        errand, data = self._errand(attempted, path, version, suite, names, branch)
        with _ONE:
            found = _examined(attempted, errand, lambda: self._hub is not None and self._hub.ending)
        report = Report(
            ref=version.ref,
            suite=digest_bytes(text),
            path=path,
            branch=branch,
            table=errand.table,
            target=errand.target if suite.measured else "",
            where=suite.where,
            rows=found.rows,
            seen=found.seen,
            data=data,
            outcomes=found.outcomes,
            seconds=time.monotonic() - began,
        )
        with self._as_writer("Keep what came of a suite"):
            return msgspec.to_builtins(SuiteResults(self.db).add(report, actor=actor, clock=self.clock))

    def _errand(
        self, attempted: str, path: str, version: "Version", suite: "Suite", names: dict[str, str], branch: str
    ) -> "tuple[Errand, dict[str, str]]":
        """What to ask, and the snapshot of each table that it is asked on."""
        from sampan.models.examine import Errand

        blobs = str(self.blobs.folder.resolve())
        if not suite.on_rows:
            return Errand(version=version, blobs=blobs, suite=suite, sources={}), {}
        node = self._declared(version.model) if suite.measured and not suite.target else {}
        target = suite.target or str(node.get("target") or "")
        if suite.measured and not target:
            advice = 'Say it at the top of the suite, target = "…", or in the code: @model(target="…").'
            raise Usage(attempted, "nothing says which column holds the outcome", advice)
        trained = self._trained(version)
        table = suite.table or self._default_table(attempted, names, trained, branch)
        spelled = {name.lower(): name for name in names}
        read: dict[str, str] = {}
        for name in [table, *_named(path, suite)]:
            if name.lower() not in spelled:
                there = f"There are: {', '.join(names)}." if names else "`sampan run` makes them."
                raise NotFound(attempted, f"{path} reads {name!r}, and there is no such table on {branch}", there)
            read[spelled[name.lower()]] = names[spelled[name.lower()]]
        table = spelled[table.lower()]
        sources = {name: self.lake.source_of(self.lake.snapshot(id), name) for name, id in read.items()}
        errand = Errand(
            version=version,
            blobs=blobs,
            suite=suite,
            sources=sources,
            trained=trained.source if trained else None,
            same=trained is not None and trained.digest == read[table],
            table=table,
            target=target,
            group=str(node.get("group") or ""),
        )
        return errand, read

    def _declared(self, model: str) -> dict[str, Any]:
        """What @model says of a model; nothing where no code declares it."""
        from sampan.flow.workspace import Workspace

        node = Workspace(self.folder).graph.nodes.get(model)
        return dict(node.options) if node is not None else {}

    def _trained(self, version: "Version") -> _Trained | None:
        """The one table among the inputs of its step that holds its features."""
        from sampan.flow.plan import stored_of
        from sampan.lake.query import TableSource
        from sampan.store.blobs import Blobs

        result = self.runs.result(version.key) if version.key else None
        found = []
        for name, digest in (result.parts.get("inputs", {}) if result is not None else {}).items():
            made = self.runs.with_digest(name, digest)
            table = stored_of(made).table if made is not None else None
            if table is None and not self.lake.present(digest):
                continue
            kept = table or self.lake.snapshot(digest)
            if {field for field, _ in kept.fields} >= set(version.signature.inputs):
                files = Blobs(self.folder.data / "lake")
                paths = [files.path(file.sha256) for file in kept.files]
                format = kept.files[0].format if kept.files else "parquet"
                there = all(path.exists() for path in paths)
                source = TableSource(name, tuple(map(str, paths)), format, kept.fields) if there else None
                found.append(_Trained(name, digest, source))
        return found[0] if len(found) == 1 else None

    def _default_table(self, attempted: str, names: dict[str, str], trained: _Trained | None, branch: str) -> str:
        if trained is not None and trained.name in names:
            return trained.name
        obstacle = "it is not known which table it was trained on"
        if trained is not None:
            obstacle = f"the table that it was trained on, {trained.name}, is not on {branch}"
        raise Usage(attempted, obstacle, 'Name the one to test on at the top of the suite: table = "…"')


def _named(path: str, suite: "Suite") -> list[str]:
    """The tables that conditions and changes name themselves. Raises BadQuery for what cannot repeat itself."""
    from sampan.lake.sql import analyse

    texts = [("where", suite.where)]
    texts += [(one.name, one.where) for one in (*suite.slice, *suite.changes)]
    texts += [(one.name, value) for one in suite.changes for value in one.set.values() if isinstance(value, str)]
    named: dict[str, None] = {}
    for name, text in texts:
        if text.strip():
            facts = analyse(f"SELECT\n{text}", path)
            if facts.refusals:
                first = facts.refusals[0]
                shown = f" in `{first.text}`" if first.text else ""
                raise BadQuery(f"Read {path}", f"{name}: {first.reason}{shown}, in: {text.strip()[:200]}", first.advice)
            named |= dict.fromkeys(facts.depends)
    return list(named)


def _examined(attempted: str, errand: "Errand", ended: Callable[[], bool]) -> "Examined":
    """Have a process of its own ask; ``ended``: whether nobody waits for it any more."""
    import msgspec

    from sampan.models.examine import Answer
    from sampan.serve.environment import ONE_THREAD

    out, said = _told(attempted, msgspec.msgpack.encode(errand), {**os.environ, **ONE_THREAD}, ended)
    try:
        answer = msgspec.msgpack.decode(out, type=Answer)
    except msgspec.DecodeError:
        last = said.decode(errors="replace").strip()[-300:] or "nothing"
        raise StepFailed(attempted, "its process ended before it was done", f"It last said: {last}") from None
    if answer.error is not None:
        raise revive(answer.error)
    assert answer.found is not None
    return answer.found


def _told(attempted: str, errand: bytes, environment: dict[str, str], ended: Callable[[], bool]) -> tuple[bytes, bytes]:
    """What the process answers, and what it writes besides."""
    command, began = [sys.executable, "-P", "-m", "sampan.models.examine"], time.monotonic()
    pipe, given = subprocess.PIPE, errand
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        while True:
            try:
                return process.communicate(given, timeout=_LOOK)
            except subprocess.TimeoutExpired:
                given = b""  # the first call goes on to write it
            if ended() or time.monotonic() - began > _PATIENCE:
                process.kill()
                process.communicate()
                if ended():
                    raise Busy(attempted, "the hub is being stopped", "Test it again when it is up.")
                raise StepFailed(attempted, f"it took more than {_PATIENCE / 3600:g} hours", "Narrow it with where.")
