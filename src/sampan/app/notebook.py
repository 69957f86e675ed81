"""What Sampan shows in notebooks: tables, answers in SQL, and the hub's own pages; and ``%load_ext sampan``.

Objects know how to draw themselves for whoever asks (``_repr_html_``); IPython itself is not imported. Whatever came
out of data is escaped. A page is the one that the hub shows, without its scripts, in a frame that may run none.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeGuard
from urllib.parse import urlencode

from sampan.base.errors import NotFound, SampanError, StepFailed, Usage
from sampan.lake.read import Table

if TYPE_CHECKING:
    from sampan.app import App
    from sampan.lake.lake import Snapshot
    from sampan.lake.query import Source
    from sampan.runs.records import Run as FlowRun
    from sampan.track.records import Run as LoggedRun

_ROWS: Final = 10
_LONGEST: Final = 200  # characters of a value
_LEAST: Final = 4  # of an id that is cut off
_BRIEF: Final = 40
_WANTED: Final = "Write %%sampan_sql [--ref REF] [NAME], and the question below it."
_STYLE: Final = (
    "font:13px/1.5 system-ui,sans-serif;border-collapse:collapse;color:inherit;background:transparent;margin:.3em 0"
)
_CELL: Final = "padding:.15em .8em .15em 0;border:0;border-bottom:1px solid rgba(127,127,127,.35);vertical-align:top;"
_SOFT: Final = "opacity:.7;font-weight:normal"
_FRAME: Final = (
    "width:100%;height:32em;box-sizing:border-box;resize:vertical;border:1px solid rgba(127,127,127,.35);"
    "border-radius:6px"
)
Rows = Sequence[Sequence[Any]]


class ShownTable(Table):
    """A table as of one snapshot: shown with its first rows, handed on by ``.df()``, ``.polars()``, ``.arrow()`` and
    ``.relation()``. ``rows``: how many it has; ``digest``: of its content; ``address``: its page, if a hub is known."""

    def __init__(self, source: "Source", name: str, ref: str, rows: int, digest: str, address: str) -> None:
        super().__init__(source)
        self.name, self.ref, self.rows, self.digest, self.address = name, ref, rows, digest, address

    @property
    def columns(self) -> dict[str, str]:
        """Names and types."""
        found = self.relation()
        return dict(zip(found.columns, map(str, found.types), strict=True))

    def __len__(self) -> int:
        return self.rows

    def __repr__(self) -> str:
        head = f"{self.name}@{self.ref}: {_count(self.rows)}, {self.digest}"
        return "\n".join([head, *(f"  {name}  {kind}" for name, kind in self.columns.items())])

    def _repr_html_(self) -> str:
        columns = self.columns
        shown = self.relation().limit(_ROWS).fetchall()
        name = escape(f"{self.name}@{self.ref}")
        if self.address:
            name = f'<a href="{escape(self.address)}" target="_blank" rel="noreferrer">{name}</a>'
        more = f", the first {_ROWS} shown" if self.rows > _ROWS else ""
        head = f"<b>{name}</b> <span style='{_SOFT}'>{_count(self.rows)}{more} · {escape(self.digest)}</span>"
        return _html(head, columns.items(), shown)


class Answer:
    """The answer to a question in SQL, whole: ``.df()``, ``.polars()``, ``.arrow()``."""

    def __init__(self, table: Any, types: Sequence[str]) -> None:
        self._table, self._types = table, types

    def arrow(self) -> Any:
        """A pyarrow Table."""
        return self._table

    def df(self) -> Any:
        """A pandas DataFrame."""
        return self._table.to_pandas()

    def polars(self) -> Any:
        """A Polars DataFrame."""
        import polars

        return polars.from_arrow(self._table)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"{_count(len(self))}: {', '.join(self._table.column_names)}"

    def _repr_html_(self) -> str:
        names = list(zip(self._table.column_names, self._types, strict=True))
        first = self._table.slice(0, _ROWS)
        shown = list(zip(*(column.to_pylist() for column in first.columns), strict=True))
        more = f", the first {_ROWS} shown" if len(self) > _ROWS else ""
        return _html(f"<span style='{_SOFT}'>{_count(len(self))}{more}</span>", names, shown)


class Shown:
    """A page of the hub, to be looked at in a notebook. ``text`` says the same to a terminal."""

    def __init__(self, html: str, text: str, address: str) -> None:
        self.html, self.text, self.address = html, text, address

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        page = self.html.replace("<head>", '<head><base target="_blank">', 1)
        link = (
            f'<a href="{escape(self.address)}" target="_blank" rel="noreferrer">in the hub</a>' if self.address else ""
        )
        return (
            f'<iframe title="{escape(self.text)}" sandbox="allow-popups allow-popups-to-escape-sandbox"'
            f' style="{_FRAME}"'
            f' srcdoc="{escape(page)}"></iframe>{link}'
        )


def table(name: str, ref: str = "main", workspace: Path | str | None = None) -> ShownTable:
    """A derived table, for notebooks and scripts: ``sampan.table("orders").df()``, ``sampan.table("orders@try")``.

    Gives ``.df()``, ``.polars()``, ``.arrow()`` and ``.relation()``; a notebook shows its first rows, types, count and
    digest. ``ref``, or what follows ``@``, is a branch or a commit. Raises NotFound.
    """
    from sampan.hub.urls import Urls

    named, at, said = name.partition("@")
    with _open(workspace) as app:
        if at and said:
            ref = _ref(app, name, said)
        snapshot = _snapshot(app, named, ref)
        source = app.lake.source_of(snapshot, named)
        address = _address(app)
        page = f"{address}{Urls.table(named, snapshot=snapshot.id)}" if address else ""
        return ShownTable(source, named, ref.removeprefix("@"), snapshot.rows, snapshot.id, page)


def _ref(app: "App", name: str, said: str) -> str:
    """The branch or commit that follows ``@`` in a table's name. Raises NotFound with the branches that there are."""
    branches = app.lake.branches()
    if said in branches:
        return said
    commit = f"@{said.removeprefix('@')}"
    try:
        app.lake.commit_at(commit)
    except NotFound:
        there = f"Branches: {', '.join(branches) or 'main'}. `sampan branch log` lists commits."
        raise NotFound(f"Open {name!r}", f"{said!r} is neither a branch nor a commit", there) from None
    return commit


