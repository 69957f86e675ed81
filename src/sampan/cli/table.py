"""``sampan table``: derived tables."""

from typing import TYPE_CHECKING

import click

from sampan.base.clock import iso
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
        empty="No table yet. `sampan run` builds what tables/*.sql and steps.py declare.",
    )


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
            [iso(s["created"])[:19], s["snapshot"][:13], s["rows"], s["run"], s["actor"], s["reason"]]
            for s in found["history"]
        ],
    )
