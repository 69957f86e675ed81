"""``sampan contract``: the shapes that events must have."""

from typing import TYPE_CHECKING

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
        ["type", "version", "fields", "description"],
        [
            [c["type"], c["version"], len(c["fields"]), c["description"].splitlines()[0] if c["description"] else ""]
            for c in found["contracts"]
        ],
    )


@contract.command()
@click.argument("type")
@json_option
@click.pass_obj
def show(app: "App", type: str, as_json: bool) -> None:
    """Show the fields of one kind of event."""
    found = app.view("/contracts", {"type": type})["contracts"][0]
    if as_json:
        emit(found)
        return
    click.echo(f"{found['type']}, version {found['version']}. {found['description']}\n")
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
