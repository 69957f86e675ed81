"""``sampan lineage``: from an object back to the raw events."""

from typing import TYPE_CHECKING, Any

import click

from sampan.cli.output import emit, json_option

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("object")
@json_option
@click.pass_obj
def lineage(app: "App", object: str, as_json: bool) -> None:
    """Walk from an object back to the raw events.

    OBJECT is a prediction's id, a version (MODEL@N), a run or a table. For a prediction: rule, bundle, version, run,
    code, the tables it was trained from, and the events they were derived from.
    """
    found = app.view(f"/lineage/{object}")
    if as_json:
        emit(found)
        return
    for level, line in enumerate(found["chain"]):
        _show(level, line)


def _show(level: int, line: dict[str, Any]) -> None:
    click.echo(f"{'  ' * level}{'└ ' if level else ''}{line['kind']} {line['name']}")
    for fact in line["facts"]:
        click.echo(f"{'  ' * level}    {fact}")
