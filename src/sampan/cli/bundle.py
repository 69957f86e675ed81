"""``sampan bundle``: what an endpoint serves, taken elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sampan.base.errors import Usage
from sampan.cli.output import emit, json_option

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def bundle() -> None:
    """What an endpoint serves, taken elsewhere."""


@bundle.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("endpoint", default="")
@json_option
@click.pass_obj
def export(app: "App", folder: Path, endpoint: str, as_json: bool) -> None:
    """Write the context of a container into DIR: model, rules, lock, server.

    DIR gets what ENDPOINT has in force, a Dockerfile, and a server that answers GET /ping and POST /invocations on port
    8080, as managed platforms ask, with the answers of the endpoint. It needs neither the workspace nor a hub; nothing
    is recorded there. The bundle is opened from DIR once, which is how the list of its packages is found.
    """
    if app.remote:
        raise Usage("Export a bundle", "SAMPAN_URL names a hub elsewhere", "Run it where the workspace lies.")
    made = app.export_bundle(folder, endpoint)
    if as_json:
        emit(made)
        return
    click.echo(
        f"{made['folder']} holds {made['version']}, bundle {made['bundle'][:12]}, as {made['endpoint']} serves it."
    )
    click.echo(f"  Python {made['python']}, {len(made['packages'])} packages in requirements.lock.")
    for line in made["left_out"]:
        click.echo(f"  To be added by hand: {line}.")
    click.echo(f"\n  docker build -t {made['endpoint'].lower()} {made['folder']}")
