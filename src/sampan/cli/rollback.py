"""``sampan rollback``: what was in force before, in force again."""

from typing import TYPE_CHECKING

import click

from sampan.cli.output import emit, json_option

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@click.argument("endpoint")
@click.option("--to", default="", metavar="TIME|BUNDLE", help="What was in force then, or the bundle that begins so.")
@click.option("--reason", default="", help="Why; it stays in the endpoint's history.")
@json_option
@click.pass_obj
def rollback(app: "App", endpoint: str, to: str, reason: str, as_json: bool) -> None:
    """Put what an endpoint served before in force again, whole.

    Model, rules and thresholds go back together, without a failed request. Without --to it goes back to what was in
    force before; once more, and it goes further back. The last bundle stays loaded for a while (the settings warm_for
    and warm_bundles), so that this takes no time. Aliases stay where they are: `sampan promote` moves them. What has
    been in force needs no approval to be so again.
    """
    from sampan.cli.run import me

    made = app.work().rollback(endpoint, to, reason, me())
    if as_json:
        emit(made)
        return
    bundle = made["bundle"][:12]
    if not made["changed"]:
        click.echo(f"{endpoint} serves {made['version']}, bundle {bundle}, already.")
        return
    rule = f" behind {made['decision']}" if made["decision"] else ""
    click.echo(f"{endpoint} serves {made['version']}{rule} again, bundle {bundle}, instead of {_left(made)}.")
    if warning := made.get("warning"):
        click.echo(f"  Beware: {warning}.", err=True)
    if app.hub() is None:
        click.echo("  No hub is up; `sampan up` begins to answer.")
    else:
        how = "it was still loaded" if made["warm"] else "it was loaded anew"
        click.echo(f"  {made['seconds']:.2f} s: {how}.")


def _left(made: dict[str, str]) -> str:
    return f"{made['from_version']}, bundle {made['back_from'][:12]}"