def _snapshot(app: "App", name: str, ref: str) -> "Snapshot":
    """A table's snapshot. Raises NotFound; for a kind of event, with how to ask for events."""
    try:
        return app.lake.table(name, ref)
    except NotFound:
        if name not in app.log.contracts.types():
            raise
        advice = f'`sampan.sql("FROM {name}")` gives events.'
        raise NotFound("Open a table", f"{name} is a kind of event, and no table", advice) from None


def sql(text: str, ref: str = "main", workspace: Path | str | None = None) -> Answer:
    """A question in SQL, of the tables of a branch or ``@COMMIT`` and the events of the log. Raises BadQuery."""
    from sampan.lake.read import query

    with _open(workspace) as app:
        asked = query(text, app.lake, app.log, ref)
        try:
            return Answer(asked.arrow(), asked.types)
        finally:
            asked.close()


def show(what: str = "last", *more: str, workspace: Path | str | None = None) -> Shown:
    """Something as its page in the hub shows it: a run of the flow or a logged run (an id, its beginning, or ``last``),
    a version (``reorder@3``, ``reorder@champion``), or several runs, compared. Raises NotFound, Usage.
    """
    from sampan.hub.urls import Urls

    with _open(workspace) as app:
        if not more and "@" in what:
            ref = app.models.get(what).ref
            return _page(app, Urls.version(ref), {}, f"version {ref}")
        runs = [_run(app, one) for one in (what, *more)]
        names = [str(getattr(one, "name", "") or one.id) for one in runs]
        if len(runs) == 1:
            (one,) = runs
            own = Urls.logged_run(one.experiment, one.id) if _is_logged(one) else Urls.run(one.id)
            return _page(app, own, {}, f"run {names[0]}")
        text = f"runs {', '.join(names)}, compared"
        logged = [one for one in runs if _is_logged(one)]
        if len(logged) == len(runs) and len({one.experiment for one in logged}) == 1:
            path = Urls.compare(logged[0].experiment)
            return _page(app, path, {"run": [one.id for one in runs]}, text)
        if len(runs) > 2:
            said = "runs of the flow are compared by twos, logged runs of one experiment by any number"
            raise Usage("Compare runs", said, "Name two, or runs of one experiment.")
        return _page(app, "/diff", {"before": runs[0].id, "after": runs[1].id}, text)


def _is_logged(run: "FlowRun | LoggedRun") -> "TypeGuard[LoggedRun]":
    return hasattr(run, "experiment")


