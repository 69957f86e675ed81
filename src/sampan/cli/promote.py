"""``sampan promote`` and ``sampan approve``: how a version gets an alias that a policy guards."""

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from sampan.base.clock import stamp
from sampan.base.errors import No, Refused, Usage
from sampan.base.ids import whole
from sampan.cli.model import named
from sampan.cli.output import emit, json_option, table
from sampan.cli.run import me

if TYPE_CHECKING:
    from sampan.app import App

_TO: Final = click.option("--to", "alias", default="", metavar="ALIAS", help="The alias; else the one that is guarded.")
_REASON: Final = click.option("--reason", default="", help="Why; it stays in the model's history.")


@click.command()
@click.argument("ref")
@_TO
@_REASON
@click.option("--check", is_flag=True, help="Only say what there is and what is missing; exits with 1 if something is.")
@json_option
@click.pass_context
def promote(ctx: click.Context, ref: str, alias: str, reason: str, check: bool, as_json: bool) -> None:
    """Have an alias name a version, if all is there that the policy asks for.

    policy.toml says who has to approve and what evidence there must be. What is missing is listed, and nothing changes:
    exits with 1. The attempt stays in the model's history.
    """
    app: App = ctx.obj
    found = _look(app, "Promote", ref, alias)
    if check:
        _answer(found, as_json)
        ctx.exit(No.exit_code if found["missing"] else 0)
    model, _, number = found["ref"].partition("@")
    try:
        made = app.work().move_alias(model, found["alias"], number, reason, found["token"], me())
    except Refused:
        _answer(_look(app, "Promote", found["ref"], found["alias"]), as_json)
        ctx.exit(No.exit_code)
    if as_json:
        emit(made)
        return
    before = f", instead of {found['current']}" if found["current"] not in ("", found["ref"]) else ""
    click.echo(f"{model}@{found['alias']} is {model}@{made['number']}{before}.")


@click.command()
@click.argument("ref")
@_TO
@click.option("--reason", default="", help="Why; to reject, one is needed.")
@click.option("--reject", is_flag=True, help="Say no: the version is not promoted while that stands.")
@click.option("--withdraw", is_flag=True, help="Take back what you said.")
@json_option
@click.pass_obj
def approve(app: "App", ref: str, alias: str, reason: str, reject: bool, withdraw: bool, as_json: bool) -> None:
    """Say yes or no to a version: MODEL@N.

    An approval counts as long as the data that the version was made from, and its tests, are those of now. Who asks the
    hub is known by his token; without a hub, by his name on this machine.
    """
    if reject and withdraw:
        raise Usage(f"Decide about {ref}", "--reject and --withdraw were both given", "Choose one.")
    found = _look(app, "Decide about", ref, alias)
    verdict = "rejected" if reject else "withdrawn" if withdraw else "approved"
    _answer(app.work().approve(found["ref"], found["alias"], verdict, reason, me()), as_json)


def _look(app: "App", attempted: str, ref: str, alias: str) -> dict[str, Any]:
    """Where a version stands."""
    model, _, number = ref.partition("@")
    if not number:
        raise Usage(f"{attempted} {ref}", "it names no version", f"Write {model}@NUMBER.")
    if whole(number) is None:
        number = str(named(app, model, number))
    path = f"/models/{quote(model, safe='')}/{quote(number, safe='')}/promote"
    found: dict[str, Any] = app.view(path, {"to": alias})
    return found


def _answer(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    ref, alias = found["ref"], found["alias"]
    if found["demand"] is None:
        click.echo(f"No policy guards {alias}: `sampan promote {ref} --to {alias}` moves it.")
    elif found["current"] == ref:
        click.echo(f"{alias} names {ref}.")
    elif found["missing"]:
        click.echo(f"{ref} cannot be named {alias} yet. Missing:")
        for line in found["missing"]:
            click.echo(f"  {line}")
    else:
        why = f"{alias} has named it before" if found["again"] else "all is there"
        click.echo(f"{ref} may be named {alias}: {why}.")
    rows = [[one["kind"], "there" if one["good"] else "missing", one["says"], ""] for one in found["proofs"]]
    rows += [
        [
            f"{one['actor']} ({', '.join(one['groups'])})" if one["groups"] else one["actor"],
            "void" if one["void"] else one["verdict"],
            one["void"] or one["reason"],
            stamp(one["at"]),
        ]
        for one in found["voices"]
    ]
    if rows:
        click.echo()
        table(["evidence", "state", "what", "when"], rows)
