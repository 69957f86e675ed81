"""``sampan token``: who may ask the hub."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.cli.output import as_of_option, emit, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def token() -> None:
    """Who may ask the hub: tokens and sign-in links.

    A token's role says what it may do: producer (send events), caller (ask for predictions), viewer (look), reviewer
    (look, answer cases that rules send to people), approver (that, propose thresholds, say yes or no), trainer
    (look, log runs), editor (look, send, ask, log, run), operator (deploy as well), admin (everything).
    """


@token.command()
@click.argument("name")
@click.option("--role", default="editor", show_default=True, help="What it may do.")
@click.option("--days", default=90, show_default=True, help="How long it lives, at most 365.")
@json_option
@click.pass_obj
def create(app: "App", name: str, role: str, days: int, as_json: bool) -> None:
    """Make a token. Its secret is shown once and kept nowhere."""
    if hub := app.hub():
        made = hub.post("/v1/tokens", {"name": name, "role": role, "days": days})
    else:
        import msgspec

        from sampan.base.clock import SystemClock
        from sampan.team.tokens import Tokens

        with app.writing("Create a token"):
            fresh, secret = Tokens(app.db, SystemClock()).create(name, role, days)
        made = {"token": msgspec.to_builtins(fresh), "secret": secret}
    if as_json:
        emit(made)
        return
    click.echo(made["secret"])
    click.echo(f"This is the only time it is shown. {role}, until {iso(made['token']['expires'])[:10]}.", err=True)


@token.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List tokens, without their secrets."""
    import msgspec

    from sampan.base.clock import SystemClock
    from sampan.team.tokens import Token

    found: dict[str, Any] = app.work().tokens(as_of)
    if as_json:
        emit(found)
        return
    at = found["as_of"] or SystemClock().micros()
    table(
        ["name", "role", "state", "expires"],
        [
            [
                one["name"],
                one["role"],
                msgspec.convert(one, Token).state(at),
                iso(one["expires"])[:10],
            ]
            for one in found["tokens"]
        ],
        empty="No tokens besides the workspace's own. Make one: sampan token create NAME --role producer",
    )


@token.command()
@click.argument("name")
@click.pass_obj
def revoke(app: "App", name: str) -> None:
    """Take a token back, by name or id. It and its sessions end at once."""
    if hub := app.hub():
        from urllib.parse import quote

        hub.delete(f"/v1/tokens/{quote(name, safe='')}")
    else:
        from sampan.base.clock import SystemClock
        from sampan.team.tokens import Tokens

        with app.writing("Revoke a token"):
            Tokens(app.db, SystemClock()).revoke(name)
    click.echo(f"Revoked {name}.")


@token.command()
@click.pass_obj
def link(app: "App") -> None:
    """Make a link that signs a browser in once."""
    hub = app.hub()
    if hub is None:
        raise NotFound("Make a sign-in link", "no hub is up", "`sampan up` starts one and prints a link.")
    click.echo(hub.post("/v1/links", {})["link"])
