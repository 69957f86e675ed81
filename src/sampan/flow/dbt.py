"""A dbt project as a part of the flow: its models and seeds are tables, its tests are checks, its sources events.

dbt itself is asked only when a file of the project, its version or its variables changed, and in a process of its own
(``dbt_child``); what it said is kept. The project is ``[dbt] project`` of sampan.toml, or
what lies in ``dbt/``, or in the root.
"""

import fcntl
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_value
from sampan.base.errors import BadQuery, BadSetting, BadWorkspace, Usage
from sampan.base.ids import is_name
from sampan.base.settings import Folder
from sampan.flow.files import Files
from sampan.flow.graph import CHECK, TABLE, Node
from sampan.flow.packages import Packages
from sampan.flow.queries import Queries, Query

_VERSION: Final = 2
_FILE: Final = "dbt_project.yml"
_COUNTS: Final = (".sql", ".yml", ".yaml", ".csv", ".md")
_SKIPPED: Final = frozenset({"target", "logs", "__pycache__", "node_modules"})
_SECONDS: Final = 600
_KEPT: Final = 16
_SEED_BYTES: Final = 1 << 20
_MOVES: Final = re.compile(r"\{[{%](?:(?!%\}|\}\}).)*?\b(run_started_at|invocation_id|modules\.datetime)\b", re.DOTALL)
_PROFILE: Final = (
    'sampan: {target: sampan, outputs: {sampan: {type: duckdb, path: ":memory:", schema: sampan, threads: 1}}}\n'
)


class _Node(msgspec.Struct):
    """A node of the manifest as ``dbt_child`` writes it; ``fails``: error_if, warn_if and fail_calc of a test."""

    id: str
    kind: str
    name: str
    path: str
    relation: str
    materialized: str
    language: str
    needs: list[str]
    macros: list[str]
    sql: str
    severity: str
    fails: list[str]
    hooks: int


class _Source(msgspec.Struct):
    id: str
    name: str
    relation: str


class _Listing(msgspec.Struct):
    nodes: list[_Node] = []
    sources: list[_Source] = []
    error: str = ""


def dbt_nodes(folder: Folder, packages: Packages, files: Files, queries: Queries) -> list[Node]:
    """The nodes of the workspace's dbt project; none if it has no project. Raises BadWorkspace for one that dbt cannot
    read or that holds what is not taken over, BadQuery for SQL that is refused, Usage without dbt."""
    project, variables = _settings(folder)
    if project is None:
        return []
    where = folder.root / project
    shown = _below(project, _FILE)
    versions = [packages.version("dbt-core"), packages.version("dbt-duckdb")]
    if "not installed" in versions:
        raise Usage(f"Read {shown}", "dbt is not installed", 'Run `uv add "sampan[dbt]"`.')
    content = [[name, files.digest(_below(project, name))] for name in sorted(_files(where))]
    key = digest_value([_VERSION, versions, variables, content])
    listing = _known(folder.data / "cache" / "dbt" / f"{key}.json") or _ask(folder, where, shown, variables, key)
    return _Project(folder.root, project, listing, queries).nodes()


def dbt_file(folder: Folder, name: str) -> str | None:
    """The file of the model of a name, below the workspace's root, as dbt said last; None if there is none."""
    try:
        project, _ = _settings(folder)
    except Usage:
        return None
    cached = sorted((folder.data / "cache" / "dbt").glob("*.json"), key=lambda one: one.stat().st_mtime)
    listing = _known(cached[-1]) if cached and project is not None else None
    for one in listing.nodes if listing is not None else ():
        shown = _below(project or "", one.path)
        if one.kind == "model" and one.name == name and (folder.root / shown).is_file():
            return shown
    return None


def _settings(folder: Folder) -> tuple[str | None, dict[str, Any]]:
    """The project's folder below the root ("" for the root itself; None without a project), and its variables."""
    config = folder.config().get("dbt", {})
    attempted = "Read [dbt] in sampan.toml"
    if not isinstance(config, dict) or not set(config) <= {"project", "vars"}:
        raise BadSetting(
            attempted, f"{config!r} is not understood", "It holds `project`, a folder, and `vars`, a table."
        )
    variables = config.get("vars", {})
    if not isinstance(variables, dict):
        raise BadSetting(attempted, f"vars is {variables!r}", "Write a table: `vars = { name = 1 }`.")
    variables = json.loads(json.dumps(variables, default=str))  # a date in it as text, as in YAML
    if "project" not in config:
        return next((name for name in ("dbt", "") if (folder.root / name / _FILE).is_file()), None), variables
    where = folder.root / str(config["project"])
    if not where.resolve().is_relative_to(folder.root.resolve()):
        raise BadSetting(
            attempted, f"project {str(where)!r} lies outside of the workspace", "Move it into the workspace."
        )
    if not (where / _FILE).is_file():
        raise BadSetting(attempted, f"there is no {_FILE} in {str(where)!r}", "Name the folder of a dbt project.")
    below = where.resolve().relative_to(folder.root.resolve()).as_posix()
    return ("" if below == "." else below), variables


