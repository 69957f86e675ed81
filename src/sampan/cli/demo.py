"""``sampan demo``: the whole loop on a year of real orders."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.option("--once", is_flag=True, help="End when the story is told, instead of keeping the hub up.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as one line of JSON; all else to standard error."
)
@click.option("--workspace", type=click.Path(path_type=Path), metavar="DIR", help="Make the workspace here.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the hub listens on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Its port; 0 takes a free one."
)
@click.pass_obj
def demo(app: "App", once: bool, as_json: bool, workspace: Path | None, host: str, port: int) -> None:
    """Show the whole loop on a year of real orders.

    Makes a workspace, sends 541,909 order lines of a gift shop through its hub, trains, serves a decision for every
    order, and shows per month how good the decisions were. Takes about two minutes; needs no network.
    """
    app.demo(once=once, as_json=as_json, workspace=workspace, host=host, port=port)
