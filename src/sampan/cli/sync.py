"""``sampan sync``: what was logged without a hub."""

from typing import TYPE_CHECKING

import click

from sampan.base.errors import Usage
from sampan.cli.output import emit, json_option

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@json_option
@click.pass_obj
def sync(app: "App", as_json: bool) -> None:
    """Take what sampan.log has logged while no hub was up.

    It waits in this workspace. A hub takes it while it is up, and so does every `sampan run`; this does it now. Taken
    twice, it is there once.
    """
    if app.remote:
        raise Usage(
            "Take what was logged",
            f"SAMPAN_URL is {app.settings.get('url')!r}, and what was logged waits in a folder here",
            "Unset it, and go into the workspace.",
        )
    found = app.sync()
    if as_json:
        emit(found)
        return
    click.echo(f"{found['taken']} {'run' if found['taken'] == 1 else 'runs'} taken, {found['waiting']} going on.")
