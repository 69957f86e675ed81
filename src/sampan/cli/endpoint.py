"""``sampan endpoint``: where predictions are asked for."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import iso
from sampan.base.errors import NotFound, Usage
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


def bundled(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say, beside the model, what a bundle is made of and whether it is tried."""
    for option in (
        click.option(
            "--without-golden", is_flag=True, help="Whatever its golden requests are answered; needs --reason."
        ),
        click.option("--set", "sets", multiple=True, metavar="THRESHOLD=VALUE", help="Change a threshold of the rule."),
        click.option(
            "--decision", default="", help="Which rule of decisions.py, where several are declared for the model."
        ),
    ):
        command = option(command)
    return command


@click.group()
def endpoint() -> None:
    """Where predictions are asked for: POST /predict/NAME."""


@endpoint.command()
@click.argument("name")
@click.option("--model", default="", metavar="MODEL[@N]", help="What to serve; the newest version of NAME otherwise.")
@bundled
@click.option("--reason", default="", help="Why; it stays in the endpoint's history.")
@json_option
@click.pass_obj
def deploy(
    app: "App",
    name: str,
    model: str,
    decision: str,
    sets: tuple[str, ...],
    without_golden: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Serve a version behind the workspace's rules.

    Model, rules and thresholds are switched as one, without a failed request; what was served before stays in the
    history, and `sampan rollback` goes back to it. First the process that will serve is asked the version's golden
    requests: if it answers one otherwise than in training, nothing is switched (exit code 1).
    """
    from sampan.cli.run import me

    thresholds = dict(threshold(text) for text in sets)
    made = app.work().deploy(name, model, decision, thresholds, reason, me(), without_golden)
    if as_json:
        emit(made)
        return
    rule = f" behind {made['decision']}" if made["decision"] else ""
    click.echo(f"{name} serves {made['version']}{rule}, bundle {made['bundle'][:12]}.")
    if made.get("golden"):
        click.echo(f"  {made['golden'][0].upper()}{made['golden'][1:]}.")
    if app.hub() is None:
        click.echo("  No hub is up; `sampan up` begins to answer.")


def threshold(text: str) -> tuple[str, object]:
    """Read ``--set``. Raises Usage."""
    import json

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Usage("Read --set", f"{text!r} is not THRESHOLD=VALUE", "For instance: --set likely=0.6")
    try:
        return name.strip(), json.loads(value)
    except ValueError:
        return name.strip(), value


@endpoint.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List endpoints with what they serve."""
    found = app.view("/endpoints", {"as-of": as_of}, live=True)
    if as_json:
        emit(found)
        return
    table(
        ["endpoint", "state", "version", "rule", "thresholds", "since", "by"],
        [
            [e["name"], e["state"], e["version"], e["decision"], e["thresholds"], iso(e["created"])[:19], e["actor"]]
            for e in found["endpoints"]
        ],
        empty="Nothing is served yet. `sampan endpoint deploy NAME --model MODEL` serves a version.",
    )


def _why(row: dict[str, str]) -> str:
    back = f"back from bundle {row['back_from'][:12]}" if row.get("back_from") else ""
    unasked = "golden requests were not asked"
    parts = (back, unasked if row.get("golden") == unasked else "", row["reason"])
    return ": ".join(part for part in parts if part)


@endpoint.command()
@click.argument("name")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", name: str, as_of: str, as_json: bool) -> None:
    """Show one endpoint: rule, thresholds, values, history."""
    all_of_them = app.view("/endpoints", {"as-of": as_of}, live=True)["endpoints"]
    found = next((one for one in all_of_them if one["name"] == name), None)
    if found is None:
        known = ", ".join(one["name"] for one in all_of_them) or "none yet"
        raise NotFound(f"Show the endpoint {name!r}", "there is none of that name", f"Endpoints: {known}.")
    if as_json:
        emit(found)
        return
    names = ("name", "state", "version", "bundle", "decision", "entity", "thresholds", "currency", "values", "reason")
    fields((key, found[key]) for key in names)
    click.echo()
    table(
        ["since", "version", "bundle", "by", "reason"],
        [
            [iso(h["created"])[:19], h["spec"]["version"], h["bundle"][:12], h["actor"], _why(h)]
            for h in found["history"]
        ],
    )