def _files(where: Path, below: str = "") -> Iterator[str]:
    """The files that dbt may read, below the project."""
    with os.scandir(where / below) as entries:
        for entry in entries:
            name = f"{below}{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if entry.name not in _SKIPPED and not (Path(entry.path) / "pyvenv.cfg").exists():
                    yield from _files(where, name + "/")
            elif entry.name.endswith(_COUNTS) or (below and entry.name.endswith(".py")):
                yield name


def _known(path: Path) -> _Listing | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Listing)
    except (OSError, msgspec.DecodeError):
        return None


def _ask(folder: Folder, where: Path, shown: str, variables: dict[str, Any], key: str) -> _Listing:
    """Have dbt read the project, and keep what it says."""
    import subprocess
    import tempfile

    cache = folder.data / "cache" / "dbt"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock, tempfile.TemporaryDirectory(dir=cache) as scratch:
        fcntl.flock(lock, fcntl.LOCK_EX)  # dbt's own cache of what it parsed is shared
        (Path(scratch) / "profiles.yml").write_text(_PROFILE)
        out = Path(scratch) / "out.json"
        order = {
            "project": str(where.resolve()),
            "profiles": scratch,
            "target": str((cache / "target").resolve()),
            "logs": scratch,
            "vars": variables,
        }
        script = Path(__file__).with_name("dbt_child.py")
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": scratch, "LANG": "C.UTF-8", "TZ": "UTC"}
        command = [sys.executable, "-I", str(script), str(out), json.dumps(order)]
        try:
            done = subprocess.run(
                command, cwd=scratch, env=environment, capture_output=True, timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise BadWorkspace(f"Read {shown}", f"dbt took more than {_SECONDS} s") from None
        listing = _known(out)
        if listing is None:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"it ended with {done.returncode}"]
            raise BadWorkspace(f"Read {shown}", f"dbt failed: {said[-1]}", "See what `dbt compile` says.")
        if listing.error:
            raise BadWorkspace(f"Read {shown}", f"dbt says: {_one_line(listing.error)}", _advice(listing.error))
        out.replace(cache / f"{key}.json")
    old = sorted(cache.glob("*.json"), key=lambda one: one.stat().st_mtime)[:-_KEPT]
    for path in old:
        path.unlink(missing_ok=True)
    return listing


