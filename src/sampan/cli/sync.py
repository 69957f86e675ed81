"""``sampan sync``: what was logged without a hub."""

from typing import TYPE_CHECKING

import click

from sampan.cli.output import emit, json_option

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@json_option
@click.pass_obj
def sync(app: "App", as_json: bool) -> None:
    """Take what sampan.log has logged while no hub was up.

    It waits in this workspace. A hub takes it while it is up, and so does every `sampan run`; this does it now. With
    SAMPAN_URL, what was logged for that hub and has not arrived is sent to it. Taken twice, it is there once.
    """
    found = app.send_logged() if app.remote else app.sync()
    if as_json:
        emit(found)
        return
    click.echo(f"{found['taken']} {'run' if found['taken'] == 1 else 'runs'} taken, {found['waiting']} going on.")
