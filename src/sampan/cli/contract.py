"""``sampan contract``: the shapes that events must have."""

from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from sampan.cli.output import emit, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def contract() -> None:
    """The shapes that events must have."""


@contract.command("list")
@json_option
@click.pass_obj
def list_(app: "App", as_json: bool) -> None:
    """List the kinds of event."""
    if not app.remote:
        app.contracts.check(app.db)
    found = app.view("/contracts")
    if as_json:
        emit(found)
        return
    table(
        ["type", "version", "owner", "fields", "accepted", "quarantined", "description"],
        [
            [
                c["type"],
                c["version"],
                c["owner"],
                len(c["fields"]),
                c["accepted"],
                c["quarantined"],
                c["description"].splitlines()[0] if c["description"] else "",
            ]
            for c in found["contracts"]
        ],
    )


@contract.command()
@click.argument("type")
@click.option("--version", type=int, help="Of an older version; the one in force otherwise.")
@json_option
@click.pass_obj
def show(app: "App", type: str, version: int | None, as_json: bool) -> None:
    """Show one kind of event: its fields, who sends it, what is made of it."""
    found = app.view(f"/contracts/{quote(type, safe='')}", {"version": version} if version is not None else {})
    if as_json:
        emit(found)
        return
    owner = f" {found['owner']} answers for it." if found["owner"] else ""
    click.echo(f"{found['type']}, version {found['version']}.{owner} {found['description']}\n")
    table(
        ["field", "type", "required", "unit", "bounds", "meaning"],
        [
            [
                f["name"],
                f["type"],
                f["required"],
                f["unit"],
                ", ".join(f"{k} {v}" for k, v in f["bounds"].items()),
                ("personal; " if f["personal"] else "") + (f["description"] or ""),
            ]
            for f in found["fields"]
        ],
    )
    if found["producers"]:
        click.echo(f"\nWho sent it in the last {found['days']} days:")
        table(
            ["producer", "source", "accepted", "quarantined"],
            [[p["producer"], p["source"], p["accepted"], p["quarantined"]] for p in found["producers"]],
        )
    if found["dependants"]:
        click.echo("\nWhat is made of it:")
        table(["name", "kind", "via"], [[d["name"], d["kind"], ", ".join(d["via"])] for d in found["dependants"]])
