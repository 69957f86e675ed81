"""``sampan up``: the hub."""

from typing import TYPE_CHECKING

import click

from sampan.cli.output import emit

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.option("--host", help="Address to listen on; the setting `host` (127.0.0.1) otherwise.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; the setting `port` (7267) otherwise. 0: a free one.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON once it answers.")
@click.pass_obj
def up(app: "App", host: str | None, port: int | None, as_json: bool) -> None:
    """Start the hub of this workspace.

    It takes events, runs the flow, serves predictions and shows pages, until Ctrl+C or SIGTERM. It listens on this
    machine only, unless told otherwise, and answers only to those who have a token or have opened a sign-in link.

    Exits with 2 if other machines could reach it and nobody has said who may, with 3 if the port is taken or another
    process writes this workspace.
    """
    host = host or str(app.settings.get("host"))
    port = int(app.settings.get("port")) if port is None else port
    token_file = app.folder.data / "token"

    def started(url: str, link: str) -> None:
        if as_json:
            emit({"url": url, "token_file": str(token_file), "link": link})
            return
        click.echo(f"Sampan is up at {url}")
        click.echo(f"  sign in    {link}  (works once)")
        click.echo(f"  token      {token_file}")
        click.echo("  stop       Ctrl+C")

    app.up(host, port, started)
    if not as_json:
        click.echo("Sampan is down; everything it said yes to is on disk.")
