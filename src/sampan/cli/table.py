"""``sampan table``: derived tables."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import iso, stamp
from sampan.base.errors import No, Usage
from sampan.cli.output import as_of_option, emit, fields, json_option
from sampan.cli.output import table as show_table

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def table() -> None:
    """Derived tables and their snapshots."""


@table.command("list")
@click.option("--ref", default="main", show_default=True, help="A branch, or @COMMIT.")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", ref: str, as_of: str, as_json: bool) -> None:
    """List the tables of a branch or commit."""
    found = app.view("/tables", {"ref": ref, "as-of": as_of})
    if as_json:
        emit(found)
        return
    show_table(
        ["table", "rows", "columns", "bytes", "snapshot", "run"],
        [[t["name"], t["rows"], t["columns"], t["bytes"], t["snapshot"][:13], t["run"]] for t in found["tables"]],
        empty="None of its tables is left."
        if found["gone"]
        else "No table yet. `sampan run` builds what tables/*.sql and steps.py declare.",
    )
    if found["gone"]:
        click.echo(f"\nRemoved by `sampan gc`, since nothing kept them: {', '.join(found['gone'])}.")


@table.command()
@click.argument("name")
@click.option("--ref", default="main", show_default=True, help="A branch, or @COMMIT.")
@click.option("--snapshot", default="", help="The state with this digest.")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", name: str, ref: str, snapshot: str, as_of: str, as_json: bool) -> None:
    """Show one table: columns, first rows, history."""
    found = app.view(f"/tables/{name}", {"ref": ref, "snapshot": snapshot, "as-of": as_of})
    if as_json:
        emit(found)
        return
    if found["gone"]:
        when = stamp(found["created"])
        click.echo(
            f"{name} as run {found['run']} of {when} made it has gone: nothing kept it when `sampan gc` cleaned up.\n"
            "  sampan run builds what its code gives now."
        )
        return
    fields(
        [
            ("table", found["name"]),
            ("rows", found["rows"]),
            ("bytes", found["bytes"]),
            ("snapshot", found["snapshot"]),
            ("run", found["run"]),
            ("made", iso(found["created"])),
            *(("flag", flag) for flag in found["flags"]),
        ]
    )
    click.echo()
    show_table(["column", "type"], [[c["name"], c["type"]] for c in found["columns"]])
    click.echo()
    show_table([c["name"] for c in found["columns"]], found["sample"][:10], empty="It has no rows.")
    click.echo()
    show_table(
        ["since", "snapshot", "rows", "run", "by", "reason"],
        [
            [stamp(s["created"]), s["snapshot"][:13], s["rows"], s["run"], s["actor"], s["reason"]]
            for s in found["history"]
        ],
    )


_to = click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder in which the table's own folder lies; without: .sampan/iceberg.",
)


@table.command()
@click.argument("name", required=False, default="")
@click.option("--all", "everything", is_flag=True, help="Publish each table there is.")
@click.option("--ref", default="main", show_default=True, help="A branch, or @COMMIT.")
@_to
@json_option
@click.pass_obj
def publish(app: "App", name: str, everything: bool, ref: str, to: Path | None, as_json: bool) -> None:
    """Publish a table as Apache Iceberg, over the files that it has anyway.

    Other engines read it: PyIceberg, DuckDB, Spark. Published again after a run it has one snapshot more; the same
    content again changes nothing. `sampan gc` keeps what is published. Exits with 1 if --all had to leave one out.
    """
    _here(app, "Publish tables")
    if bool(name) == everything:
        raise Usage("Publish tables", "name one table, or say --all", "`sampan table list` shows them.")
    made: list[dict[str, Any]] = []

    def told(one: dict[str, Any]) -> None:
        made.append(one)
        if not as_json:
            _tell(one)

    left_out = app.publish_tables([name] if name else [], ref, to, told)
    if as_json:
        emit({"tables": made, "left_out": left_out})
    elif not made and not left_out:
        click.echo("No table yet. `sampan run` builds what tables/*.sql and steps.py declare.")
    for why in left_out:
        click.echo(why, err=True)
    if left_out:
        raise click.exceptions.Exit(No.exit_code)


def _tell(one: dict[str, Any]) -> None:
    count = f"{one['snapshots']} snapshot{'s' if one['snapshots'] != 1 else ''}"
    how = "now has" if one["changed"] else "was published already, with"
    rows = f"{one['rows']:,} row{'s' if one['rows'] != 1 else ''}"
    click.echo(f"{one['table']}: {rows}; it {how} {count}.\n  {one['metadata']}")
    if one["copied"] and one["changed"]:
        click.echo(f"  A Parquet copy was written: {one['copied']}.")
    if one["left"]:
        click.echo(f"  {one['left']} older left its history: a name means another column now, or [retention] says so.")


@table.command()
@click.argument("name")
@_to
@json_option
@click.pass_obj
def unpublish(app: "App", name: str, to: Path | None, as_json: bool) -> None:
    """Remove what `sampan table publish` wrote for a table; the table itself stays."""
    _here(app, f"Unpublish {name}")
    gone = app.unpublish_table(name, to)
    if as_json:
        emit({"folders": gone})
        return
    for folder in gone:
        rest = Path(folder).exists()
        click.echo(f"{folder} is gone." if not rest else f"{folder} stays, with files that Sampan did not write.")


@table.command()
@json_option
@click.pass_obj
def published(app: "App", as_json: bool) -> None:
    """List the tables that are published, and where."""
    _here(app, "List what is published")
    found = app.publications()
    if as_json:
        emit({"tables": found})
        return
    show_table(
        ["table", "branch", "contents", "folder"],
        [[one["table"], one["branch"], len(one["snapshots"]), one["folder"]] for one in found],
        empty="Nothing is published. `sampan table publish NAME` makes a table readable for other engines.",
    )


def _here(app: "App", attempted: str) -> None:
    if app.remote:
        raise Usage(attempted, "the files lie with the hub of SAMPAN_URL", "Run this in the workspace itself.")