class _Project:
    """What a listing means for the flow."""

    def __init__(self, root: Path, project: str, listing: _Listing, queries: Queries) -> None:
        self._root, self._project, self._queries = root, project, queries
        self._all = {one.id: one for one in listing.nodes}
        relations = {one.relation: one.name for one in listing.nodes if one.relation}
        relations |= {one.relation: one.name for one in listing.sources}
        longest = sorted(relations, key=len, reverse=True)
        self._relations = {name: _plain(relations[name]) for name in longest}
        ways = "|".join(rf"(?<![\w.\"]){re.escape(name)}(?![\w\"])" for name in longest)
        self._pattern = re.compile(ways) if ways else None
        self._notes: dict[str, list[str]] = {}

    def nodes(self) -> list[Node]:
        found = []
        for one in self._all.values():
            self._refuse(one)
            if one.kind == "test" and (why := _beyond(one)):
                self._note(one, f"the dbt test {one.name} is not run: {why}")
        for one in sorted(self._all.values(), key=lambda one: one.id):
            if one.materialized == "ephemeral" or (one.kind == "test" and _beyond(one)):
                continue
            found.append(self._node(one))
        return found

    def _node(self, one: _Node) -> Node:
        kind = CHECK if one.kind == "test" else TABLE
        path = _below(self._project, one.path)
        name = one.name if is_name(one.name) or kind == TABLE else re.sub(r"\W", "_", one.name)[:100]
        if not is_name(name):
            raise BadWorkspace(
                f"Read {path}", f"{name!r} cannot name a {kind}", "Give it an alias of letters, digits and underscores."
            )
        sql = self._pattern.sub(lambda found: self._relations[found.group()], one.sql) if self._pattern else one.sql
        query = self._query(one, path, sql.strip() + "\n")
        flags = (*query.flags, *self._notes.get(one.id, ()))
        if one.hooks:
            flags += (f"{one.hooks} dbt hook{'s' if one.hooks > 1 else ''} of {name} not run",)
        options = {"incremental": str(query.incremental)} if query.incremental else {}
        if kind == CHECK and one.severity == "warn":
            options["severity"] = "warn"
        query = msgspec.structs.replace(query, flags=flags)
        return Node(name, kind, path, 1, query.depends, query=query, options=options, sql=sql.strip() + "\n")

    def _query(self, one: _Node, path: str, sql: str) -> Query:
        try:
            return self._queries.text(sql, path)
        except BadQuery as error:
            refusals = error.about.get("refusals")
            if not refusals:
                raise
            source = self._source(one.path)
            placed = tuple(_placed(refusal, sql, source) for refusal in refusals)
            from sampan.lake.sql import QueryFacts

            QueryFacts(refusals=placed).check(path)
            raise

    def _refuse(self, one: _Node) -> None:
        """Raise BadWorkspace for what cannot be taken over, or would be compiled otherwise each time."""
        path = _below(self._project, one.path)
        if one.kind == "snapshot" or one.language != "sql":
            what = "a dbt snapshot" if one.kind == "snapshot" else f"a dbt model in {one.language.capitalize()}"
            advice = "Sampan keeps the history of every table by itself." if one.kind == "snapshot" else ""
            raise BadWorkspace(
                f"Read {path}",
                f"{one.name!r} is {what}, which is not taken over",
                f"{advice or 'Write it as a Python step.'} Disable it: `enabled: false` in its config.",
            )
        if one.kind == "seed" and len(one.sql) > _SEED_BYTES:
            raise BadWorkspace(
                f"Read {path}",
                f"a seed of {len(one.sql):,} bytes is more than the {_SEED_BYTES:,} that one may have",
                "Load it as events (`sampan log load`), or read it in a Python step (`sampan.File`).",
            )
        for file in (one.path, *one.macros) if one.kind != "seed" else ():
            source = self._source(file) if file.endswith(".sql") else ""
            found = _MOVES.search(
                re.sub(r"\{#.*?#\}", lambda at: "\n" * at.group().count("\n"), source, flags=re.DOTALL)
            )
            if found:
                line = source.count("\n", 0, found.start(1)) + 1
                raise BadQuery(
                    f"Read {_below(self._project, file)}",
                    f"{_below(self._project, file)}:{line}: {found.group(1)} is another each time that dbt compiles",
                    "Take times from the events (`_time`, `_known_at`), or pass a variable in `[dbt] vars`.",
                )

    def _note(self, one: _Node, text: str) -> None:
        """A doubt, told with the first table that it is about."""
        about = next((need for need in one.needs if need in self._all), None)
        about = about or next((other.id for other in self._all.values() if other.kind == "model"), "")
        self._notes.setdefault(about, []).append(text)

    def _source(self, path: str) -> str:
        try:
            return (self._root / self._project / path).read_text("utf-8", "replace")
        except OSError:
            return ""


def _beyond(one: _Node) -> str:
    """Why a test is no check; empty if it is one."""
    fails, warns, counts = one.fails
    if counts != "count(*)":
        return f"it counts by fail_calc {counts!r}"
    what, when = ("warns by warn_if", warns) if one.severity == "warn" else ("fails by error_if", fails)
    return "" if re.sub(r"\s", "", when) in ("!=0", ">0") else f"it {what} {when!r}"


def _placed(refusal: Any, sql: str, source: str) -> Any:
    """A refusal with the line of the model's own file, where that line can be told from the compiled one."""
    lines = sql.split("\n")
    text = lines[refusal.line - 1].strip() if refusal.line <= len(lines) else ""
    for wanted in filter(None, (text, refusal.text)):
        found = [number for number, line in enumerate(source.split("\n"), 1) if wanted in line]
        if len(found) == 1:
            return msgspec.structs.replace(refusal, line=found[0])
    reason = f"{refusal.reason} (line {refusal.line} of what dbt compiles)"
    return msgspec.structs.replace(refusal, line=1, reason=reason)


def _plain(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name) else f'"{name}"'


def _below(project: str, name: str) -> str:
    return f"{project}/{name}" if project else name


def _one_line(text: str) -> str:
    lines: Iterable[str] = (line.strip() for line in text.splitlines())
    said = " ".join(line for line in lines if line and line not in ("Compilation Error", "Runtime Error"))
    return said if len(said) <= 600 else said[:599] + "…"


def _advice(text: str) -> str:
    if "dbt deps" in text:
        return "Run `dbt deps` in the project: Sampan fetches no packages."
    if "connection never acquired" in text or "'None' has no attribute" in text:
        return "A model may not query the database while it compiles: Sampan compiles without one."
    if "Env var required" in text:
        return "The environment is not read; pass a variable: `[dbt] vars` in sampan.toml."
    return "Mend it in the project, and try again."
