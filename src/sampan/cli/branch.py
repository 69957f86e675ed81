"""``sampan branch``: try changes beside main, look at what they would change, bring them in or drop them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import stamp
from sampan.base.words import some
from sampan.cli.output import as_of_option, emit, json_option
from sampan.cli.output import table as show_table
from sampan.cli.run import finish, me, screen, stop_in_order

if TYPE_CHECKING:
    from sampan.app import App

_reason = click.option("--reason", default="", help="Why; it stays in the history.")


@click.group()
def branch() -> None:
    """Names for states of all tables and models.

    A branch copies nothing. `sampan run --branch NAME` publishes to it and leaves main alone; the log and live traffic
    never branch.
    """


@branch.command()
@click.argument("name")
@click.option("--from", "ref", default="main", show_default=True, help="Where it starts: a branch, or @COMMIT.")
@_reason
@json_option
@click.pass_obj
def new(app: "App", name: str, ref: str, reason: str, as_json: bool) -> None:
    """Make a branch that starts where main is, or another branch or commit."""
    made = app.work().new_branch(name, ref, reason, me())
    if as_json:
        emit(made)
        return
    click.echo(f"{name} starts at {made['head'] or 'nothing: main is empty'}.\n  sampan run --branch {name}")


@branch.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List branches with what differs from main."""
    found = app.view("/branches", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    show_table(
        ["branch", "tables that differ", "models", "commit", "made", "by", "why"],
        [
            [
                one["name"],
                ", ".join(one["tables"]) or ("" if one["name"] == "main" else "none"),
                ", ".join(one["models"]),
                one["head"],
                stamp(one["changed"]) if one["changed"] else "",
                one["actor"],
                one["reason"],
            ]
            for one in found["branches"]
        ],
        empty="Nothing is published yet: `sampan run` makes the first commit of main.",
    )


@branch.command()
@click.argument("name", default="main")
@click.option("--limit", default=20, show_default=True, metavar="N", help="Commits at most.")
@json_option
@click.pass_obj
def log(app: "App", name: str, limit: int, as_json: bool) -> None:
    """List the commits of a branch, newest first, with what each changed."""
    found = app.view("/branches/" + name, {"limit": limit})["commits"]
    if as_json:
        emit({"commits": found})
        return
    show_table(
        ["commit", "made", "changed", "run", "by", "why"],
        [[c["id"], stamp(c["created"]), some(c["changed"]), c["run"], c["actor"], c["reason"]] for c in found],
        empty="It has no commit yet.",
    )


@branch.command()
@click.argument("name")
@click.option("--table", "only", default="", metavar="TABLE", help="Only this table, with sample rows.")
@json_option
@click.pass_obj
def diff(app: "App", name: str, only: str, as_json: bool) -> None:
    """Show what is another on a branch than on main: definitions, columns, rows, metrics."""
    _differences(app.view("/branches/" + name, {"table": only}), only, as_json)


@branch.command()
@click.argument("name")
@click.option(
    "--plan", "plan_only", is_flag=True, help="Say what would change and what stands in the way; change nothing."
)
@_reason
@json_option
@click.pass_context
def merge(ctx: click.Context, name: str, plan_only: bool, reason: str, as_json: bool) -> None:
    """Bring a branch to main.

    The workspace must hold the branch's definitions. They are derived on the events of now (what the branch has
    computed is cached), checked, and published together. What main changed since in the same place is refused before
    anything runs.
    """
    app: App = ctx.obj
    if plan_only:
        found = app.view("/branches/" + name)
        _differences(found, "", as_json)
        ctx.exit(1 if found["obstacle"] else 0)
    stop_in_order()
    with screen(app, as_json) as report:
        result = app.work().merge(name, reason, me(), report)
    finish(ctx, result, as_json, f"Merged {name} by run")


@branch.command()
@click.argument("commit")
@_reason
@json_option
@click.pass_obj
def revert(app: "App", commit: str, reason: str, as_json: bool) -> None:
    """Undo a commit of main by another one: its tables, models and definitions are again as before it."""
    made = app.work().revert(commit.removeprefix("@"), reason, me())
    if as_json:
        emit(made)
        return
    click.echo(
        f"Commit {made['id']} undoes {commit}."
        "\n  The workspace's files are as they were: put them back too (`git revert`), or the next run brings it again."
    )


@branch.command()
@click.argument("name")
@json_option
@click.pass_obj
def delete(app: "App", name: str, as_json: bool) -> None:
    """Take a branch's name away. Its commits stay reachable by id until they are cleaned up."""
    gone = app.work().delete_branch(name, me())
    if as_json:
        emit(gone)
        return
    click.echo(f"{name} is gone; it stood at {gone['head'] or 'nothing'}.")


def _differences(found: dict[str, Any], only: str, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    click.echo(found["sentence"])
    _section(
        "Definitions",
        ["name", "how", "where", "differs in"],
        (
            [d["name"], d["how"], d["where"] + (", a conflict" if d["conflict"] else ""), "; ".join(d["differs"])]
            for d in found["definitions"]
        ),
    )
    _section(
        "Contracts",
        ["field", "how", "on main", "on the branch", "what it reaches"],
        (
            [f"{c['type']}.{c['field']}", c["how"], c["main"], c["branch"], "; ".join(c["told"])]
            for c in found["contracts"]
        ),
    )
    tables = [t for t in found["tables"] if not only or t["name"] == only]
    _section(
        "Tables",
        ["table", "rows", "on main", "added", "removed", "changed", "columns"],
        (
            [t["name"], t["rows_after"], t["rows_before"], t["added"], t["removed"], t["changed"], columns(t)]
            for t in tables
        ),
    )
    _section(
        "Metrics",
        ["model", "metric", "on main", "on the branch", "difference"],
        ([m["model"], m["metric"], m["main"], m["branch"], m["difference"]] for m in found["metrics"]),
    )
    if only:
        for table in tables:
            samples(table)
    if found["obstacle"]:
        click.echo(f"\nIt cannot be merged now: {found['obstacle']}", err=True)


def _section(title: str, columns: list[str], rows: Iterable[list[Any]]) -> None:
    rows = list(rows)
    if rows:
        click.echo(f"\n{title}")
        show_table(columns, rows)


def columns(table: dict[str, Any]) -> str:
    """What became of a table's columns, in a few words."""
    said = [f"new {name}" for name, _ in table["new_columns"]] if table["how"] == "changed" else [table["how"]]
    if table["how"] == "changed":
        said += [f"{name} is gone" for name, _ in table["lost_columns"]]
        said += [f"{name} {old} → {new}" for name, old, new in table["retyped"]]
        said += [f"{one['name']} in {one['rows']:,} rows" for one in table["columns"]]
    return ", ".join(said)


def samples(table: dict[str, Any]) -> None:
    """A few rows of each kind."""
    for title, rows in (("Added", table["sample_added"]), ("Removed", table["sample_removed"])):
        if rows:
            click.echo(f"\n{title}, for instance")
            show_table(list(rows[0]), [list(row.values()) for row in rows])
    if table["sample_changed"]:
        click.echo("\nChanged, for instance")
        show_table(
            [*table["key"], "column", "on main", "on the branch"],
            [
                [*row["key"].values(), name, *values]
                for row in table["sample_changed"]
                for name, values in row["values"].items()
            ],
        )