def _run(app: "App", id: str) -> "FlowRun | LoggedRun":
    try:
        return app.runs.get(id)
    except NotFound:
        found = app.tracking.comparing.beginning(id) if len(id) >= _LEAST else []
        if len(found) != 1:
            problem = "more than one run begins so" if found else "there is none"
            advice = "`sampan runs list` and /experiments show what there is."
            raise NotFound(f"Find the run {id[:_BRIEF]!r}", problem, advice) from None
        return app.tracking.runs.get(found[0])


def _page(app: "App", path: str, query: dict[str, Any], text: str) -> Shown:
    address = _address(app)
    there = f"{address}{path}{'?' if query else ''}{urlencode(query, doseq=True)}" if address else ""
    return Shown(app.page_file(path, query=query, address=address), text, there)


def _address(app: "App") -> str:
    """Where people reach the hub; empty where none is up."""
    return str(app.settings.get("public_url")).rstrip("/") or app.local_hub()


def _open(workspace: Path | str | None) -> Any:
    """The workspace in a folder, let go of at the end."""
    from contextlib import closing

    from sampan.app import App

    app = App(Path(workspace) if workspace else None)
    return closing(app)


def _html(head: str, columns: Iterable[tuple[str, str]], rows: Rows) -> str:
    names = "".join(
        f"<th style='{_CELL}text-align:left'>{escape(name)}<br><span style='{_SOFT}'>{escape(kind)}</span></th>"
        for name, kind in columns
    )
    lines = "".join(
        "<tr style='background:transparent'>"
        + "".join(f"<td style='{_CELL}{_right(v)}'>{_value(v)}</td>" for v in row)
        + "</tr>"
        for row in rows
    )
    grid = f"<table style='{_STYLE}'><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"
    return f"<div style='overflow-x:auto;color:inherit'>{head}{grid}</div>"


def _count(rows: int) -> str:
    return f"{rows:,} {'row' if rows == 1 else 'rows'}"


def _right(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return "text-align:right" if number else "text-align:left"


def _value(value: Any) -> str:
    if value is None:
        return f"<span style='{_SOFT}'>–</span>"
    text = str(value)
    return escape(text if len(text) <= _LONGEST else text[:_LONGEST] + "…")


# -- %load_ext sampan


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext sampan``: the magics ``%sampan COMMAND …`` and ``%%sampan_sql [--ref REF] [NAME]``."""

    def command(line: str) -> Shown | None:
        """%sampan run, %sampan plan, %sampan diff R1 R2: a command as at a terminal; a run is shown when it is done."""
        return _command(line)

    def question(line: str, cell: str) -> Answer | None:
        """%%sampan_sql [--ref REF] [NAME]: answer a question in SQL; with a NAME, keep the answer under it."""
        name, ref = _question(line)
        found = sql(cell, ref)
        if name:
            shell.user_ns[name] = found
        return None if name else found

    def mistake(shell: Any, kind: Any, error: BaseException, trace: Any, tb_offset: Any = None) -> list[str]:
        """What went wrong in words, as at a terminal, without the way there."""
        print(error, file=sys.stderr)  # noqa: T201 - a notebook's cell
        return [str(error)]

    shell.set_custom_exc((SampanError,), mistake)
    shell.register_magic_function(command, "line", "sampan")
    shell.register_magic_function(question, "cell", "sampan_sql")


def _command(line: str) -> Shown | None:
    try:
        arguments = shlex.split(line)
    except ValueError as error:
        print(f"Read %sampan: {error}", file=sys.stderr)  # noqa: T201
        return None
    with subprocess.Popen(
        [sys.executable, "-m", "sampan", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as child:
        assert child.stdout is not None
        try:
            for said in child.stdout:
                print(said, end="", flush=True)  # noqa: T201
        except KeyboardInterrupt:
            child.terminate()
            raise
    if arguments[:1] == ["run"] and child.returncode:  # so that a notebook that is run as a whole stops here
        raise StepFailed("Run the flow", f"`%sampan {line}` ended with {child.returncode}", "It says why above.")
    if arguments[:1] == ["run"] and "--json" not in arguments and "--help" not in arguments:
        return show("last")
    return None


def _question(line: str) -> tuple[str, str]:
    """The name and the ref of a magic's line. Raises Usage."""
    problem = f"{line.strip()[:_BRIEF]!r}"
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise Usage("Read %%sampan_sql", f"{problem}: {error}", _WANTED) from None
    ref = "main"
    if words[:1] == ["--ref"] and len(words) > 1:
        ref, words = words[1], words[2:]
    if len(words) > 1 or (words and not words[0].isidentifier()):
        raise Usage("Read %%sampan_sql", problem, _WANTED)
    return (words[0] if words else ""), ref
