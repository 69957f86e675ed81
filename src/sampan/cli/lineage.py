"""``sampan lineage``: from an object back to the raw events."""

from typing import TYPE_CHECKING
from urllib.parse import quote

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

    OBJECT is a prediction's id, a version (MODEL@N), a table, a step or a run. For a prediction: rule, bundle and
    thresholds, version, run, code, the tables it was trained from, and the events they were derived from; then what
    was known of whom it is about. What was told once is not told again.
    """
    found = app.view(f"/lineage/{quote(object, safe='')}")
    if as_json:
        emit(found)
        return
    import msgspec

    from sampan.flow.lineage import Origin

    for line in msgspec.convert(found, Origin).lines():
        click.echo(line.rstrip())
