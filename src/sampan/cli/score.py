"""``sampan score``: all rows of a table, answered as an endpoint answers one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sampan.base.errors import No, Usage
from sampan.cli.output import emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("target", metavar="ENDPOINT|MODEL@N")
@click.argument("rows", metavar="TABLE|FILE")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="TABLE|FILE", help="Keep the answers: a table, .parquet or .csv."
)
@click.option("--keep", multiple=True, metavar="COLUMN", help="A further column of the table to write beside them.")
@click.option("--reason", default="", help="Why; it stays with the table.")
@json_option
@click.pass_context
def score(
    ctx: click.Context, target: str, rows: str, out: Path | None, keep: tuple[str, ...], reason: str, as_json: bool
) -> None:
    """Answer each row of a table with what an endpoint serves.

    Model, rules and thresholds are those in force, run by the same code that answers requests, in a process of its own;
    MODEL@N takes a version alone, without rules. TABLE is one of the branch main; a name with an ending is a file
    (.parquet, .csv, .ndjson). The digest that is printed is that of the answers a client gets for the same records. A
    row that does not fit is named, and nothing is written (exit code 2); exits with 1 if a rule failed on a row and has
    no safe default. Nothing is written to the log. An --out without an ending is a table of main: committed with
    a run that says which snapshot and which version it is of, and left alone by the flow.
    """
    app: App = ctx.obj
    into_table = out is not None and not out.suffix and len(out.parts) == 1
    if app.remote and not into_table:
        raise Usage(f"Score {rows}", "SAMPAN_URL names a hub elsewhere", "Run it where the workspace lies.")
    with _bar(rows, quiet=as_json) as report:
        from sampan.cli.run import me

        if into_table:
            if Path(rows).suffix and app.hub() is not None:
                advice = "Name a table, or a file to write to; or end the hub."
                raise Usage(f"Score {rows}", "a hub is up, which reads no files of yours", advice)
            work = app.work()
            found = work.score_table(
                target, rows, str(out), keep, reason, me(), lambda event: report(event.get("done", 0), event.get("of"))
            )
        else:
            found = app.score(target, rows, out, keep, report, me())
    bad = found["actions"].get("", 0) if found["failed"] else 0
    if as_json:
        emit(found)
    else:
        rate = found["rows"] / found["seconds"] if found["seconds"] else 0
        click.echo(f"{found['rows']:,} rows of {rows} scored with {found['version']} in {found['seconds']:.2f} s.")
        read = f"snapshot {found['snapshot'][:12]}" if "snapshot" in found else f"file {found['sha256'][:12]}"
        facts = [("read", read), ("bundle", found["bundle"][:12]), ("digest", found["digest"])]
        facts += [("rows a second", f"{rate:,.0f}"), *([("written to", found["out"])] if found["out"] else [])]
        facts += [("run", found["run"]), ("commit", found["commit"])] if into_table else []
        fields(facts)
        if any(found["actions"]):
            click.echo()
            table(["action", "rows"], [[name or "none", count] for name, count in found["actions"].items()])
        for why, count in found["errors"].items():
            click.echo(f"  the rule failed on {count:,} rows: {why}", err=True)
    ctx.exit(No.exit_code if bad else 0)


@contextmanager
def _bar(name: str, *, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """How far it has come, for people at a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"Scoring {name}", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
